package peertest

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Listener is a listening Unix stream socket that every uid can connect to.
type Listener struct {
	Path string
	t    testing.TB
	fd   int
}

// Listen makes a listening socket. It and what it accepted are closed with the test.
func Listen(t testing.TB) *Listener {
	t.Helper()
	dir, err := os.MkdirTemp("", "peertest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l := &Listener{Path: filepath.Join(dir, "sock"), t: t}
	if l.fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		t.Fatalf("socket: %v", err)
	}
	t.Cleanup(func() { unix.Close(l.fd) })
	if err := unix.Bind(l.fd, &unix.SockaddrUnix{Name: l.Path}); err != nil {
		t.Fatalf("bind: %v", err)
	}
	// Children run as other uids.
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(l.Path, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(l.fd, 128); err != nil {
		t.Fatalf("listen: %v", err)
	}
	return l
}

// Accept returns the next connection as a raw descriptor, which is closed when the
// test ends. It fails the test when none comes within ten seconds.
func (l *Listener) Accept() int {
	l.t.Helper()
	for {
		p := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 10_000)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			l.t.Fatalf("no connection came (%v)", err)
		}
		fd, _, err := unix.Accept4(l.fd, unix.SOCK_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			l.t.Fatalf("accept4: %v", err)
		}
		l.t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
}
