package admin_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/admin"
)

func TestListenModeAndNames(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := filepath.Join(socketDir(t), "run")
	path := filepath.Join(dir, "admin.sock")
	ln, err := admin.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode(); got != os.ModeSocket|0o600 {
		t.Errorf("mode = %v; want a socket with 0600", got)
	}
	if got := ln.Addr().String(); got != path {
		t.Errorf("Addr = %q; want %q", got, path)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("%d files beside the socket; want the socket alone: %v", len(entries), entries)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket after Close: %v; want it gone", err)
	}
	if err := ln.Close(); err != nil {
		t.Errorf("second Close = %v; want nil", err)
	}
}

func TestListenReplacesAndSpares(t *testing.T) {
	dir := socketDir(t)
	path := filepath.Join(dir, "admin.sock")
	first, err := admin.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	// Left behind by a process that was killed between bind and rename.
	stale := filepath.Join(dir, ".admin.sock."+itoa(os.Getpid()))
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	second, err := admin.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("successor's socket after the predecessor closed: %v; want it to be there", err)
	}
	conn.Close()
}

func TestListenRefuses(t *testing.T) {
	dir := socketDir(t)
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path string
		want error
	}{
		"a file":                 {file, admin.ErrNotSocket},
		"a link":                 {link, admin.ErrNotSocket},
		"a directory":            {dir, admin.ErrNotSocket},
		"a long path":            {filepath.Join(dir, strings.Repeat("d", 100), "admin.sock"), admin.ErrPathTooLong},
		"a file as a directory":  {filepath.Join(file, "admin.sock"), unix.ENOTDIR},
		"a directory of nowhere": {"/proc/nowhere/admin.sock", os.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := admin.Listen(c.path)
			if !errors.Is(err, c.want) {
				t.Errorf("Listen(%q) = %v; want %v", c.path, err, c.want)
			}
			if err == nil {
				ln.Close()
			} else if strings.Contains(err.Error(), "\n") {
				t.Errorf("error has more than one line: %q", err)
			}
		})
	}
	if b, _ := os.ReadFile(file); string(b) != "precious" {
		t.Errorf("the file now holds %q", b)
	}
}

// TestOtherUsersAreRefused connects with the credentials of another user. They
// belong to the thread, which ends with the goroutine that is locked to it.
func TestOtherUsersAreRefused(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: connects as another user")
	}
	f := start(t, func(f *fixture, _ *admin.Options) { f.uid = 4321 })
	if err := os.Chmod(f.socket, 0o666); err != nil {
		t.Fatal(err)
	}
	for uid, refused := range map[int]bool{0: false, 4321: false, 1000: true, 65534: true} {
		for _, path := range []string{"/1.0", "/healthz", "/metrics", "/nowhere"} {
			code := make(chan int, 1)
			go func() {
				runtime.LockOSThread() // and never unlocked: the thread is not used again
				code <- getAs(f, uid, path)
			}()
			if got := <-code; (got == http.StatusForbidden) != refused {
				t.Errorf("uid %d GET %s = %d; want 403: %v", uid, path, got, refused)
			}
		}
	}
}

// getAs makes a request as a user and returns the status code.
func getAs(f *fixture, uid int, path string) int {
	if uid != 0 {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			f.Errorf("setresuid %d: %v", uid, errno)
			return 0
		}
	}
	resp, err := f.client().Get("http://devlxd" + path)
	if err != nil {
		f.Errorf("uid %d: %v", uid, err)
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// client returns a client that dials on the goroutine of its caller.
func (f *fixture) client() *http.Client {
	conn, err := net.Dial("unix", f.socket)
	if err != nil {
		f.Error(err)
	}
	return &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext:       func(context.Context, string, string) (net.Conn, error) { return conn, err },
		},
	}
}

func TestServeRefusesOtherListeners(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.New(admin.Options{}).Serve(ln); !errors.Is(err, admin.ErrNotUnix) {
		t.Errorf("Serve on TCP = %v; want %v", err, admin.ErrNotUnix)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after it = %v; want the listener closed", err)
	}
}
