package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/internal/daemontest"
)

// containerRuntime starts real containers that have the guest directory of a daemon at /dev/lxd.
type containerRuntime interface {
	start(t *testing.T, name string)
	stop(t *testing.T, name string) // also one that does not run
	// attach is a command inside a container.
	attach(ctx context.Context, name string, argv ...string) *exec.Cmd
}

// hostRoot is what a container of the tests mounts of the host, so that curl runs in it.
const hostRoot = "/usr"

// rootfs makes a root directory of containers, owned by uid, to be mounted with the host's /usr in it.
func rootfs(t *testing.T, uid int) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dx-root-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, name := range []string{"", "usr", "dev", "dev/lxd", "proc", "sys", "tmp", "run", "etc", "var", "root"} {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{os.Chmod(at, 0o755), os.Chown(at, uid, uid)} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+name, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"etc/passwd": "root:x:0:0::/root:/bin/sh\n", "etc/group": "root:x:0:\n", "etc/os-release": "ID=tests\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// command runs a program of a runtime, which must succeed.
func command(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := tryCommand(t, argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tryCommand(t *testing.T, argv ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = time.Second // what a daemon of the program still has open is none of ours
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, stderr.String())
	}
	return stdout.String(), nil
}

// asks is the answer that a container gets, from inside of it.
func asks(t *testing.T, r containerRuntime, name, path string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	args := curlArgs(path)
	out, err := r.attach(ctx, name, args...).Output()
	if err != nil {
		t.Fatalf("%s in %s: %v", strings.Join(args, " "), name, err)
	}
	return parseAnswer(string(out))
}

// discovering makes a daemon that finds the containers of a runtime.
func discovering(t *testing.T, runtime string) *daemon {
	t.Helper()
	d := newDaemon(t, "--discover", runtime)
	confine := d.Change
	makeUpgradable(t, d)
	if log := d.Change; confine != nil {
		d.Change = func(cmd *exec.Cmd) { confine(cmd); log(cmd) }
	}
	// Root of a container has to reach the guest directory when it is mounted.
	if err := os.Chmod(filepath.Dir(d.RunDir), 0o755); err != nil {
		t.Fatal(err)
	}
	return d
}

// testDiscovery is the story of the containers of one runtime: found when the daemon starts and when they start, known by their names,
// kept over a restart of the daemon and an upgrade, and forgotten.
func testDiscovery(t *testing.T, d *daemon, r containerRuntime) {
	before, after := fmt.Sprintf("dx%d-a", os.Getpid()), fmt.Sprintf("dx%d-b", os.Getpid())
	if err := os.MkdirAll(filepath.Join(d.RunDir, "guest"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(d.RunDir, 0o755); err != nil {
		t.Fatal(err)
	}
	r.start(t, before)
	d.Start()
	if got := d.listed(before); got != "running" {
		t.Fatalf("a container that ran before the daemon is %s", got)
	}
	d.CLI("config", "set", before, "user.a=1") // which stores it
	r.start(t, after)
	d.waitState(after, "running")
	for name, want := range map[string]string{before: `["/1.0/config/user.a"]`, after: `[]`} {
		if got := asks(t, r, name, "/1.0/config"); strings.TrimSpace(got.body) != want {
			t.Errorf("%s is told %+v; want %s", name, got, want)
		}
	}
	d.Stop()
	d.Start()
	for _, name := range []string{before, after} {
		if got := d.listed(name); got != "running" {
			t.Errorf("after a restart of the daemon %s is %s", name, got)
		}
	}
	testDiscoveryUpgrade(t, d, r, after)
	d.CLI("container", "remove", after)
	r.stop(t, after)
	r.start(t, after) // not stored any more
	d.waitState(after, "running")
	r.stop(t, before)
	r.stop(t, after)
	d.waitState(before, "stopped")
	d.waitState(after, "absent")
	r.start(t, before)
	d.waitState(before, "running")
	if got := asks(t, r, before, "/1.0/config/user.a"); got.body != "1" {
		t.Errorf("started again, %s is told %+v", before, got)
	}
}

// testDiscoveryUpgrade: the event stream of a container that is not stored goes on in the new process.
func testDiscoveryUpgrade(t *testing.T, d *daemon, r containerRuntime, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := r.attach(ctx, name, "curl", "-sSN", "--unix-socket", "/dev/lxd/sock", "http://lxd/1.0/events")
	cmd.WaitDelay = time.Second // the process inside outlives the one that is killed
	var out daemontest.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the event stream: %s", out.String())
		}
	}()
	until(t, "the container subscribes", func() bool { return d.status().Subscribers == 1 })
	d.upgrade()
	// What the runtime leaves behind is for process 1: a container ends only when all of its processes were waited for.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if got := d.listed(name); got != "running" {
		t.Errorf("after an upgrade %s is %s", name, got)
	}
	d.CLI("config", "set", name, "user.b=2")
	until(t, "the event arrives", func() bool { return strings.Contains(out.String(), "user.b") })
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not come to that %s", what)
		}
	}
}
