// Package e2e tests the built binary as its users meet it: an operator with the
// command line, and guests in real containers with clients that were not
// written here (curl, Node, cloud-init, coder/websocket).
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
	"devlxd/peer/peertest"
)

// binary is the devlxd under test, built once.
var binary string

func TestMain(m *testing.M) {
	becomeConfined()
	peertest.Child()
	sandbox.Main(roles)
	badSuccessor()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "devlxd-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // for daemons of other users
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	binary = filepath.Join(dir, "devlxd")
	build := exec.Command("go", "build", "-o", binary, "devlxd/cmd/devlxd")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "cannot build devlxd: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// daemon is a running "devlxd serve".
type daemon struct {
	t      *testing.T
	runDir string
	state  string
	args   []string
	cmd    *exec.Cmd
	change func(*exec.Cmd) // of the process before it is started; nil: nothing
	log    *syncBuffer
	exited chan error
}

// syncBuffer is a buffer that the process's output and the test share.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// serve starts a daemon on directories of its own and ends it with the test.
func serve(t *testing.T, args ...string) *daemon {
	t.Helper()
	d := newDaemon(t, args...)
	d.start()
	return d
}

// newDaemon is serve of a daemon that is yet to be started.
func newDaemon(t *testing.T, args ...string) *daemon {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: the daemon looks at processes of other users")
	}
	dir, err := os.MkdirTemp("", "dx-") // short: a socket path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{t: t, runDir: filepath.Join(dir, "run"), state: filepath.Join(dir, "state"), args: args, log: &syncBuffer{}}
	t.Cleanup(func() {
		d.stop()
		os.RemoveAll(dir)
		if t.Failed() {
			t.Logf("log of the daemon:\n%s", d.log)
		}
	})
	return d
}

// start starts the daemon and waits until it serves.
func (d *daemon) start() {
	d.t.Helper()
	d.launch()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if strings.Contains(d.log.String(), `"msg":"serving"`) {
			return
		}
		select {
		case err := <-d.exited:
			d.cmd = nil
			d.t.Fatalf("the daemon ended: %v\n%s", err, d.log)
		default:
		}
	}
	d.t.Fatalf("the daemon does not serve\n%s", d.log)
}

// launch starts the daemon.
func (d *daemon) launch() {
	d.t.Helper()
	args := append([]string{"serve", "--run-dir", d.runDir, "--state-dir", d.state, "--metrics", "off"}, d.args...)
	d.cmd = exec.Command(binary, args...)
	d.log = &syncBuffer{}
	d.cmd.Stderr = d.log
	switch {
	case d.change != nil:
		d.change(d.cmd)
	case os.Getenv(confineAllEnv) != "":
		confined(d.cmd, readUnit(d.t).confinement(d))
	}
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	exited := make(chan error, 1)
	d.exited = exited
	go func(cmd *exec.Cmd) { exited <- cmd.Wait() }(d.cmd)
}

// stop sends SIGTERM and checks that the daemon ends well.
func (d *daemon) stop() {
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Signal(unix.SIGTERM)
	select {
	case err := <-d.exited:
		if err != nil {
			d.t.Errorf("the daemon ended with %v\n%s", err, d.log)
		}
	case <-time.After(15 * time.Second):
		_ = d.cmd.Process.Kill()
		d.t.Error("the daemon did not end within 15 s of SIGTERM")
	}
	d.cmd = nil
}

func (d *daemon) socket() string { return filepath.Join(d.runDir, "guest", "sock") }

// cli runs a client command, which must succeed, and returns its output.
func (d *daemon) cli(args ...string) string {
	d.t.Helper()
	out, err := d.tryCLI(args...)
	if err != nil {
		d.t.Fatalf("devlxd %s: %v", strings.Join(args, " "), err)
	}
	return out
}

func (d *daemon) tryCLI(args ...string) (string, error) {
	cmd := exec.Command(binary, append(args, "--run-dir", d.runDir)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, stderr.String())
	}
	return string(out), err
}

// container starts a container without telling the daemon.
func (d *daemon) container(name string) *sandbox.Container {
	d.t.Helper()
	c, err := sandbox.Start(d.t.Context(), sandbox.Options{Name: name, Guest: filepath.Join(d.runDir, "guest"), Cgroup: true})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			d.t.Errorf("stop container: %v", err)
		}
	})
	return c
}

// bound starts a container, adds it, and sets its config.
func (d *daemon) bound(name string, config ...string) *sandbox.Container {
	d.t.Helper()
	c := d.container(name)
	d.cli("container", "add", name, "--pid", fmt.Sprint(c.PID()))
	if len(config) > 0 {
		d.cli(append([]string{"config", "set", name}, config...)...)
	}
	return c
}

// in runs a program in a container, as its root, and returns its output.
func in(t *testing.T, c *sandbox.Container, argv ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	out, err := c.Command(ctx, argv...).Output()
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(argv, " "), err)
	}
	return string(out)
}

// guest runs a role of this test binary in a container and decodes its JSON.
func guest(t *testing.T, c *sandbox.Container, v any, role string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	out, err := c.Guest(ctx, role, args...).Output()
	if err != nil {
		t.Fatalf("%s: %v", role, err)
	}
	if err := json.Unmarshal(out, v); err != nil {
		t.Fatalf("%s printed %q: %v", role, out, err)
	}
}

// need skips a test whose program is not installed.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); errors.Is(err, exec.ErrNotFound) {
		t.Skipf("needs %s in PATH", program)
	}
}

// share copies a folder to where containers see it, below /dev/lxd, and
// returns its path inside.
func (d *daemon) share(from, name string) string {
	d.t.Helper()
	to := filepath.Join(d.runDir, "guest", name)
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		d.t.Fatal(err)
	}
	return "/dev/lxd/" + name
}
