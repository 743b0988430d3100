package server

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What the two containers of an arena must not know of each other. All their values, small, large and those of events, are made of it.
const secretOfA, secretOfB = "<secret of a>", "<secret of b>"

// arena is a server with two containers: a does whatever a script says, b must not notice.
type arena struct {
	*rig
	events  int
	conns   []*hostile // of a; at most four
	current *hostile
	b       *client
}

func newArena(tb testing.TB) *arena {
	a := &arena{rig: newRig(tb, Options{Loops: 2})}
	for name, secret := range map[string]string{"a": secretOfA, "b": secretOfB} {
		a.container(name, map[string]string{
			"user.secret": secret, "user.big": strings.Repeat(secret, 64<<10/len(secret)), "cloud-init.user-data": secret,
		})
	}
	return a
}

// scriptRequests are what a script can send as a whole or in part.
var scriptRequests = []string{
	getKey("user.secret"), getKey("user.big"), getKey("user.nothing"),
	"GET /1.0/config HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /1.0/meta-data HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
	"HEAD /1.0/config/user.big HTTP/1.1\r\nHost: a\r\n\r\n",
	patch(`{"state":"Ready"}`), patch(`{"state":"Started"}`, "Expect: 100-continue"),
	"POST /1.0 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	"GET /1.0/events HTTP/1.1\r\nHost: a\r\n\r\n",
	upgradeRequest("/1.0/events?type=config"), upgradeRequest("/1.0/events?position=true"),
	"GET /1.0/devices HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
	"GET /1.0/config/user.secret HTTP/1.1\r\nHost: b\r\nX-Container: b\r\n\r\n",
}

// The instructions of a script: one byte each, arguments behind it.
const (
	opBytes      = iota // N, N bytes: send them
	opRequest           // I: send a request
	opPart              // I, N: send the first N bytes of a request
	opRepeat            // I, N: send a request up to 8 times
	opFrame             // B, N, N bytes: send a masked websocket frame whose first byte is B
	opHalfClose         // shut down the sending side
	opDeaf              // shut down the receiving side
	opReset             // close with everything unread, and connect anew
	opRead              // read what there is
	opNext              // go on with another connection
	opEventOfA          // a value of a changes
	opEventOfB          // a value of b changes
	opAccess            // access is taken from a, and given back
	opAskAsB            // b asks on its kept connection
	opConnectAsB        // b asks on a new connection
	opTurn              // wait until both loops had a turn
	numOps
)

// maxOps bounds what one script can cost.
const maxOps = 64

// scriptReader reads a script; it never fails, since at its end everything is zero.
type scriptReader struct{ rest []byte }

func (s *scriptReader) byte() int {
	if len(s.rest) == 0 {
		return 0
	}
	b := s.rest[0]
	s.rest = s.rest[1:]
	return int(b)
}

func (s *scriptReader) bytes() []byte {
	n := min(s.byte(), len(s.rest))
	b := s.rest[:n]
	s.rest = s.rest[n:]
	return b
}

func (s *scriptReader) request() string { return scriptRequests[s.byte()%len(scriptRequests)] }

// run plays one script, and then checks that nothing of it is left.
func (a *arena) run(t *testing.T, script []byte) {
	a.t = t
	before := openFiles(t)
	a.b = a.dial("b")
	a.conns, a.current = nil, nil
	a.next()
	s := scriptReader{script}
	for n := 0; n < maxOps && len(s.rest) > 0; n++ {
		a.step(&s)
	}
	a.askAsB(a.b)
	for _, h := range a.conns {
		h.finish()
	}
	_ = a.b.Close()
	eventually(t, "no connection left", func() bool { return a.srv.Connections() == 0 && a.srv.Subscribers() == 0 })
	eventually(t, "no descriptor left", func() bool { return openFiles(t) <= before })
	for _, line := range a.log.errors() {
		t.Errorf("the server logged: %s", line)
	}
}

func (a *arena) step(s *scriptReader) {
	a.t.Helper()
	h := a.current
	switch op := s.byte() % numOps; op {
	case opBytes:
		h.send(s.bytes())
	case opRequest:
		h.send([]byte(s.request()))
	case opPart:
		request := s.request()
		h.send([]byte(request[:s.byte()%len(request)]))
	case opRepeat:
		request := s.request()
		h.send(bytes.Repeat([]byte(request), 1+s.byte()%8))
	case opFrame:
		first, payload := byte(s.byte()), string(s.bytes())
		frame := []byte(masked(true, first&0xf, payload))
		frame[0] = first
		h.send(frame)
	case opHalfClose:
		_ = unix.Shutdown(h.fd, unix.SHUT_WR)
	case opDeaf:
		h.deaf = unix.Shutdown(h.fd, unix.SHUT_RD) == nil || h.deaf
	case opReset:
		h.close()
		*h = *a.connect()
	case opRead:
		h.read()
	case opNext:
		a.next()
	default:
		a.stepOfOthers(op)
	}
}

