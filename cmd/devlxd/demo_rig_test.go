package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/peer/peertest"
)

// demoTime bounds one run of the demo on a machine that is busy with other tests.
const demoTime = 2 * time.Minute

// demoProcess is a "devlxd demo" that runs in a cgroup and a temporary directory of its
// own, so that everything it leaves behind is seen.
type demoProcess struct {
	t      *testing.T
	cmd    *exec.Cmd
	temp   string
	group  string // directory of the cgroup
	stderr bytes.Buffer
	out    *os.File // its standard output
	lines  *bufio.Scanner
}

// startDemo starts the demo as a user; nil is root.
func startDemo(t *testing.T, user *syscall.Credential, args ...string) *demoProcess {
	t.Helper()
	return launchDemo(t, func(cmd *exec.Cmd) {
		cmd.Args = append(cmd.Args, args...)
		cmd.SysProcAttr.Credential = user
	})
}

func launchDemo(t *testing.T, change func(*exec.Cmd)) *demoProcess {
	t.Helper()
	peertest.Need(t, peertest.Root, peertest.Cgroup2, peertest.UserNS)
	// Not t.TempDir: the path of a socket has to fit into 107 bytes.
	temp, err := os.MkdirTemp("/tmp", "dd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(temp) })
	if err := os.Chmod(temp, 0o777); err != nil {
		t.Fatal(err)
	}
	d := &demoProcess{t: t, temp: temp, group: peertest.NewCgroup(t).Dir}
	group, err := os.Open(d.group)
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	t.Cleanup(func() { r.Close() })
	// The demo stands still at its next line when this little is not read.
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, os.Getpagesize()); err != nil {
		t.Fatal(err)
	}
	d.out, d.lines = r, bufio.NewScanner(r)
	d.cmd = exec.Command("/proc/self/exe", "demo")
	d.cmd.Dir = "/"
	d.cmd.Env = append(os.Environ(), runEnv+"="+runPlain, "TMPDIR="+temp)
	d.cmd.Stdout, d.cmd.Stderr = w, &d.stderr
	d.cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	change(d.cmd)
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(demoTime, func() { _ = d.cmd.Process.Kill() })
	t.Cleanup(func() { timer.Stop() })
	return d
}

// until reads lines up to the first that contains text, and returns them.
func (d *demoProcess) until(text string) string {
	d.t.Helper()
	var read strings.Builder
	for d.lines.Scan() {
		fmt.Fprintln(&read, d.lines.Text())
		if strings.Contains(d.lines.Text(), text) {
			return read.String()
		}
	}
	d.t.Fatalf("the demo printed no %q (%v):\n%s%s", text, d.cmd.Wait(), read.String(), d.stderr.String())
	return ""
}

// rest reads to the end, waits for it and returns the lines and the exit code.
func (d *demoProcess) rest() (output string, code int) {
	d.t.Helper()
	var read strings.Builder
	for d.lines.Scan() {
		fmt.Fprintln(&read, d.lines.Text())
	}
	d.out.Close()
	return read.String(), d.wait()
}

// wait waits for the end, and checks that nothing is left behind.
func (d *demoProcess) wait() (code int) {
	d.t.Helper()
	_ = d.cmd.Wait() // the exit code says it
	code = d.cmd.ProcessState.ExitCode()
	files, err := os.ReadDir(d.temp)
	if err != nil || len(files) != 0 {
		d.t.Errorf("left in the temporary directory: %v, %v", files, err)
	}
	procs, err := os.ReadFile(filepath.Join(d.group, "cgroup.procs"))
	if err != nil || len(procs) != 0 {
		d.t.Errorf("processes left: %q, %v", procs, err)
	}
	entries, err := os.ReadDir(d.group)
	if err != nil {
		d.t.Error(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			d.t.Errorf("the cgroup %s is left", e.Name())
		}
	}
	return code
}

// failed checks that the demo ended with exit code 1 and one line that has the text.
func (d *demoProcess) failed(text string) {
	d.t.Helper()
	_, code := d.rest()
	line := d.stderr.String()
	if code != exitFailed || strings.Count(line, "\n") != 1 || !strings.HasPrefix(line, "devlxd: ") || !strings.Contains(line, text) {
		d.t.Errorf("exit code %d and %q, want %d and one line with %q", code, line, exitFailed, text)
	}
}

// runDir finds the run directory in what the demo has printed.
func runDirIn(t *testing.T, output string) string {
	t.Helper()
	_, rest, ok := strings.Cut(output, "export DEVLXD_RUN_DIR=")
	if !ok {
		t.Fatalf("no run directory in:\n%s", output)
	}
	dir, _, _ := strings.Cut(rest, "\n")
	return dir
}

// devlxd runs a client command as root.
func devlxd(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), runEnv+"="+runPlain)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("devlxd %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
