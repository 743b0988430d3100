package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// started starts a container that ends with the test, and checks that it leaves nothing.
func started(t *testing.T, o Options) *Container {
	t.Helper()
	before := mountinfo(t)
	c, err := Start(t.Context(), o)
	if errors.Is(err, ErrUnavailable) {
		t.Skipf("needs namespaces: %v", err)
	}
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Errorf("Stop: %v", err)
		}
		if err := unix.Kill(c.PID(), 0); err != unix.ESRCH {
			t.Errorf("init %d after Stop: %v, want ESRCH", c.PID(), err)
		}
		if c.Cgroup() != "" {
			if _, err := os.Stat(c.Cgroup()); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("cgroup after Stop: %v, want that it does not exist", err)
			}
		}
		if after := mountinfo(t); after != before {
			t.Errorf("mounts before:\n%s\nafter:\n%s", before, after)
		}
	})
	return c
}

func mountinfo(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func needRoot(t *testing.T, why string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: " + why)
	}
}

// listen makes a socket in a directory that is open to nobody but the caller, as
// t.TempDir makes them.
func listen(t *testing.T, dir string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for path, mode := range map[string]os.FileMode{dir: 0o755, filepath.Join(dir, "sock"): 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// accept takes a connection, answers, and returns who connected.
func accept(t *testing.T, l *net.UnixListener, answer string) *unix.Ucred {
	t.Helper()
	if err := l.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	c, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var cred *unix.Ucred
	if err := errors.Join(raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}), err); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte(answer)); err != nil {
		t.Fatal(err)
	}
	return cred
}

func TestInside(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hello"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	c := started(t, Options{Name: "web-1", Guest: dir, Cgroup: true})
	out, err := c.Guest(t.Context(), "facts").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"host=web-1\n", "uid=0 gid=0 ppid=1\n", "ls /dev/lxd=hello <nil>\n", "processes=2 <nil>\n", "propagated=false <nil>\n",
		"write /dev/lxd/x=open /dev/lxd/x: read-only file system\n", "write /usr/x=open /usr/x: read-only file system\n",
		"write /tmp/x=<nil>\n", "write /dev/null=<nil>\n", "zero=00000000 <nil>\n", `cmdline="facts\x00" <nil>` + "\n",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no line %q in:\n%s", want, out)
		}
	}
	for _, name := range []string{"null", "zero", "urandom", "tty", "lxd"} {
		if !strings.Contains(lineOf(out, "ls /dev="), " "+name+" ") {
			t.Errorf("no /dev/%s in %s", name, lineOf(out, "ls /dev="))
		}
	}
	for _, name := range []string{"home", "boot", "srv"} {
		if strings.Contains(lineOf(out, "ls /="), " "+name+" ") {
			t.Errorf("the host's /%s is in the container: %s", name, lineOf(out, "ls /="))
		}
	}
}

func lineOf(text []byte, prefix string) string {
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			return " " + strings.TrimSpace(rest) + " "
		}
	}
	return ""
}

func TestPeerSeesMappedRoot(t *testing.T) {
	dir := t.TempDir()
	c := started(t, Options{Name: "web", Guest: dir, Cgroup: true})
	l := listen(t, dir) // after the start: the directory is shown, not what was in it
	run := func(change func(*Cmd)) (*unix.Ucred, *Cmd, *bytes.Buffer) {
		var out bytes.Buffer
		cmd := c.Guest(t.Context(), "dial", "/dev/lxd/sock")
		cmd.Stdout, cmd.Stderr = &out, os.Stderr
		change(cmd)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return accept(t, l, "hello"), cmd, &out
	}
	t.Run("root", func(t *testing.T) {
		cred, cmd, out := run(func(*Cmd) {})
		if err := cmd.Wait(); err != nil || out.String() != "hello" {
			t.Errorf("guest: %q, %v, want hello", out, err)
		}
		if cred.Uid != c.RootUID() {
			t.Errorf("peer uid = %d, want %d", cred.Uid, c.RootUID())
		}
		if os.Geteuid() != 0 && c.RootUID() != uint32(os.Geteuid()) {
			t.Errorf("RootUID = %d, want the caller's %d", c.RootUID(), os.Geteuid())
		}
	})
	t.Run("uid 1000", func(t *testing.T) {
		needRoot(t, "only root maps more than one uid")
		cred, cmd, _ := run(func(m *Cmd) { m.UID, m.GID = 1000, 1000 })
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		if want := c.RootUID() + 1000; cred.Uid != want || cred.Gid != want {
			t.Errorf("peer = %d:%d, want %d:%d", cred.Uid, cred.Gid, want, want)
		}
	})
	t.Run("nested pid namespace", func(t *testing.T) {
		cred, cmd, _ := run(func(m *Cmd) { m.PidNS = true })
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		if cred.Uid != c.RootUID() {
			t.Errorf("peer uid = %d, want %d", cred.Uid, c.RootUID())
		}
	})
	t.Run("nested user namespace", func(t *testing.T) {
		for uid, want := range map[uint32]uint32{0: c.RootUID(), 1000: c.RootUID() + 1000} {
			if uid != 0 && c.IDs() == 1 {
				continue // only root maps more than one uid
			}
			cred, cmd, _ := run(func(m *Cmd) { m.UserNS, m.PidNS, m.UID, m.GID = true, true, uid, uid })
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			if cred.Uid != want {
				t.Errorf("peer uid of the namespace of %d = %d, want %d", uid, cred.Uid, want)
			}
		}
	})
	t.Run("forged argv", func(t *testing.T) {
		const forged = "[lxc monitor] /var/lib/lxc db"
		m := c.Guest(t.Context(), "facts")
		m.Args = []string{forged}
		out, err := m.Output()
		if want := fmt.Sprintf("cmdline=%q <nil>\n", forged+"\x00"); err != nil || !strings.Contains(string(out), want) {
			t.Errorf("got %s, %v, want %s", out, err, want)
		}
	})
}

