package guests

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// answering is a server that says the same to everybody, until the test ends.
func answering(t *testing.T, answer string) (path string) {
	t.Helper()
	path = filepath.Join(openDir(t), "sock")
	ln, err := net.Listen("unix", path)
	if err == nil {
		err = os.Chmod(path, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				stop := make(chan struct{})
				defer close(stop)
				go func() {
					select {
					case <-done:
						c.Close()
					case <-stop:
					}
				}()
				for r := bufio.NewReader(c); ; {
					if _, err := http.ReadRequest(r); err != nil || answer == "" {
						return
					}
					if _, err := c.Write([]byte(answer)); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		close(done)
		wg.Wait()
	})
	return path
}

func response(status int, body string) string {
	return fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
}

// TestProbe: what a container is answered is judged by whether the server knows it at that time.
func TestProbe(t *testing.T) {
	secret, other := strings.Repeat("s3cret!-", 4), strings.Repeat("0therone", 4)
	for name, c := range map[string]struct {
		answer  string
		settled uint32
		count   func(*Counts) *uint64
		wrong   string
	}{
		"right":               {response(200, secret), 1, func(c *Counts) *uint64 { return &c.Right }, ""},
		"exited":              {response(200, secret), 1, func(c *Counts) *uint64 { return &c.ExitedRight }, ""},
		"another's":           {response(200, other), 0, func(c *Counts) *uint64 { return &c.Wrong }, other},
		"shorter":             {response(200, secret[1:]), 1, func(c *Counts) *uint64 { return &c.Wrong }, secret[1:]},
		"refused, may be":     {response(500, "pid not in container?"), 0, func(c *Counts) *uint64 { return &c.Refused }, ""},
		"refused, may not be": {response(500, "pid not in container?"), 1, func(c *Counts) *uint64 { return &c.Denied }, "HTTP/1.1 500 X"},
		"closed, may be":      {"", 0, func(c *Counts) *uint64 { return &c.Cut }, ""},
		"closed, may not be":  {"", 1, func(c *Counts) *uint64 { return &c.Dropped }, ""},
		"exited, refused":     {response(403, "no"), 1, func(c *Counts) *uint64 { return &c.ExitedRefused }, "HTTP/1.1 403 X"},
		"another status":      {response(404, "not found"), 0, func(c *Counts) *uint64 { return &c.Broken }, "HTTP/1.1 404 X"},
		"no HTTP":             {"220 mail ready\r\n\r\n", 0, func(c *Counts) *uint64 { return &c.Broken }, "?"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSet(t, Options{Count: 1})
			if err := s.SetSocket(answering(t, c.answer)); err != nil {
				t.Fatal(err)
			}
			s.Settle(0, c.settled)
			if err := s.Launch(0, Probe{Secret: secret, Processes: 2}); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it is counted", func() bool {
				n := s.Counts(0)
				return *c.count(&n) > 0
			})
			if err := s.Halt(0); err != nil {
				t.Fatal(err)
			}
			n := s.Counts(0)
			// Beside what is looked for there are only the kept connection and the process that exits.
			expected := map[*uint64]bool{&n.Connected: true, &n.Right: true, &n.ExitedRight: true, &n.ExitedRefused: true, c.count(&n): true}
			if name == "exited, refused" {
				expected[&n.Denied] = true // all others, which were there to be looked at
			}
			for i, field := range n.fields() {
				if *field > 0 && !expected[field] && c.answer != response(200, secret) {
					t.Errorf("counter %d is %d: %+v", i, *field, n)
				}
			}
			if got := s.Wrong(0); !strings.HasPrefix(got, c.wrong) || (c.wrong == "") != (got == "") {
				t.Errorf("wrong answer %q; want %q", got, c.wrong)
			}
			again := s.Counts(0)
			if again != n {
				t.Errorf("a job that has ended goes on: %+v after %+v", again, n)
			}
		})
	}
}

