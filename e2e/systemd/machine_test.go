package systemd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/internal/cgroup2"
)

// machine is a systemd that is pid 1 of namespaces of its own.
type machine struct {
	t   *testing.T
	pid int
}

// startMachine boots one with devlxd, which ends with the test. The test is skipped where that cannot be done.
func startMachine(t *testing.T) *machine {
	t.Helper()
	return bootMachine(t, plan{Binary: binary, Units: "../../packaging/systemd"})
}

// bootMachine boots what is planned.
func bootMachine(t *testing.T, p plan) *machine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: systemd is booted in namespaces")
	}
	for _, path := range []string{"/usr/lib/systemd/systemd", "/lib/systemd/systemd"} {
		if _, err := os.Stat(path); err == nil && p.Systemd == "" {
			p.Systemd = path
		}
	}
	if p.Systemd == "" {
		t.Skip("needs systemd")
	}
	for _, tool := range []string{"nsenter", "systemctl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
	var err error
	if p.Self, err = os.Executable(); err != nil {
		t.Fatal(err)
	}
	p.Dir = t.TempDir()
	m := &machine{t: t}
	m.spawn(&p, makeCgroup(t))
	if err := m.await(); err != nil {
		t.Skipf("systemd does not boot here: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := m.try("journalctl", "--no-pager", "--output=short-monotonic", "--lines=120")
			t.Logf("journal of the machine:\n%s", log)
		}
	})
	return m
}

// makeCgroup makes the cgroup that becomes the root of the machine's tree. It is removed with the test, after the machine.
func makeCgroup(t *testing.T) *os.File {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	at := cgroup2.Mount(string(mounts))
	if at == "" {
		t.Skip("needs a cgroup2 mount")
	}
	dir, err := os.MkdirTemp(at, "devlxd-systemd-")
	if err != nil {
		t.Skipf("needs a cgroup2 mount that can be written to: %v", err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		eventually(t, "the machine's cgroups are empty", func() bool { return cgroup2.RemoveTree(dir) == nil })
	})
	return f
}

// spawn starts pid 1. PR_SET_PDEATHSIG follows the thread that made the process, so that thread is kept.
func (m *machine) spawn(p *plan, cgroup *os.File) {
	m.t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		m.t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		m.t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), bootVariable+"="+string(text))
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET,
		Pdeathsig:  unix.SIGKILL, Setsid: true, UseCgroupFD: true, CgroupFD: int(cgroup.Fd()),
	}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(ended)
		}
	}()
	err = <-started
	w.Close()
	if err != nil {
		m.t.Skipf("systemd cannot be booted here: %v", err)
	}
	m.pid = cmd.Process.Pid
	m.t.Cleanup(func() {
		_ = cmd.Process.Kill() // and with it everything in its pid namespace
		<-ended
	})
	if why, _ := io.ReadAll(r); len(why) > 0 {
		m.t.Skipf("systemd cannot be booted here: %s", why)
	}
}

// await waits until the machine has booted.
func (m *machine) await() error {
	for end := time.Now().Add(bootTime); ; time.Sleep(50 * time.Millisecond) {
		out, err := m.try("systemctl", "is-active", target)
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			jobs, _ := m.try("systemctl", "--no-pager", "list-jobs")
			journal, _ := m.try("journalctl", "--no-pager", "--lines=30")
			return fmt.Errorf("%s is %s (%v) after %v\n%s%s", target, strings.TrimSpace(out), err, bootTime, jobs, journal)
		}
	}
}

const (
	// bootTime bounds the boot, which takes a second or two.
	bootTime = 120 * time.Second
	// patience bounds every other wait for something that must come.
	patience = 60 * time.Second
)

// try runs a command in the machine, as its root.
func (m *machine) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", strconv.Itoa(m.pid), "-m", "-u", "-i", "-n", "-p", "-C", "--"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), err
}

// run is try of a command that must succeed.
func (m *machine) run(args ...string) string {
	m.t.Helper()
	out, err := m.try(args...)
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.TrimSuffix(out, "\n")
}

// property reads one of devlxd.service.
func (m *machine) property(name string) string {
	m.t.Helper()
	return m.run("systemctl", "show", "--value", "--property="+name, "devlxd.service")
}

// mainPID is the daemon's pid in the machine, 0 where none runs.
func (m *machine) mainPID() int {
	m.t.Helper()
	pid, err := strconv.Atoi(m.property("MainPID"))
	if err != nil {
		m.t.Fatal(err)
	}
	return pid
}

// path is that of a file of the machine, seen from the host.
func (m *machine) path(path string) string {
	return filepath.Join("/proc", strconv.Itoa(m.pid), "root", path)
}

// dropIn changes devlxd.service from its next start on; "": as it is installed.
func (m *machine) dropIn(text string) {
	m.t.Helper()
	dir := m.path("/run/systemd/system/devlxd.service.d")
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "e2e.conf"), []byte(text), 0o644)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.run("systemctl", "daemon-reload")
}

// journal is what daemons have logged so far: each line has to be JSON.
func (m *machine) journal() (entries []entry) {
	m.t.Helper()
	out := m.run("journalctl", "--no-pager", "--output=json", "--output-fields=MESSAGE,_CMDLINE", "--unit=devlxd.service")
	for line := range strings.Lines(out) {
		var record struct {
			Message string `json:"MESSAGE"`
			Command string `json:"_CMDLINE"`
		}
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			m.t.Fatal(err)
		}
		if record.Command != installed+" serve" {
			continue // systemd's, and what "devlxd upgrade" prints
		}
		var e entry
		if err := json.Unmarshal([]byte(record.Message), &e); err != nil {
			m.t.Errorf("a line of the daemon's log is no JSON: %s", record.Message)
		}
		entries = append(entries, e)
	}
	return entries
}

// entry is a line of the daemon's log.
type entry struct{ Level, Msg, Error string }

// eventually waits for a condition that another process brings about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
	}
}
