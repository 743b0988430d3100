package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
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
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "log")
	if _, err := tryCommand(t, "lxc-start", "-P", r.path, "-n", name, "-d", "-o", log, "-l", "INFO"); err != nil {
		text, _ := os.ReadFile(log)
		t.Fatalf("%v\n%s", err, text)
	}
	t.Cleanup(func() { r.stop(t, name) })
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