func TestContainersDiffer(t *testing.T) {
	web := started(t, Options{Name: "web", Cgroup: true})
	db := started(t, Options{Name: "db", Cgroup: true})
	for _, kind := range []string{"pid", "user", "mnt", "uts"} {
		seen := make(map[string]string)
		for name, pid := range map[string]int{"host": os.Getpid(), "web": web.PID(), "db": db.PID()} {
			ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
			if err != nil {
				t.Fatal(err)
			}
			if other, ok := seen[ns]; ok {
				t.Errorf("%s and %s share the namespace %s", name, other, ns)
			}
			seen[ns] = name
		}
	}
	if os.Geteuid() == 0 && web.RootUID() == db.RootUID() {
		t.Errorf("both roots are %d", web.RootUID())
	}
}

func TestHostID(t *testing.T) {
	needRoot(t, "anyone else maps his own uid")
	c := started(t, Options{Name: "web", HostID: 300000})
	if c.RootUID() != 300000 || c.IDs() != 65536 {
		t.Errorf("root is %d of %d ids, want 300000 of 65536", c.RootUID(), c.IDs())
	}
}

func TestNestedPidNSIsInit(t *testing.T) {
	c := started(t, Options{Name: "web"})
	m := c.Guest(t.Context(), "facts")
	m.PidNS = true
	out, err := m.Output()
	if err != nil || !strings.Contains(string(out), "ppid=0\n") {
		t.Errorf("got %s, %v, want a process without a parent in its namespace", out, err)
	}
}

func TestNestedUserNSIsRoots(t *testing.T) {
	c := started(t, Options{Name: "web"})
	outer, err := c.Command(t.Context(), "readlink", "/proc/self/ns/user").Output()
	if err != nil {
		t.Fatal(err)
	}
	m := c.Command(t.Context(), "sh", "-c", "readlink /proc/self/ns/user; id -u; cat /proc/self/uid_map")
	m.UserNS = true
	out, err := m.Output()
	f := strings.Fields(string(out))
	if err != nil || len(f) != 5 || f[0] == strings.TrimSpace(string(outer)) || strings.Join(f[1:], " ") != "0 0 0 1" {
		t.Errorf("got %q, %v, want another namespace than %q, uid 0 and the map 0 0 1", out, err, outer)
	}
}

func TestCgroup(t *testing.T) {
	needRoot(t, "cgroups are made")
	c := started(t, Options{Name: "web", Cgroup: true})
	if c.Cgroup() == "" {
		t.Skipf("needs cgroup2: %v", c.Notes())
	}
	if !strings.Contains(filepath.Base(c.Cgroup()), "web") {
		t.Errorf("cgroup is %s, want the name web in it", c.Cgroup())
	}
	procs, err := os.ReadFile(filepath.Join(c.Cgroup(), "cgroup.procs"))
	if err != nil || strings.TrimSpace(string(procs)) != strconv.Itoa(c.PID()) {
		t.Errorf("cgroup.procs = %q, %v, want the init %d", procs, err, c.PID())
	}
	m := c.Guest(t.Context(), "enter", "lxc.payload.db")
	r := startLines(t, m)
	var line string
	for !strings.HasPrefix(line, "0::") {
		line = r()
	}
	if line != "0::/lxc.payload.db" {
		t.Errorf("inside, the cgroup is %q, want 0::/lxc.payload.db", line)
	}
	procs, err = os.ReadFile(filepath.Join(c.Cgroup(), "lxc.payload.db", "cgroup.procs"))
	if err != nil || len(bytes.Fields(procs)) != 1 {
		t.Errorf("cgroup.procs of the nested one = %q, %v, want one process", procs, err)
	}
	if err := c.Stop(); err != nil { // with a process and a cgroup left
		t.Errorf("Stop: %v", err)
	}
	if err := m.Wait(); !errors.Is(err, ErrStopped) {
		t.Errorf("Wait after Stop = %v, want %v", err, ErrStopped)
	}
}

