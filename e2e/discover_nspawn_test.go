package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"devlxd/internal/cgroup2"
)

// nspawnRuntime is systemd-nspawn, in the scope that systemd would have made for it.
type nspawnRuntime struct {
	roots map[string]string // each container has a lock on its own
	run   string            // of the daemon
	slice string            // the path of machine.slice
	cmds  map[string]*exec.Cmd
}

func newNspawn(t *testing.T, run string) *nspawnRuntime {
	t.Helper()
	for _, program := range []string{"systemd-nspawn", "nsenter", "curl"} {
		need(t, program)
	}
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	mount := cgroup2.Mount(string(text))
	if mount == "" {
		t.Skip("needs cgroup v2")
	}
	r := &nspawnRuntime{
		roots: make(map[string]string), run: run, slice: filepath.Join(mount, "machine.slice"), cmds: make(map[string]*exec.Cmd),
	}
	if err := os.Mkdir(r.slice, 0o755); err == nil {
		t.Cleanup(func() {
			_ = os.Remove(r.slice) // not while somebody else uses it
			_ = cgroup2.RemoveTree("/sys/fs/cgroup/systemd/machine.slice")
		})
	} else if !os.IsExist(err) {
		t.Fatal(err)
	}
	return r
}

func (r *nspawnRuntime) scope(name string) string {
	return filepath.Join(r.slice, "machine-"+strings.ReplaceAll(name, "-", `\x2d`)+".scope")
}

// inCgroup has a command start in a cgroup.
func inCgroup(t *testing.T, cmd *exec.Cmd, dir string) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())}
}

func (r *nspawnRuntime) start(t *testing.T, name string) {
	t.Helper()
	if r.roots[name] == "" {
		r.roots[name] = rootfs(t, lxcRootUID)
	}
	if err := os.Mkdir(r.scope(name), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("systemd-nspawn", "-q", "-D", r.roots[name], "-M", name, "--register=no", "--keep-unit", "--private-network",
		"--private-users=100000:65536", "--bind-ro="+hostRoot, "--bind-ro="+filepath.Join(r.run, "guest")+":/dev/lxd", "--volatile=no",
		"--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=pipe", "--", "/usr/bin/sleep", "infinity")
	inCgroup(t, cmd, r.scope(name))
	out, err := os.CreateTemp("", "dx-nspawn-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(out.Name()) })
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.cmds[name] = cmd
	t.Cleanup(func() { r.stop(t, name) })
	for deadline := time.Now().Add(60 * time.Second); r.init(name) == ""; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(out.Name())
			t.Fatalf("%s does not start: %s", name, text)
		}
	}
}

// init is the pid of a container's init; "": it does not run yet.
func (r *nspawnRuntime) init(name string) string {
	text, err := os.ReadFile(filepath.Join(r.scope(name), "payload", "cgroup.procs"))
	pids := strings.Fields(string(text))
	if err != nil || len(pids) == 0 {
		return ""
	}
	if args, _ := os.ReadFile("/proc/" + pids[0] + "/cmdline"); !strings.HasPrefix(string(args), "/usr/bin/sleep") {
		return ""
	}
	return pids[0]
}

func (r *nspawnRuntime) stop(t *testing.T, name string) {
	t.Helper()
	cmd := r.cmds[name]
	if cmd == nil {
		return
	}
	delete(r.cmds, name)
	if pid, err := strconv.Atoi(r.init(name)); err == nil {
		_ = syscall.Kill(pid, syscall.SIGKILL) // the supervisor ends after it
	} else {
		_ = cmd.Process.Kill()
	}
	_ = cmd.Wait()
	until(t, name+" is gone", func() bool { return cgroup2.RemoveTree(r.scope(name)) == nil })
}

func (r *nspawnRuntime) attach(ctx context.Context, name string, argv ...string) *exec.Cmd {
	// Through a shell, which is in the cgroup before it enters the namespaces.
	script := `echo $$ > "$0/cgroup.procs" && pid=$1 && shift && exec nsenter -t "$pid" -a -S 0 -G 0 "$@"`
	return exec.CommandContext(ctx, "sh", append([]string{"-c", script, filepath.Join(r.scope(name), "payload"), r.init(name)}, argv...)...)
}

func TestDiscoverNspawn(t *testing.T) {
	d := discovering(t, "nspawn")
	testDiscovery(t, d, newNspawn(t, d.RunDir))
}
