// Package e2e tests the built binary as its users meet it: an operator with the
// command line, and guests in real containers with clients that were not
// written here (curl, Node, cloud-init, coder/websocket).
package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"devlxd/internal/daemontest"
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
	if binary, err = daemontest.Build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	for _, err := range documented.Failures() {
		fmt.Fprintln(os.Stderr, "not documented:", err)
		code = max(code, 1)
	}
	return code
}

// daemon is a running "devlxd serve".
type daemon struct {
	*daemontest.Daemon
	t *testing.T
}

// serve starts a daemon on directories of its own and ends it with the test.
func serve(t *testing.T, args ...string) *daemon {
	t.Helper()
	d := newDaemon(t, args...)
	d.Start()
	return d
}

// newDaemon is serve of a daemon that is yet to be started.
func newDaemon(t *testing.T, args ...string) *daemon {
	t.Helper()
	d := &daemon{Daemon: daemontest.New(t, binary, args...), t: t}
	if os.Getenv(confineAllEnv) != "" {
		d.Change = func(cmd *exec.Cmd) { confined(cmd, readUnit(t).confinement(d)) }
	}
	return d
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
	to := filepath.Join(d.RunDir, "guest", name)
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		d.t.Fatal(err)
	}
	return "/dev/lxd/" + name
}
