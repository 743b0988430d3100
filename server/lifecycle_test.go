package server

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestListen(t *testing.T) {
	r := newRig(t, Options{})
	info, err := os.Lstat(r.path)
	if err != nil || info.Mode() != os.ModeSocket|0o666 {
		t.Errorf("the socket is %v, %v; want mode 0666", info, err)
	}
	entries, err := os.ReadDir(filepath.Dir(r.path))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the socket: %v, %v; want nothing", entries, err)
	}
	if dir, err := os.Stat(filepath.Dir(r.path)); err != nil || dir.Mode().Perm() != 0o755 {
		t.Errorf("the directory is %v, %v; want mode 0755", dir, err)
	}
	if err := r.srv.Listen(r.path + "2"); !errors.Is(err, ErrListening) {
		t.Errorf("a second Listen = %v; want %v", err, ErrListening)
	}
	if err := r.shutdown(time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(r.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	if err := r.srv.Listen(r.path); !errors.Is(err, ErrClosed) {
		t.Errorf("Listen after the end = %v; want %v", err, ErrClosed)
	}
}

// TestSuccessor: a new server takes the path over without a gap, and the old one leaves the new one's socket alone.
func TestSuccessor(t *testing.T) {
	old := newRig(t, Options{})
	old.container("c1", map[string]string{"user.a": "old"})
	kept := old.dial("c1")
	next := newIdleRig(t, Options{})
	next.path = old.path
	next.srv.Start()
	if err := next.srv.Listen(next.path); err != nil {
		t.Fatal(err)
	}
	next.container("c1", map[string]string{"user.a": "new"})
	if a := next.dial("c1").get("/1.0/config/user.a"); a.body != "new" {
		t.Errorf("a new connection = %q; want the new server", a.body)
	}
	if a := kept.get("/1.0/config/user.a"); a.body != "old" {
		t.Errorf("a connection of before = %q; want the old server", a.body)
	}
	if err := old.shutdown(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	if a := next.dial("c1").get("/1.0/config/user.a"); a.body != "new" {
		t.Errorf("after the end of the old server: %q", a.body)
	}
}

func TestListenRefuses(t *testing.T) {
	t.Run("a file in the way", func(t *testing.T) {
		r := newIdleRig(t, Options{})
		r.srv.Start()
		if err := os.MkdirAll(filepath.Dir(r.path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(r.path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.srv.Listen(r.path); !errors.Is(err, ErrNotSocket) {
			t.Errorf("Listen = %v; want %v", err, ErrNotSocket)
		}
		if b, err := os.ReadFile(r.path); string(b) != "precious" {
			t.Errorf("the file is %q, %v", b, err)
		}
		if err := r.srv.Listen(r.path + "2"); err != nil {
			t.Errorf("Listen elsewhere = %v", err)
		}
	})
	t.Run("too long a path", func(t *testing.T) {
		r := newIdleRig(t, Options{})
		r.srv.Start()
		path := filepath.Join(filepath.Dir(r.path), strings.Repeat("x", 100))
		if err := r.srv.Listen(path); err == nil || !strings.Contains(err.Error(), "shorter run directory") || strings.Contains(err.Error(), "\n") {
			t.Errorf("Listen = %v; want one line that says what to do", err)
		}
	})
	t.Run("before Start", func(t *testing.T) {
		r := newIdleRig(t, Options{})
		if err := r.srv.Listen(r.path); !errors.Is(err, ErrClosed) {
			t.Errorf("Listen = %v; want %v", err, ErrClosed)
		}
	})
	t.Run("a directory that is a file", func(t *testing.T) {
		r := newIdleRig(t, Options{})
		r.srv.Start()
		if err := os.WriteFile(filepath.Dir(r.path), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.srv.Listen(r.path); err == nil {
			t.Error("Listen succeeds")
		}
	})
}

// TestAdopt: a socket that something else made is served, and not removed.
func TestAdopt(t *testing.T) {
	r := newIdleRig(t, Options{})
	r.container("c1", nil)
	if err := os.MkdirAll(filepath.Dir(r.path), 0o755); err != nil {
		t.Fatal(err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: r.path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	file, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	dup := func() int {
		fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	if err := r.srv.Adopt(dup()); !errors.Is(err, ErrClosed) {
		t.Errorf("Adopt before Start = %v; want %v", err, ErrClosed)
	}
	r.srv.Start()
	if err := r.srv.Adopt(dup()); err != nil {
		t.Fatal(err)
	}
	if a := r.dial("c1").get("/1.0"); a.status != 200 {
		t.Errorf("status = %d", a.status)
	}
	if err := r.shutdown(time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(r.path); err != nil {
		t.Errorf("the socket of somebody else: %v", err)
	}
}

// TestShutdown: who waits for nothing is closed, who has asked is answered, websockets are told, and new connections are refused.
func TestShutdown(t *testing.T) {
	r := newRig(t, Options{Loops: 2})
	big := strings.Repeat("b", 8<<20)
	r.container("c1", map[string]string{"user.big": big, "user.a": "1"})
	var idle []*client
	for range 4 {
		c := r.dial("c1")
		c.get("/1.0")
		idle = append(idle, c)
	}
	download := r.dial("c1")
	download.send(getKey("user.big") + getKey("user.a"))
	socket := r.dial("c1")
	socket.send(upgradeRequest("/1.0/events"))
	socket.answer("GET")
	stream := r.dial("c1")
	stream.send("GET /1.0/events HTTP/1.1\r\nHost: a\r\n\r\n")
	stream.answer("GET")
	eventually(t, "the download is under way", func() bool { return r.pending() == 1 })
	fresh := r.dial("c1") // connected, and about to ask
	done := make(chan error, 1)
	go func() { done <- r.shutdown(patience) }()

	for _, c := range idle {
		c.wantEOF()
	}
	stream.wantEOF()
	if code, text := socket.closeFrame(); code != 1001 || text != "server shutting down" {
		t.Errorf("the websocket was closed with %d %q", code, text)
	}
	socket.send(maskedClose)
	socket.wantEOF()
	if _, err := r.tryDial("c1"); err == nil {
		t.Error("a new connection is accepted")
	}
	fresh.send(getKey("user.a"))
	if a := fresh.answer("GET"); a.body != "1" || !a.close {
		t.Errorf("a client that had connected was answered %q", a.raw())
	}
	fresh.wantEOF()
	if a := download.answer("GET"); a.body != big {
		t.Errorf("the download has %d bytes", len(a.body))
	}
	if a := download.answer("GET"); a.body != "1" || !a.close {
		t.Errorf("the request behind it was answered %q", a.raw())
	}
	download.wantEOF()
	if err := <-done; err != nil {
		t.Errorf("Shutdown = %v", err)
	}
	if err := r.srv.Shutdown(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("a second Shutdown = %v; want %v", err, ErrClosed)
	}
}

// TestShutdownIsBounded: a client that takes nothing does not hold the server up.
func TestShutdownIsBounded(t *testing.T) {
	r := newRig(t, Options{Loops: 1})
	r.container("c1", map[string]string{"user.big": strings.Repeat("b", 8<<20)})
	c := r.dial("c1")
	c.send(getKey("user.big"))
	eventually(t, "the download is under way", func() bool { return r.pending() == 1 })
	err := r.shutdown(50 * time.Millisecond)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 connections were cut off") {
		t.Errorf("Shutdown = %v; want the number of connections cut off", err)
	}
	r.wantClosed(CloseShutdown, 1)
}

// TestContainerStops: its connections end, its websockets are told, and the identity is not that of the next life.
func TestContainerStops(t *testing.T) {
	r := newRig(t, Options{Loops: 2})
	first := r.container("c1", map[string]string{"user.a": "1"})
	r.container("c2", map[string]string{"user.a": "2"})
	other := r.dial("c2")
	other.get("/1.0")
	idle, socket, stream := r.dial("c1"), r.dial("c1"), r.dial("c1")
	idle.get("/1.0")
	socket.send(upgradeRequest("/1.0/events"))
	socket.answer("GET")
	stream.send("GET /1.0/events HTTP/1.1\r\nHost: a\r\n\r\n")
	stream.answer("GET")
	r.reg.Stop(first)
	idle.wantEOF()
	stream.wantEOF()
	if code, text := socket.closeFrame(); code != 1001 || text != "container stopped" {
		t.Errorf("the websocket was closed with %d %q", code, text)
	}
	socket.send(maskedClose)
	socket.wantEOF()
	r.wantClosed(CloseStopped, 3)
	if a := r.dial("c1").get("/1.0"); a.status != 500 || !a.close {
		t.Errorf("a peer of a stopped container was answered %q", a.raw())
	}
	if a := other.get("/1.0/config/user.a"); a.body != "2" {
		t.Errorf("another container was answered %q", a.raw())
	}
	r.container("c1", map[string]string{"user.a": "3"})
	if a := r.dial("c1").get("/1.0/config/user.a"); a.body != "3" {
		t.Errorf("in its next life: %q", a.raw())
	}
}

// TestRevoke: security.devlxd=false answers 403 at once, also on connections that are open, and ends event streams; true opens them again.
func TestRevoke(t *testing.T) {
	r := newRig(t, Options{Loops: 2})
	r.container("c1", map[string]string{"user.a": "1"})
	kept, socket, stream := r.dial("c1"), r.dial("c1"), r.dial("c1")
	kept.get("/1.0")
	socket.send(upgradeRequest("/1.0/events"))
	socket.answer("GET")
	stream.send("GET /1.0/events HTTP/1.1\r\nHost: a\r\n\r\n")
	stream.answer("GET")
	r.set("c1", "security.devlxd", "false")
	if a := kept.get("/1.0/config/user.a"); a.status != 403 || a.body != "not authorized\n" {
		t.Errorf("an open connection was answered %q", a.raw())
	}
	if a := r.dial("c1").get("/1.0/config/user.a"); a.status != 403 {
		t.Errorf("a new connection was answered %q", a.raw())
	}
	if code, text := socket.closeFrame(); code != 1008 || text != "not authorized" {
		t.Errorf("the websocket was closed with %d %q", code, text)
	}
	socket.send(maskedClose)
	socket.wantEOF()
	stream.wantEOF()
	r.wantClosed(CloseRevoked, 2)
	r.set("c1", "security.devlxd", "true")
	if a := kept.get("/1.0/config/user.a"); a.body != "1" {
		t.Errorf("switched on again: %q", a.raw())
	}
}

// TestPanic: a handler that fails costs its own connection only, and says so.
func TestPanic(t *testing.T) {
	r := newRig(t, Options{Loops: 1})
	r.log.expect("handler failed")
	r.container("c1", map[string]string{"user.a": "1"})
	other := r.dial("c1")
	other.get("/1.0")
	for i := range 3 {
		c := r.dial(broken)
		_, _ = c.Write([]byte(getKey("user.a")))
		c.wantEOF()
		r.wantClosed(CloseInternal, uint64(i+1))
	}
	if n := r.log.count("handler failed"); n != 3 {
		t.Errorf("it was logged %d times; want 3", n)
	}
	if a := other.get("/1.0/config/user.a"); a.body != "1" {
		t.Errorf("another connection was answered %q", a.raw())
	}
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]Options{"loops": {Loops: -1}, "connections": {MaxConnections: -1}} {
		if _, err := New(o); !errors.Is(err, errNegative) {
			t.Errorf("New with a negative number of %s = %v; want %v", name, err, errNegative)
		}
	}
}
