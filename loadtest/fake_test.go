package loadtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"devlxd/loadtest/target"
)

// fault is what a fake server does wrong.
type fault string

const (
	faultNone    fault = ""
	faultOther   fault = "another container's value"
	faultLonger  fault = "a longer value"
	faultStatus  fault = "status 500"
	faultClose   fault = "closes"
	faultSilent  fault = "no answer"
	faultGarbage fault = "no HTTP"
	faultTwice   fault = "two answers"
	faultAccept  fault = "wrong accept"
	faultDrop    fault = "drops an event"
	faultSwap    fault = "swaps events"
	faultDouble  fault = "doubles an event"
	faultOverrun fault = "says that it lost events"
	faultCount   fault = "counts too little"
	faultMixUp   fault = "takes a container for another now and then"
	faultForget  fault = "refuses a container that it knows now and then"
	faultHangUp  fault = "hangs up on a container that it knows now and then"
	faultLost    fault = "status 404"
)

// fake is a server of the guest API that can be made to fail: each fault must be found.
type fake struct {
	t      *testing.T
	ln     net.Listener
	fault  fault
	values map[int]string // by pid of the container's init
	homes  map[string]home

	mu     sync.Mutex
	pids   map[string]int
	subs   map[int][]net.Conn
	served int
	held   []byte // an event that is sent after the next one
	wg     sync.WaitGroup
}

// home is a container as its processes are known by: its pid namespace. The file keeps the number of that from being given to another.
type home struct {
	ns    *os.File
	inode uint64
	value string
}

// guestDir makes a directory that guests can enter. It is removed with the test.
func guestDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dxf-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func newFake(t *testing.T, f fault) *fake {
	dir := guestDir(t)
	s := &fake{t: t, fault: f, values: make(map[int]string), pids: make(map[string]int), homes: make(map[string]home), subs: make(map[int][]net.Conn)}
	var err error
	if s.ln, err = net.Listen("unix", filepath.Join(dir, "sock")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.Socket(), 0o666); err != nil {
		t.Fatal(err)
	}
	s.wg.Go(func() {
		for {
			c, err := s.ln.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { s.serve(c.(*net.UnixConn)) })
		}
	})
	t.Cleanup(func() {
		_ = s.ln.Close()
		s.wg.Wait()
		for _, h := range s.homes {
			_ = h.ns.Close()
		}
	})
	return s
}

func peerCred(c *net.UnixConn) (cred *unix.Ucred, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	controlErr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return cred, errors.Join(err, controlErr)
}

func (s *fake) serve(c *net.UnixConn) {
	defer c.Close()
	cred, err := peerCred(c)
	if err != nil {
		return
	}
	pid := int(cred.Pid)
	r := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.served++
		value, known := s.values[pid]
		if !known {
			value, known = s.valueAt(pid)
		}
		nth := s.served % 50
		s.mu.Unlock()
		if !known {
			_, _ = fmt.Fprint(c, "HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\nno")
			continue
		}
		switch {
		case nth != 0:
		case s.fault == faultMixUp:
			value = strings.Repeat("other...", 4)
		case s.fault == faultForget:
			_, _ = fmt.Fprint(c, "HTTP/1.1 403 X\r\nContent-Length: 2\r\n\r\nno")
			continue
		case s.fault == faultHangUp:
			return
		}
		if req.Header.Get("Upgrade") != "" {
			s.upgrade(c, pid)
			continue
		}
		if !s.answer(c, value) {
			return
		}
	}
}

func (s *fake) answer(c net.Conn, value string) bool {
	status, text := 200, value
	switch s.fault {
	case faultOther:
		text = "___"
	case faultLonger:
		text += "!"
	case faultStatus:
		status = 500
	case faultLost:
		status = 404
	case faultClose:
		return false
	case faultSilent:
		return true
	case faultGarbage:
		_, _ = fmt.Fprint(c, "220 mail ready\r\n\r\n")
		return true
	}
	for range map[bool]int{false: 1, true: 2}[s.fault == faultTwice] {
		_, _ = fmt.Fprintf(c, "HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s", status, len(text), text)
	}
	return true
}

