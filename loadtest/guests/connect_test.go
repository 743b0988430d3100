package guests

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestManyConnectsOfOneGuest(t *testing.T) {
	s := startSet(t, Options{Count: 1, NoCgroup: true})
	v := newServer(t, 2000)
	if err := s.SetSocket(v.path); err != nil {
		t.Fatal(err)
	}
	for round := range 5 {
		before := Now()
		if err := s.Connect(0, 200); err != nil {
			t.Fatal(err)
		}
		if err := s.Connect(0, 1); !errors.Is(err, ErrBusy) {
			t.Errorf("second Connect: %v, want %v", err, ErrBusy)
		}
		if err := s.SetSocket(v.path); !errors.Is(err, ErrBusy) {
			t.Errorf("SetSocket: %v, want %v", err, ErrBusy)
		}
		for n, c := range receive(t, s, 200) {
			if c.Err != 0 || c.Guest != 0 || c.Start < before || c.Start > Now() {
				t.Fatalf("%+v, asked at %d", c, before)
			}
			before = c.Start // in order
			flags, err := unix.FcntlInt(uintptr(c.FD), unix.F_GETFL, 0)
			if err != nil || flags&unix.O_NONBLOCK == 0 {
				t.Fatalf("flags %#x, want O_NONBLOCK (%v)", flags, err)
			}
			want := fmt.Sprintf("%d/%d", round, n)
			if _, err := unix.Write(c.FD, []byte(want)); err != nil {
				t.Fatal(err)
			}
			fd, b := v.accept(), make([]byte, 16)
			if n, err := unix.Read(fd, b); err != nil || string(b[:n]) != want {
				t.Fatalf("%q arrived, want %q (%v)", b[:n], want, err)
			}
		}
	}
}

func TestBacklogFull(t *testing.T) {
	s := startSet(t, Options{Count: 2, NoCgroup: true})
	v := newServer(t, 3) // and room for one more: unix_recvq_full compares with ">"
	if err := s.SetSocket(v.path); err != nil {
		t.Fatal(err)
	}
	if err := s.Connect(0, 100); err != nil {
		t.Fatal(err)
	}
	receive(t, s, 4) // though the guest still waits to make the others
	if err := s.Connect(1, 100); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		v.accept()
	}
	for _, c := range receive(t, s, 196) {
		if c.Err != 0 {
			t.Fatalf("%+v", c)
		}
	}
}

func TestErrorsOfConnect(t *testing.T) {
	s := startSet(t, Options{Count: 1, NoCgroup: true})
	if err := s.Connect(0, 1); !errors.Is(err, ErrNoSocket) {
		t.Errorf("%v, want %v", err, ErrNoSocket)
	}
	for _, path := range []string{"", "x", "/" + strings.Repeat("x", maxPath)} {
		if err := s.SetSocket(path); !errors.Is(err, ErrPath) {
			t.Errorf("%q: %v, want %v", path, err, ErrPath)
		}
	}
	dir := openDir(t)
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "file"), 0o666); err != nil {
		t.Fatal(err)
	}
	long := dir + strings.Repeat("/.", (maxPath-len(dir)-8)/2) + "/missing"
	for path, want := range map[string]unix.Errno{
		filepath.Join(dir, "missing"): unix.ENOENT, filepath.Join(dir, "file"): unix.ECONNREFUSED, long: unix.ENOENT,
	} {
		if err := s.SetSocket(path); err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, -1, maxConns + 1} {
			if err := s.Connect(0, n); !errors.Is(err, errNumber) {
				t.Errorf("%d connections: %v, want %v", n, err, errNumber)
			}
		}
		if err := s.Connect(0, 70); err != nil {
			t.Fatal(err)
		}
		for _, c := range receive(t, s, 70) {
			if c.Err != want || c.FD != -1 || c.Start == 0 {
				t.Fatalf("%s: %+v, want %v", path, c, want)
			}
		}
	}
}

func TestStopWhileCommandIsUnderWay(t *testing.T) {
	s := startSet(t, Options{Count: 1})
	v := newServer(t, 1)
	if err := s.SetSocket(v.path); err != nil {
		t.Fatal(err)
	}
	if err := s.Connect(0, 10); err != nil {
		t.Fatal(err)
	}
	conns := receive(t, s, 2) // the guest waits for the backlog now, or will
	if err := s.Stop(0); err != nil {
		t.Fatal(err)
	}
	if err := s.Connect(0, 1); !errors.Is(err, ErrBusy) {
		t.Errorf("%v, want %v", err, ErrBusy)
	}
	conns = append(conns, receive(t, s, 8)...)
	for n, c := range conns {
		if n < 2 && c.Err != 0 || n >= 2 && (c.Err != unix.ECANCELED || c.FD != -1 || c.Guest != 0) {
			t.Errorf("connection %d: %+v", n, c)
		}
	}
	if err := s.Connect(0, 1); !errors.Is(err, ErrStopped) {
		t.Errorf("%v, want %v", err, ErrStopped)
	}
	if _, err := s.Restart(0); err != nil {
		t.Fatal(err)
	}
	v.accept()
	v.accept()
	if err := s.Connect(0, 1); err != nil {
		t.Fatal(err)
	}
	if c := receive(t, s, 1)[0]; c.Err != 0 {
		t.Errorf("%+v", c)
	}
	if readable(s.FD(), 0) {
		t.Error("something is left to be received")
	}
}