// startLines starts a command and returns a function that reads its next line.
func startLines(t *testing.T, m *Cmd) func() string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	m.Stdout, m.Stderr = w, os.Stderr
	err = m.Start()
	w.Close()
	t.Cleanup(func() { r.Close() })
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(r)
	return func() string {
		t.Helper()
		if err := r.SetReadDeadline(time.Now().Add(60 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if !lines.Scan() {
			t.Fatalf("no further line: %v", lines.Err())
		}
		return lines.Text()
	}
}

func TestOrphansAreReaped(t *testing.T) {
	c := started(t, Options{Name: "web"})
	out, err := c.Guest(t.Context(), "orphan").Output()
	if err != nil {
		t.Fatal(err)
	}
	pid := strings.TrimSpace(string(out))
	status := func() string {
		out, _ := c.Command(t.Context(), "sh", "-c", "cat /proc/"+pid+"/status 2>/dev/null").Output()
		return string(out)
	}
	if s := status(); !strings.Contains(s, "PPid:\t1\n") {
		t.Fatalf("the orphan's parent is not init: %q", s)
	}
	if _, err := c.Command(t.Context(), "sh", "-c", "kill -9 "+pid).Output(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(60 * time.Second); status() != ""; {
		if time.Now().After(deadline) {
			t.Fatalf("the orphan was not reaped: %s", status())
		}
	}
}

func TestStopEndsEverything(t *testing.T) {
	c := started(t, Options{Name: "web", Cgroup: true})
	m := c.Guest(t.Context(), "hang")
	startLines(t, m)()
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := m.Wait(); !errors.Is(err, ErrStopped) {
		t.Errorf("Wait = %v, want %v", err, ErrStopped)
	}
	select {
	case <-c.Done():
	default:
		t.Error("Done is not closed after Stop")
	}
	if err := c.Guest(t.Context(), "facts").Run(); !errors.Is(err, ErrStopped) {
		t.Errorf("a command after Stop: %v, want %v", err, ErrStopped)
	}
	if err := c.Stop(); err != nil {
		t.Errorf("second Stop: %v", err)
	}
}

func TestInitKilledFromOutside(t *testing.T) {
	c := started(t, Options{Name: "web", Cgroup: true})
	m := c.Guest(t.Context(), "hang")
	startLines(t, m)()
	if err := unix.Kill(c.PID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	if err := m.Wait(); !errors.Is(err, ErrStopped) {
		t.Errorf("Wait = %v, want %v", err, ErrStopped)
	}
}

// helperCommand is another caller of this package, see helper.
func helperCommand(mode string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperEnv+"="+mode)
	cmd.Stderr = os.Stderr
	return cmd
}

func TestNothingOutlivesTheCaller(t *testing.T) {
	c := started(t, Options{Name: "probe"}) // skips where there are no namespaces
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	cmd := helperCommand("killed")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Scan()
	pid, err := strconv.Atoi(lines.Text())
	if err != nil {
		t.Fatalf("the helper says: %s", lines.Text())
	}
	lines.Scan()
	group := lines.Text()
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	// An init that cannot run does not see the end of its socket: only the kernel ends it.
	if err := errors.Join(unix.Kill(pid, unix.SIGSTOP), cmd.Process.Kill()); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	p := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	if n, err := unix.Poll(p, 60_000); n != 1 {
		status, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
		t.Errorf("init %d lives 60 s after its caller: %v\n%s", pid, err, status)
	}
	if group != "" {
		if err := (&cgroup{dir: group}).remove(); err != nil {
			t.Errorf("the cgroup it leaves is not empty: %v", err)
		}
	}
}

func TestCoveredProc(t *testing.T) {
	needRoot(t, "a part of /proc is covered")
	cmd := helperCommand("masked")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	for _, want := range []string{"/proc shows the host's processes", "uid=0 gid=0"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}

// TestUnprivileged runs the tests of this package again, as nobody.
func TestUnprivileged(t *testing.T) {
	needRoot(t, "becomes another user")
	home := t.TempDir()
	if err := errors.Join(os.Chmod(home, 0o777), os.Chmod(filepath.Dir(home), 0o755)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "-test.v", "-test.run=^Test")
	cmd.Dir = "/"
	cmd.Env = []string{"HOME=" + home, "TMPDIR=" + home, "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil:
		t.Fatalf("%v:\n%s", err, out)
	case strings.Contains(string(out), "--- SKIP: TestInside"):
		t.Skipf("needs unprivileged user namespaces:\n%s", out)
	case !strings.Contains(string(out), "--- PASS: TestInside") || !strings.Contains(string(out), "--- PASS: TestPeerSeesMappedRoot/root"):
		t.Errorf("the tests that matter did not run:\n%s", out)
	}
}
