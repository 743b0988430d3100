package guests

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// modeEnv has a run of the test binary be another process of a test.
const modeEnv = "DEVLXD_GUESTS_TEST_MODE"

func TestMain(m *testing.M) {
	switch mode := os.Getenv(modeEnv); mode {
	case "":
		goleak.VerifyTestMain(m)
	default:
		if err := runMode(mode); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
}

func runMode(mode string) error {
	switch mode {
	case "own":
		return ownMode()
	case "user":
		return userMode()
	case "tight":
		return tightMode()
	}
	return errors.New("no such mode")
}

// rerun prepares another process of this binary. Its path may be closed to the user that it runs as.
func rerun(mode string, uid uint32) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), modeEnv+"="+mode)
	cmd.Dir = "/"
	if uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	return cmd
}

// needRoot skips a test that takes root.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// startSet starts guests and closes them at the end of the test. Without the right to make any the test is skipped.
func startSet(t testing.TB, o Options) *Set {
	t.Helper()
	s, err := Start(context.Background(), o)
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// server is a listening socket that guests may connect to.
type server struct {
	t    testing.TB
	path string
	fd   int
}

// newServer listens below a directory that is open to all.
func newServer(t testing.TB, backlog int) *server {
	t.Helper()
	v := &server{t: t, path: filepath.Join(openDir(t), "sock")}
	var err error
	if v.fd, err = listen(v.path, backlog); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(v.fd) })
	return v
}

func openDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "guests")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func listen(path string, backlog int) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), os.Chmod(path, 0o666), unix.Listen(fd, backlog)); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// accept accepts one connection, which is closed at the end of the test.
func (v *server) accept() int {
	v.t.Helper()
	waitReadable(v.t, v.fd)
	fd, _, err := unix.Accept4(v.fd, unix.SOCK_CLOEXEC)
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// patience bounds what a test waits for. It is long, as a test that waits for it in vain has failed.
const patience = 60 * time.Second

func waitReadable(t testing.TB, fd int) {
	t.Helper()
	if !readable(fd, patience) {
		t.Fatal("nothing to read")
	}
}

func readable(fd int, wait time.Duration) bool {
	for end := time.Now().Add(wait); ; {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, int(max(0, time.Until(end)/time.Millisecond)))
		if err != unix.EINTR {
			return n > 0
		}
	}
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not seen: %s", what)
		}
	}
}

// receive waits for n connections. Those with a descriptor are closed at the end of the test.
func receive(t testing.TB, s *Set, n int) []Conn {
	t.Helper()
	conns := make([]Conn, 0, n)
	for len(conns) < n {
		waitReadable(t, s.FD())
		err := s.Receive(func(c Conn) {
			conns = append(conns, c)
			if c.FD >= 0 {
				t.Cleanup(func() { unix.Close(c.FD) })
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(conns) > n {
		t.Fatalf("%d connections, want %d", len(conns), n)
	}
	return conns
}

// startMode has a mode's process run until the test ends, and returns the lines that it prints first, up to an empty one.
func startMode(t *testing.T, cmd *exec.Cmd) []string {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_, _ = io.Copy(io.Discard, stdout)
		_ = cmd.Wait()
	})
	var lines []string
	for in := bufio.NewScanner(stdout); in.Scan() && in.Text() != ""; {
		if strings.HasPrefix(in.Text(), "error: "+ErrUnavailable.Error()) {
			t.Skip(in.Text())
		}
		lines = append(lines, in.Text())
	}
	return lines
}

// runToEnd runs a mode and returns what it printed.
func runToEnd(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if bytes.Contains(out, []byte(ErrUnavailable.Error())) {
		t.Skipf("%s", out)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}
