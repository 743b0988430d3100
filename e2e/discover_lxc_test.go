package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"devlxd/internal/cgroup2"
	"devlxd/internal/daemontest"
)

// lxcRuntime is plain LXC, with unprivileged containers of one root directory.
type lxcRuntime struct {
	path string // lxc.lxcpath
	root string
	run  string // of the daemon
}

// lxcRootUID is the host uid of the containers' root.
const lxcRootUID = 100000

func newLXC(t *testing.T, run string) *lxcRuntime {
	t.Helper()
	for _, program := range []string{"lxc-start", "lxc-stop", "lxc-attach", "curl"} {
		need(t, program)
	}
	r := &lxcRuntime{root: rootfs(t, lxcRootUID), run: run}
	var err error
	if r.path, err = os.MkdirTemp("", "dx-lxc-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(r.path) })
	if err := os.Chmod(r.path, 0o755); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *lxcRuntime) start(t *testing.T, name string) {
	t.Helper()
	if err := r.tryStart(t, name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.stop(t, name) })
}

// tryStart is start for other goroutines than that of the test. Nobody stops the container.
func (r *lxcRuntime) tryStart(t *testing.T, name string) error {
	config := fmt.Sprintf(`lxc.uts.name = %[1]s
lxc.rootfs.path = dir:%[2]s
lxc.idmap = u 0 %[4]d 65536
lxc.idmap = g 0 %[4]d 65536
lxc.net.0.type = empty
lxc.apparmor.profile = unconfined
lxc.autodev = 1
lxc.mount.auto = proc:mixed
lxc.mount.entry = %[5]s usr none bind,ro 0 0
lxc.mount.entry = %[3]s/guest dev/lxd none bind,ro,create=dir 0 0
lxc.init.cmd = /usr/bin/sleep infinity
`, name, r.root, r.run, lxcRootUID, hostRoot)
	dir := filepath.Join(r.path, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o644); err != nil {
		return err
	}
	log := filepath.Join(dir, "log")
	if _, err := tryCommand(t, "lxc-start", "-P", r.path, "-n", name, "-d", "-o", log, "-l", "INFO"); err != nil {
		text, _ := os.ReadFile(log)
		return fmt.Errorf("%w\n%s", err, text)
	}
	return nil
}

func (r *lxcRuntime) stop(t *testing.T, name string) {
	t.Helper()
	_, _ = tryCommand(t, "lxc-stop", "-P", r.path, "-n", name, "-k") // fails where it does not run
	until(t, name+" is gone", func() bool {
		_, err := tryCommand(t, "lxc-wait", "-P", r.path, "-n", name, "-s", "STOPPED", "-t", "1")
		return err == nil
	})
}

func (r *lxcRuntime) attach(ctx context.Context, name string, argv ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "lxc-attach", append([]string{"-P", r.path, "-n", name, "--"}, argv...)...)
}

func TestDiscoverLXC(t *testing.T) {
	d := discovering(t, "lxc")
	testDiscovery(t, d, newLXC(t, d.RunDir))
}

// TestDiscoverLXCImpostor: root of a container makes cgroups below its own that are called as those of others are, and two containers have
// the same name.
func TestDiscoverLXCImpostor(t *testing.T) {
	d := discovering(t, "lxc")
	r := newLXC(t, d.RunDir)
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	d.Start()
	evil, late, victim := fmt.Sprintf("dx%d-evil", os.Getpid()), fmt.Sprintf("dx%d-late", os.Getpid()), fmt.Sprintf("dx%d-victim", os.Getpid())
	r.start(t, evil)
	d.waitState(evil, "running")
	own := filepath.Join(cgroup2.Mount(string(text)), "lxc.payload."+evil)
	fake := filepath.Join(own, "lxc.payload."+victim)
	cmd := exec.Command("mkdir", fake)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: lxcRootUID, Gid: lxcRootUID}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the container's root cannot make a cgroup: %v: %s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	// Process 1 of a namespace below, and in the cgroup with the name of the victim.
	inner := r.attach(ctx, evil, "unshare", "-pf", "sh", "-c", `echo "lxc.init $$"; read line; curl -sS --unix-socket /dev/lxd/sock http://lxd/1.0/meta-data`)
	stdin, err := inner.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out daemontest.Buffer
	inner.Stdout, inner.Stderr = &out, &out
	if err := inner.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the inner process runs", func() bool { return strings.Contains(out.String(), "lxc.init 1") })
	pids, err := os.ReadFile(filepath.Join(own, ".lxc", "cgroup.procs"))
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range strings.Fields(string(pids)) {
		if err := os.WriteFile(filepath.Join(fake, "cgroup.procs"), []byte(pid), 0); err != nil {
			t.Fatal(err)
		}
	}
	r.start(t, late)
	d.waitState(late, "running")
	if got := d.listed(victim); got != "absent" {
		t.Errorf("the container that does not exist is %s", got)
	}
	if _, err := stdin.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	if err := inner.Wait(); err != nil {
		t.Errorf("%v: %s", err, out.String())
	}
	if got := out.String(); !strings.Contains(got, "local-hostname: "+evil) {
		t.Errorf("the process in the victim's name is told %q; want that it is %s", got, evil)
	}
	// The same name in another LXCPATH: LXC appends -1 to the cgroup.
	other := newLXC(t, d.RunDir)
	other.start(t, late)
	r.start(t, victim)
	d.waitState(victim, "running")
	if got := d.listed(late + "-1"); got != "absent" {
		t.Errorf("a container of the name that LXC has made up is %s", got)
	}
	r.stop(t, late)
	until(t, "the second of a name has its turn", func() bool {
		return d.listed(late) == "running" && strings.Contains(asks(t, other, late, "/1.0/meta-data").body, late)
	})
}