// TestFlood: each part of a flood reaches the server, and ends when it is told to.
func TestFlood(t *testing.T) {
	for name, mix := range map[string]Mix{"pipeline": Pipeline, "storm": Storm, "subscribe": Subscribe, "half": Half, "everything": Everything} {
		t.Run(name, func(t *testing.T) {
			s := startSet(t, Options{Count: 2})
			if err := s.SetSocket(answering(t, response(200, "x"))); err != nil {
				t.Fatal(err)
			}
			if err := s.Yield(true); err != nil {
				t.Fatal(err)
			}
			const held = 5
			for i := range s.Len() {
				if err := s.Launch(i, Flood{Mix: mix, Connections: held, Pipeline: 16}); err != nil {
					t.Fatal(err)
				}
			}
			for i := range s.Len() {
				eventually(t, "a flood", func() bool {
					n := s.Counts(i)
					return n.Connected >= held && (mix != Pipeline || n.Right > 100) && (mix&^Pipeline == 0 || n.Connected > 3*held)
				})
			}
			if err := errors.Join(s.Yield(false), s.Halt(0, 1)); err != nil {
				t.Fatal(err)
			}
			for i := range s.Len() {
				if dir := s.Cgroup(i); dir != "" {
					if procs := strings.Fields(readFile(t, dir+"/cgroup.procs")); len(procs) != 1 {
						t.Errorf("%d processes in the cgroup after the flood; want the guest alone", len(procs))
					}
				}
			}
			if n := s.Total(); n.NoConnect > 0 {
				t.Errorf("%d connects failed", n.NoConnect)
			}
			// A guest that stops in the middle takes all with it.
			if err := errors.Join(s.Launch(0, Flood{Mix: mix, Connections: held, Pipeline: 1}), s.Stop(0)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestJobErrors(t *testing.T) {
	s := startSet(t, Options{Count: 1})
	if err := s.Launch(0, Flood{Mix: Half, Connections: 1, Pipeline: 1}); !errors.Is(err, ErrNoSocket) {
		t.Errorf("error = %v; want %v", err, ErrNoSocket)
	}
	if err := s.SetSocket(answering(t, "")); err != nil {
		t.Fatal(err)
	}
	for _, work := range []any{
		nil, Flood{}, Flood{Mix: 16, Connections: 1, Pipeline: 1}, Flood{Mix: Half, Connections: 257, Pipeline: 1}, Flood{Mix: Half, Connections: 1, Pipeline: 129},
		Probe{Processes: 1}, Probe{Processes: 65, Secret: strings.Repeat("x", SecretLen)}, Probe{Processes: 1, Secret: strings.Repeat("x", SecretLen), Period: -1},
	} {
		if err := s.Launch(0, work); !errors.Is(err, ErrJob) {
			t.Errorf("%+v: error = %v; want %v", work, err, ErrJob)
		}
	}
	if err := s.Stop(0); err != nil {
		t.Fatal(err)
	}
	if err := s.Launch(0, Flood{Mix: Half, Connections: 1, Pipeline: 1}); !errors.Is(err, ErrStopped) {
		t.Errorf("error = %v; want %v", err, ErrStopped)
	}
}

// TestRestartAs gives a guest the pid of another that has stopped.
func TestRestartAs(t *testing.T) {
	needRoot(t)
	s := startSet(t, Options{Count: 2})
	for range 20 {
		pid := s.PID(0)
		if err := s.Stop(0); err != nil {
			t.Fatal(err)
		}
		got, err := s.RestartAs(1, pid)
		if err != nil {
			t.Fatal(err)
		}
		if got == pid && nsID(t, got, "pid") != 0 {
			return
		}
		if _, err := s.Restart(0); err != nil { // somebody else was given the pid meanwhile
			t.Fatal(err)
		}
	}
	t.Error("no guest got the pid that another had")
}

// TestRestartAsTaken: a pid that is in use is not waited for.
func TestRestartAsTaken(t *testing.T) {
	s := startSet(t, Options{Count: 1})
	if pid, err := s.RestartAs(0, os.Getpid()); err != nil || pid == os.Getpid() || pid == 0 {
		t.Errorf("pid %d, %v", pid, err)
	}
}

// TestSplitCgroup: the processes of a job move, its init does not, and everything is gone in the end.
func TestSplitCgroup(t *testing.T) {
	needRoot(t)
	s := startSet(t, Options{Count: 1})
	dir := s.Cgroup(0)
	if dir == "" {
		t.Skipf("guests have no cgroups: %v", s.Notes())
	}
	if err := s.SetSocket(answering(t, response(200, "x"))); err != nil {
		t.Fatal(err)
	}
	if err := s.Launch(0, Flood{Mix: Everything, Connections: 2, Pipeline: 1}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "processes", func() bool { return len(strings.Fields(readFile(t, dir+"/cgroup.procs"))) == 5 })
	for i := range 4 {
		if err := s.SplitCgroup(0); err != nil {
			t.Fatal(err)
		}
		leaf := fmt.Sprintf("%s/%d", dir, i%2)
		if n, m := len(strings.Fields(readFile(t, dir+"/cgroup.procs"))), len(strings.Fields(readFile(t, leaf+"/cgroup.procs"))); n != 1 || m != 4 {
			t.Errorf("%d and %d processes; want 1 and 4", n, m)
		}
	}
	if err := s.Stop(0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Access(dir, unix.F_OK); err != unix.ENOENT {
		t.Errorf("the cgroup is still there: %v", err)
	}
}

// TestHurry: guests run first, and this process, until that is taken back.
func TestHurry(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: to run before others takes CAP_SYS_NICE")
	}
	s := startSet(t, Options{Count: 2})
	for _, hurry := range []bool{true, false} {
		s.Hurry(hurry)
		HurrySelf(hurry)
		for _, pid := range []int{s.PID(0), s.PID(1), os.Getpid()} {
			// The system call returns 20 less the niceness.
			if n, err := unix.Getpriority(unix.PRIO_PROCESS, pid); err != nil || 20-n != niceness(hurry) {
				t.Errorf("process %d has niceness %d; want %d (%v)", pid, 20-n, niceness(hurry), err)
			}
		}
	}
}