func (s *fake) upgrade(c net.Conn, pid int) {
	accept := string(acceptField)
	if s.fault == faultAccept {
		accept = "AAAAAAAAAAAAAAAAAAAAAAAAAAA="
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs[pid] = append(s.subs[pid], c)
	_, _ = fmt.Fprintf(c, "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept)
}

// Set sends an event, with the fault at every third one.
func (s *fake) Set(_ context.Context, container, key, value string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h, ok := s.homes[container]; ok && key == target.Key {
		h.value = value
		s.homes[container] = h
		delete(s.values, s.pids[container])
	}
	event := ws.MustCompileFrame(ws.NewTextFrame(fmt.Appendf(nil, `{"metadata":{"key":%q,"old_value":"","value":%q}}`, key, value)))
	send := [][]byte{event}
	if third := strings.HasSuffix(value, "3"); third {
		switch s.fault {
		case faultDrop:
			send = nil
		case faultDouble:
			send = [][]byte{event, event}
		case faultOverrun:
			send = [][]byte{ws.MustCompileFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(1013, "events lost")))}
		case faultSwap:
			send, s.held = nil, event
		}
	} else if s.held != nil {
		send, s.held = append(send, s.held), nil
	}
	for _, c := range s.subs[s.pids[container]] {
		for _, b := range send {
			_, _ = c.Write(b)
		}
	}
	return nil
}

func (s *fake) Name() string   { return "fake" }
func (s *fake) Socket() string { return s.ln.Addr().String() }
func (s *fake) PID() int       { return os.Getpid() }

func (s *fake) Features() target.Feature { return target.Identity | target.Events | target.Lifecycle }

func (s *fake) Register(_ context.Context, containers []target.Container, _ func(int)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range containers {
		s.values[c.PID] = c.Config[target.Key]
		s.pids[c.Name] = c.PID
		if err := s.settle(c.Name, c.PID, c.Config[target.Key]); err != nil {
			return err
		}
	}
	return nil
}

// settle makes a container known by its pid namespace too. The caller holds mu.
func (s *fake) settle(name string, pid int, value string) error {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(ns.Fd()), &st); err != nil {
		return err
	}
	if old, ok := s.homes[name]; ok {
		_ = old.ns.Close()
	}
	s.homes[name] = home{ns, st.Ino, value}
	return nil
}

// valueAt is that of the container whose pid namespace a process is in. The caller holds mu.
func (s *fake) valueAt(pid int) (string, bool) {
	var st unix.Stat_t
	if unix.Stat(fmt.Sprintf("/proc/%d/ns/pid", pid), &st) != nil {
		return "", false
	}
	for _, h := range s.homes {
		if h.inode == st.Ino {
			return h.value, true
		}
	}
	return "", false
}

func (s *fake) Remove(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h, ok := s.homes[name]; ok {
		_ = h.ns.Close()
	}
	delete(s.values, s.pids[name])
	delete(s.homes, name)
	delete(s.pids, name)
	return nil
}

func (s *fake) Bind(_ context.Context, name string, pid int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	value := s.homes[name].value
	delete(s.values, s.pids[name])
	s.pids[name], s.values[pid] = pid, value
	return s.settle(name, pid, value)
}

func (s *fake) Image(context.Context, string) (string, error) { return "", target.ErrUnsupported }
func (s *fake) Restart(context.Context) error                 { return target.ErrUnsupported }
func (s *fake) Close() error                                  { return nil }
func (s *fake) Counters(context.Context) (map[string]float64, error) {
	if s.fault != faultCount {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return map[string]float64{"devlxd_requests_total": float64(s.served / 2)}, nil
}

var _ target.Remover = (*fake)(nil)
