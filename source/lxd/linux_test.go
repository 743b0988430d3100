package lxd

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"devlxd/source"
)

// helperVariable makes the test binary a process that starts another one, with these clone flags, and waits.
const helperVariable = "DEVLXD_TEST_MONITOR"

// helped reports whether this process was the helper.
func helped() bool {
	flags, err := strconv.ParseUint(os.Getenv(helperVariable), 0, 64)
	if err != nil {
		return false
	}
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: uintptr(flags), Pdeathsig: syscall.SIGKILL}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	if err := cmd.Start(); err != nil {
		fmt.Println(err)
		return true
	}
	fmt.Println(cmd.Process.Pid)
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return true
}

// monitor starts a process with a title and a child, and returns both pids. wrap changes how it is started.
func monitor(t *testing.T, title string, child uintptr, wrap func(*exec.Cmd)) (pid, init int) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a monitor is a process of root's")
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{title}
	cmd.Env = []string{fmt.Sprintf("%s=%d", helperVariable, child), "PATH=" + os.Getenv("PATH")}
	if wrap != nil {
		wrap(cmd)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	line := make([]byte, 64)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	if init, err = strconv.Atoi(strings.TrimSpace(string(line[:n]))); err != nil {
		t.Fatalf("helper says %q", line[:n])
	}
	return cmd.Process.Pid, init
}

// cgroups makes a tree as liblxc's, with the monitors in it.
func cgroups(t *testing.T, pids map[string]int) string {
	dir := t.TempDir()
	for name, pid := range pids {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "cgroup.procs"), []byte(strconv.Itoa(pid)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestFindInit: the init of a container is the child of its monitor, whatever the number behind the cgroup's name.
func TestFindInit(t *testing.T) {
	const title = "[lxc monitor] /var/lib/lxd/containers c1"
	dirs := []string{"/elsewhere", "/var/lib/lxd"}
	pid, init := monitor(t, title, unix.CLONE_NEWPID, nil)
	for _, cgroup := range []string{"lxc.monitor.c1", "lxc.monitor.c1-1", "lxc.monitor.c1-7"} {
		l := &linux{proc: "/proc", cgroups: cgroups(t, map[string]int{cgroup: pid})}
		if got := l.inits(dirs, "c1"); len(got) != 1 || got[0] != init {
			t.Errorf("%s: found %v; want %d", cgroup, got, init)
		}
		for _, wrong := range []struct {
			dirs []string
			name string
		}{{dirs, "c2"}, {dirs, "c1-1"}, {[]string{"/var/lib/incus"}, "c1"}, {nil, "c1"}, {dirs, "../c1"}} {
			if got := l.inits(wrong.dirs, wrong.name); len(got) != 0 {
				t.Errorf("%s: found %v for %v %q", cgroup, got, wrong.dirs, wrong.name)
			}
		}
	}
	l := &linux{proc: "/proc"}
	if got := l.inits(dirs, "c1"); got != nil {
		t.Errorf("found %v without cgroups", got)
	}
	if !l.proves(dirs, "c1", init) {
		t.Error("the init is not proved")
	}
	for pid, why := range map[int]string{pid: "the monitor itself", os.Getpid(): "this process", 1: "init", 1 << 30: "no process"} {
		if l.proves(dirs, "c1", pid) {
			t.Errorf("%s is taken for the init", why)
		}
	}
	if l.proves(dirs, "c2", init) {
		t.Error("it is taken for the init of another container")
	}
}

// TestImpostors: a process with the title of a monitor that is none is not taken for one.
func TestImpostors(t *testing.T) {
	const title = "[lxc monitor] /var/lib/lxd/containers c1"
	dirs := []string{"/var/lib/lxd"}
	for name, start := range map[string]func() (pid, init int){
		"another user": func() (int, int) {
			return monitor(t, title, 0, func(c *exec.Cmd) {
				c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
				exe, err := os.CreateTemp("", "helper")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = os.Remove(exe.Name()) })
				copyTo(t, exe)
				c.Path = exe.Name()
			})
		},
		"root of a privileged container": func() (int, int) {
			pid, _ := monitor(t, title, unix.CLONE_NEWPID, func(c *exec.Cmd) {
				c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
			})
			children := readPIDs(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
			if len(children) != 1 {
				t.Fatalf("children %v", children)
			}
			return pid, children[0]
		},
		"child in the host's namespace": func() (int, int) { return monitor(t, title, 0, nil) },
		"longer title":                  func() (int, int) { return monitor(t, title+" x", unix.CLONE_NEWPID, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			pid, init := start()
			l := &linux{proc: "/proc", cgroups: cgroups(t, map[string]int{"lxc.monitor.c1": pid})}
			if got := l.inits(dirs, "c1"); len(got) != 0 {
				t.Errorf("found %v", got)
			}
			if l.proves(dirs, "c1", init) {
				t.Error("its child is taken for the init")
			}
		})
	}
}

func copyTo(t *testing.T, to *os.File) {
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Chmod(0o755); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestEnded: a process has ended when its pid is nobody's, another's, or a zombie's.
func TestEnded(t *testing.T) {
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l := &linux{proc: "/proc"}
	f := source.Facts{PID: cmd.Process.Pid}
	fd, err := unix.PidfdOpen(f.PID, 0)
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(fd)
	f.PidfdInode = st.Ino
	if l.ended(f) {
		t.Error("a process that lives has ended")
	}
	if other := (source.Facts{PID: f.PID, PidfdInode: f.PidfdInode + 1}); !l.ended(other) {
		t.Error("another process is taken for it")
	}
	_ = cmd.Process.Kill()
	eventually(t, "a zombie lives", func() error {
		if !l.ended(f) {
			return fmt.Errorf("yet")
		}
		return nil
	})
	_ = cmd.Wait()
	if !l.ended(f) || !l.ended(source.Facts{}) {
		t.Error("a process that is gone lives")
	}
}
