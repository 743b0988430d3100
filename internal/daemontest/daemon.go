package daemontest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/internal/sandbox"
)

const (
	// startTime bounds the wait for a daemon that is to serve, and stopTime for one
	// that is to end: five seconds are what it gives requests under way.
	startTime = 60 * time.Second
	stopTime  = 60 * time.Second
)

// Build builds devlxd in dir and returns its path.
func Build(dir string) (string, error) { return BuildVersion(dir, "") }

// BuildVersion is Build of a version; "" for the present one. It is built as packaging/release does, so that what is tested is
// what is published.
func BuildVersion(dir, version string) (string, error) {
	binary, flags := filepath.Join(dir, "devlxd"), "-s -w -buildid="
	if version != "" {
		flags += " -X main.version=" + version
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", flags, "-o", binary, "devlxd/cmd/devlxd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot build devlxd: %w\n%s", err, out)
	}
	return binary, nil
}

// Daemon is a "devlxd serve" of a test, on directories of its own. It belongs to
// the goroutine of its test.
type Daemon struct {
	T        testing.TB
	Binary   string
	RunDir   string
	StateDir string
	Args     []string        // more flags of serve
	Change   func(*exec.Cmd) // of the process before it is started; nil: nothing
	Cmd      *exec.Cmd       // nil: none runs
	Log      *Buffer         // of the process that runs, or ran last
	Exited   chan error      // what Wait of the process returned
}

// Buffer is written by a process and read by a test. Safe for concurrent use.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (s *Buffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

// String is what was written so far.
func (s *Buffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// New makes a daemon that is yet to be started. With the test it is ended and its
// directories are removed. The test is skipped without root.
func New(t testing.TB, binary string, args ...string) *Daemon {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: the daemon looks at processes of other users")
	}
	dir, err := os.MkdirTemp("", "dx-") // short: a socket path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{
		T: t, Binary: binary, RunDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state"), Args: args, Log: &Buffer{},
	}
	t.Cleanup(func() {
		d.Stop()
		os.RemoveAll(dir)
		if t.Failed() {
			t.Logf("log of the daemon:\n%s", d.Log)
		}
	})
	return d
}

// Start starts the daemon and waits until it serves.
func (d *Daemon) Start() {
	d.T.Helper()
	d.Launch()
	for deadline := time.Now().Add(startTime); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if strings.Contains(d.Log.String(), `"msg":"serving"`) {
			return
		}
		select {
		case err := <-d.Exited:
			d.Cmd = nil
			d.T.Fatalf("the daemon ended: %v\n%s", err, d.Log)
		default:
		}
	}
	d.T.Fatalf("the daemon does not serve\n%s", d.Log)
}

// Launch starts the daemon.
func (d *Daemon) Launch() {
	d.T.Helper()
	args := append([]string{"serve", "--run-dir", d.RunDir, "--state-dir", d.StateDir, "--metrics", "off"}, d.Args...)
	d.Cmd = exec.Command(d.Binary, args...)
	d.Log = &Buffer{}
	d.Cmd.Stderr = d.Log
	if d.Change != nil {
		d.Change(d.Cmd)
	}
	if err := d.Cmd.Start(); err != nil {
		d.T.Fatal(err)
	}
	exited := make(chan error, 1)
	d.Exited = exited
	go func(cmd *exec.Cmd) { exited <- cmd.Wait() }(d.Cmd)
}

// Stop sends SIGTERM and checks that the daemon ends well.
func (d *Daemon) Stop() {
	if d.Cmd == nil {
		return
	}
	_ = d.Cmd.Process.Signal(unix.SIGTERM)
	select {
	case err := <-d.Exited:
		if err != nil {
			d.T.Errorf("the daemon ended with %v\n%s", err, d.Log)
		}
	case <-time.After(stopTime):
		_ = d.Cmd.Process.Kill()
		<-d.Exited
		d.T.Errorf("the daemon did not end within %v of SIGTERM", stopTime)
	}
	d.Cmd = nil
}

// Kill ends the daemon as SIGKILL does.
func (d *Daemon) Kill() {
	_ = d.Cmd.Process.Kill()
	<-d.Exited
	d.Cmd = nil
}

// Socket is the guest socket.
func (d *Daemon) Socket() string { return filepath.Join(d.RunDir, "guest", "sock") }

// CLI runs a client command, which must succeed, and returns its output.
func (d *Daemon) CLI(args ...string) string {
	d.T.Helper()
	out, err := d.TryCLI(args...)
	if err != nil {
		d.T.Fatalf("devlxd %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// TryCLI runs a client command. Its error has what was written to standard error.
func (d *Daemon) TryCLI(args ...string) (string, error) {
	cmd := exec.Command(d.Binary, append(args, "--run-dir", d.RunDir)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, stderr.String())
	}
	return string(out), err
}

// Container starts a container without telling the daemon.
func (d *Daemon) Container(name string) *sandbox.Container {
	d.T.Helper()
	c, err := sandbox.Start(d.T.Context(), sandbox.Options{Name: name, Guest: filepath.Join(d.RunDir, "guest"), Cgroup: true})
	if err != nil {
		d.T.Fatal(err)
	}
	d.T.Cleanup(func() {
		if err := c.Stop(); err != nil {
			d.T.Errorf("stop container: %v", err)
		}
	})
	return c
}

// Bound starts a container, adds it, and sets its config.
func (d *Daemon) Bound(name string, config ...string) *sandbox.Container {
	d.T.Helper()
	c := d.Container(name)
	d.CLI("container", "add", name, "--pid", fmt.Sprint(c.PID()))
	if len(config) > 0 {
		d.CLI(append([]string{"config", "set", name}, config...)...)
	}
	return c
}
