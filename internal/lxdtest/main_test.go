package lxdtest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// crashEnv tells TestCrash to end as a program does that fails in the worst way.
const crashEnv = "DEVLXD_LXDTEST_CRASH"

// crashCode is with what it ends.
const crashCode = 42

func TestMain(m *testing.M) { os.Exit(Main(m, BuildAgent)) }

// TestCrash runs a container and leaves without a word to anybody, if it is told to.
func TestCrash(t *testing.T) {
	if os.Getenv(crashEnv) == "" {
		return
	}
	d := Start(t, LXD)
	c := d.Run("left", Profile{})
	if c.PID() <= 1 {
		t.Fatal("the container does not run")
	}
	fmt.Println("left:", Dir())
	os.Exit(crashCode)
}

// TestNothingIsLeft: tests that end at once, with a daemon and a container running, leave no process, no directory and no cgroup.
func TestNothingIsLeft(t *testing.T) {
	Need(t, LXD)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestCrash$")
	cmd.Env = append(os.Environ(), stageEnv+"=", crashEnv+"=1")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != crashCode {
		t.Fatalf("the tests ended with %v:\n%s", err, out)
	}
	_, rest, ok := strings.Cut(string(out), "left: ")
	dir := strings.TrimSpace(rest)
	if !ok || !filepath.IsAbs(dir) {
		t.Fatalf("the tests did not say where: %s", out)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", dir, err)
	}
	for _, root := range cgroupRoots() {
		if left, _ := filepath.Glob(filepath.Join(root, "lxc.*"+prefix(dir)+"*")); len(left) > 0 {
			t.Errorf("cgroups are left: %v", left)
		}
	}
	for _, pid := range processes() {
		if line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline")); err == nil && bytes.Contains(line, []byte(dir)) {
			t.Errorf("process %d is left: %q", pid, line)
		}
	}
}