// stepOfOthers is what happens around the connection.
func (a *arena) stepOfOthers(op int) {
	a.t.Helper()
	switch op {
	case opEventOfA, opEventOfB:
		a.events++
		if op == opEventOfA {
			a.set("a", "user.event", fmt.Sprint(secretOfA, a.events))
		} else {
			a.set("b", "user.event", fmt.Sprint(secretOfB, a.events))
		}
	case opAccess:
		a.set("a", "security.devlxd", "false")
		a.set("a", "security.devlxd", "true")
	case opAskAsB:
		a.askAsB(a.b)
	case opConnectAsB:
		c := a.dial("b")
		a.askAsB(c)
		_ = c.Close()
	case opTurn:
		for _, l := range a.srv.loops {
			l.call(func() {})
		}
	}
}

// next makes another connection of a the current one.
func (a *arena) next() {
	if len(a.conns) < 4 {
		a.conns = append(a.conns, a.connect())
		a.current = a.conns[len(a.conns)-1]
		return
	}
	for i, h := range a.conns {
		if h == a.current {
			a.current = a.conns[(i+1)%len(a.conns)]
			return
		}
	}
}

// askAsB: b is answered with its own value and nothing else.
func (a *arena) askAsB(c *client) {
	a.t.Helper()
	for _, key := range []string{"user.secret", "user.big"} {
		c.send(getKey(key))
		got, err := c.read("GET")
		if err != nil {
			a.t.Fatalf("b asked for %s: %v", key, err)
		}
		if got.status != 200 || strings.ReplaceAll(got.body, secretOfB, "") != "" || got.body == "" {
			a.t.Fatalf("b asked for %s: %.300q", key, got.raw())
		}
	}
}

// hostile is a connection of a, not blocking: what the server does not take is dropped, as a cut in the middle.
type hostile struct {
	t    testing.TB
	fd   int
	deaf bool   // it cannot read any more
	tail []byte // the last bytes read, for a secret that comes in two pieces
}

// connect goes below net, which would not let it be as rude.
func (a *arena) connect() *hostile {
	a.t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		a.t.Fatal(err)
	}
	local := fmt.Sprintf("@devlxd-test-%d-%d#a", os.Getpid(), addresses.Add(1))
	err = errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: local}), unix.Connect(fd, &unix.SockaddrUnix{Name: a.path}), unix.SetNonblock(fd, true))
	if err != nil {
		_ = unix.Close(fd)
		a.t.Fatal(err)
	}
	return &hostile{t: a.t, fd: fd}
}

func (h *hostile) send(b []byte) {
	for len(b) > 0 {
		n, err := unix.SendmsgN(h.fd, b, nil, nil, unix.MSG_NOSIGNAL)
		if err != nil {
			return // full, or the server has closed
		}
		b = b[n:]
	}
}

// read takes what there is, and reports whether the server has closed.
func (h *hostile) read() (eof bool) {
	h.t.Helper()
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(h.fd, buf)
		if n > 0 {
			h.look(buf[:n])
			continue
		}
		return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	}
}

// look fails the test when b is what container a must not get.
func (h *hostile) look(b []byte) {
	h.t.Helper()
	h.tail = append(h.tail, b...)
	if i := bytes.Index(h.tail, []byte(secretOfB)); i >= 0 {
		h.t.Errorf("a was sent what belongs to b: %.200q", h.tail[max(0, i-80):])
	}
	h.tail = append([]byte(nil), h.tail[max(0, len(h.tail)-len(secretOfB)+1):]...)
}

// finish says that nothing follows and reads up to the end.
func (h *hostile) finish() {
	h.t.Helper()
	defer h.close()
	_ = unix.Shutdown(h.fd, unix.SHUT_WR)
	for end := time.Now().Add(patience); !h.deaf && !h.read(); {
		if time.Now().After(end) {
			h.t.Fatal("the server does not close a connection that its client has shut down")
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(h.fd), Events: unix.POLLIN}}, 1000)
	}
}

func (h *hostile) close() { _ = unix.Close(h.fd) }