func TestNoDescriptorLeft(t *testing.T) {
	s := startSet(t, Options{Count: 1, NoCgroup: true})
	v := newServer(t, 64)
	if err := s.SetSocket(v.path); err != nil {
		t.Fatal(err)
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	next, err := unix.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(next)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(next) + 5, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	restore := sync.OnceValue(func() error { return unix.Setrlimit(unix.RLIMIT_NOFILE, &old) })
	defer restore()
	if err := s.Connect(0, 20); err != nil {
		t.Fatal(err)
	}
	good := 0
	for n, c := range receive(t, s, 20) {
		switch {
		case c.Err == 0 && c.FD >= 0 && n == good:
			good++
		case c.Err == unix.EMFILE && c.FD == -1:
		default:
			t.Errorf("connection %d: %+v", n, c)
		}
	}
	if good < 1 || good > 5 {
		t.Errorf("%d descriptors, want up to 5", good)
	}
	if err := restore(); err != nil {
		t.Fatal(err)
	}
}

// Commands may be given from the function that Receive calls: a load generator goes on at once.
func TestConnectFromReceive(t *testing.T) {
	s := startSet(t, Options{Count: 4, NoCgroup: true})
	v := newServer(t, 1000)
	if err := s.SetSocket(v.path); err != nil {
		t.Fatal(err)
	}
	const rounds = 50
	got := make([]int, s.Len())
	for i := range got {
		if err := s.Connect(i, 2); err != nil {
			t.Fatal(err)
		}
	}
	for total := 0; total < 2*rounds*len(got); {
		waitReadable(t, s.FD())
		err := s.Receive(func(c Conn) {
			total++
			got[c.Guest]++
			if c.Err != 0 {
				t.Errorf("%+v", c)
			}
			unix.Close(c.FD)
			if got[c.Guest]%2 == 0 && got[c.Guest] < 2*rounds {
				if err := s.Connect(c.Guest, 2); err != nil {
					t.Error(err)
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SetSocket(v.path); err != nil {
		t.Errorf("after all was received: %v", err)
	}
}

// Each connection is reported once, whatever becomes of its guest.
func TestChurnBesideConnects(t *testing.T) {
	s := startSet(t, Options{Count: 8})
	v := newServer(t, 4000)
	if err := s.SetSocket(v.path); err != nil {
		t.Fatal(err)
	}
	churned := make(chan error, 1)
	go func() {
		for n := range 60 {
			if _, err := s.Restart(n % s.Len()); err != nil {
				churned <- err
				return
			}
		}
		churned <- nil
	}()
	asked, reported := 0, 0
	for over := false; !over || reported < asked; {
		select {
		case err := <-churned:
			if over = true; err != nil {
				t.Fatal(err)
			}
		default:
		}
		for i := range s.Len() {
			if over {
				break
			}
			err := s.Connect(i, 3)
			if err == nil {
				asked += 3
			} else if !errors.Is(err, ErrBusy) && !errors.Is(err, ErrStopped) {
				t.Fatal(err)
			}
		}
		readable(s.FD(), 10*time.Millisecond)
		if err := s.Receive(func(c Conn) {
			reported++
			if c.FD >= 0 {
				unix.Close(c.FD)
			}
			if c.Err != 0 && c.Err != unix.ECANCELED {
				t.Errorf("%+v", c)
			}
		}); err != nil {
			t.Fatal(err)
		}
		v.discard()
	}
	if reported != asked {
		t.Errorf("%d connections reported, %d asked for", reported, asked)
	}
}

// discard accepts and closes what is there.
func (v *server) discard() int {
	for n := 0; ; n++ {
		fd, _, err := unix.Accept4(v.fd, unix.SOCK_CLOEXEC)
		if err != nil {
			return n
		}
		unix.Close(fd)
	}
}

func TestAllocReceive(t *testing.T) {
	s := startSet(t, Options{Count: 1, NoCgroup: true})
	v := newServer(t, 4000)
	if err := s.SetSocket(v.path); err != nil {
		t.Fatal(err)
	}
	left := 0
	f := func(c Conn) { left--; unix.Close(c.FD) }
	poll := []unix.PollFd{{Fd: int32(s.FD()), Events: unix.POLLIN}}
	allocs := testing.AllocsPerRun(10, func() {
		left = 100
		if err := s.Connect(0, left); err != nil {
			t.Fatal(err)
		}
		for left > 0 {
			_, _ = unix.Poll(poll, -1)
			if err := s.Receive(f); err != nil {
				t.Fatal(err)
			}
		}
	})
	if allocs > 0 {
		t.Errorf("%v allocations for 100 connections, want none", allocs)
	}
}
