package faults

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// cgroupMounts are the mount points of cgroup2.
func cgroupMounts(t *testing.T) (points []string) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if before, after, ok := strings.Cut(line, " - "); ok && strings.HasPrefix(after, "cgroup2 ") {
			points = append(points, strings.Fields(before)[4]) // see proc(5)
		}
	}
	need(t, len(points) > 0, "cgroup v2")
	return points
}

// TestCgroupTreeUnmounted: the cgroup2 tree is unmounted under the running daemon. It holds a descriptor on it, so that containers and their leaf cgroups are
// known as before, and another one can be bound; once it is mounted again nothing has changed either.
func TestCgroupTreeUnmounted(t *testing.T) {
	t.Parallel()
	points := cgroupMounts(t)
	d := serve(t, launch{})
	web := d.Bound("web", "user.a=1")
	d.within(func() error {
		for _, p := range points {
			if err := unix.Unmount(p, unix.MNT_DETACH); err != nil {
				return err
			}
		}
		return nil
	})
	g := d.guest(web)
	g.wantConfig("user.a", "1")
	g.tell("leaf", "lxc.payload.db")
	g.says("moved")
	g.wantConfig("user.a", "1")
	db := d.Bound("db", "user.a=2")
	d.guest(db).wantConfig("user.a", "2")
	if n := strings.Count(d.Log.String(), `"msg":"container bound","`); n != 2 {
		t.Errorf("%d containers are bound with their cgroup; want 2", n)
	}
	d.within(func() error {
		if err := os.MkdirAll(points[0], 0o755); err != nil {
			return err
		}
		return unix.Mount("cgroup2", points[0], "cgroup2", 0, "")
	})
	d.guest(d.Bound("new", "user.a=3")).wantConfig("user.a", "3")
	g.wantConfig("user.a", "1")
	d.wantNoFault()
	if n := d.metric("devlxd_peers_rejected_total"); n != 0 {
		t.Errorf("%v guests were refused", n)
	}
}

// TestStartWithoutCgroupTree: the tree is not there when the daemon starts. Containers are known by their pid namespace; that is told, and after a restart
// with the tree they are known by their cgroup again.
func TestStartWithoutCgroupTree(t *testing.T) {
	t.Parallel()
	d := serve(t, launch{Detach: cgroupMounts(t)})
	eventually(t, "it is told", func() bool { return d.active("no_cgroups") })
	if got := d.lines("no_cgroups"); len(got) != 1 || got[0] != "WARN containers are known by their pid namespace alone: mount cgroup2 and restart devlxd" {
		t.Errorf("the log says %q", got)
	}
	web, db := d.Bound("web", "user.a=1"), d.Bound("db", "user.a=2")
	g := d.guest(web)
	g.wantConfig("user.a", "1")
	d.guest(db).wantConfig("user.a", "2")
	if !strings.Contains(d.Log.String(), "container bound by its pid namespace alone") {
		t.Error("the log does not say how the containers are bound")
	}
	d.Stop()
	d.host.Detach = nil
	d.Start()
	g.wantConfig("user.a", "1")
	g.tell("leaf", "x")
	g.says("moved")
	g.wantConfig("user.a", "1")
	d.wantNoFault()
}

// remountProc changes the options of the daemon's /proc.
func (d *daemon) remountProc(options string) {
	d.T.Helper()
	d.within(func() error { return unix.Mount("proc", "/proc", "proc", unix.MS_REMOUNT, options) })
}

// TestHidePid: /proc with hidepid, from the start and under the running daemon. CAP_SYS_PTRACE sees through it.
func TestHidePid(t *testing.T) {
	t.Parallel()
	d := serve(t, launch{Proc: "hidepid=2"})
	g := d.guest(d.Bound("web", "user.a=1"))
	g.wantConfig("user.a", "1")
	for i, options := range []string{"hidepid=1", "hidepid=4", "hidepid=0"} {
		d.remountProc(options)
		name := fmt.Sprint("c", i)
		d.guest(d.Bound(name, "user.a="+name)).wantConfig("user.a", name)
		g.wantConfig("user.a", "1")
	}
	d.wantNoFault()
}

// TestHidePidWithoutPtrace: without the capability the process of a privileged container is hidden. It is not taken for one that has
// stopped: what is known of it is kept, and a restart with the capability finds it. Others are not concerned.
func TestHidePidWithoutPtrace(t *testing.T) {
	t.Parallel()
	d := serve(t, launch{})
	g := d.guest(d.Bound("web", "user.a=1"))
	g.wantConfig("user.a", "1")
	init := exec.Command("sleep", "600")
	init.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	if err := init.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = init.Process.Kill()
		_ = init.Wait()
	})
	d.CLI("container", "add", "privileged", "--pid", fmt.Sprint(init.Process.Pid))
	d.Stop()
	d.host.Proc, d.host.NoPtrace = "hidepid=4", true // 2 does not apply to the group of root
	d.Start()
	d.wantHeld("hidden_process", "a container is not bound, for its process is hidden")
	bind := []string{"container", "bind", "privileged", "--pid", fmt.Sprint(init.Process.Pid)}
	for range 2 {
		d.refused("the process is hidden from the server: give devlxd CAP_SYS_PTRACE, or remount /proc without hidepid", bind...)
	}
	if got := d.lines("hidden_process"); len(got) != 1 {
		t.Errorf("the log says %q; want one line", got)
	}
	if !strings.Contains(d.Log.String(), "container left stopped: its process cannot be examined; bind it again") {
		t.Error("the log does not say that the container could not be looked at")
	}
	g.wantConfig("user.a", "1")
	d.guest(d.Bound("new", "user.a=2")).wantConfig("user.a", "2")
	d.wantHeld("hidden_process", "its process is hidden") // as before
	d.Stop()
	d.host.NoPtrace = false
	d.Start()
	d.refused("runs already", bind...) // nobody had to bind it
	d.wantNoFault()
	d.Stop()
	d.host.NoPtrace = true
	d.Start()
	d.wantHeld("hidden_process", "its process is hidden")
	_ = init.Process.Kill()
	_ = init.Wait()
	d.refused("no such", bind...)
	d.wantPassed("hidden_process", "is hidden any more")
}
