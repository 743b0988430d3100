package peertest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/internal/cgroup2"
)

const cgroupPrefix = "devlxd-test-"

// cgroupNumber makes the names of one process differ.
var cgroupNumber atomic.Int64

// Cgroup is a cgroup v2 directory made for a test.
type Cgroup struct {
	Dir  string // absolute path
	Path string // relative to the mount, with a leading "/", as in /proc/PID/cgroup
	ID   uint64 // its cgroup id
	t    testing.TB
}

// NewCgroup makes a cgroup at the top of the cgroup2 tree. When the test ends, all
// processes in and below it are killed and it is removed.
func NewCgroup(t testing.TB) *Cgroup {
	t.Helper()
	sweep()
	name := fmt.Sprintf("%s%d-%d", cgroupPrefix, os.Getpid(), cgroupNumber.Add(1))
	return newCgroup(t, "/"+name)
}

// Sub makes a cgroup below this one.
func (c *Cgroup) Sub(name string) *Cgroup {
	c.t.Helper()
	return newCgroup(c.t, c.Path+"/"+name)
}

// NewCgroupAt makes a cgroup at the path of one that was removed, to test that it is
// another one.
func NewCgroupAt(t testing.TB, path string) *Cgroup {
	t.Helper()
	return newCgroup(t, path)
}

func newCgroup(t testing.TB, path string) *Cgroup {
	t.Helper()
	c := &Cgroup{Dir: cgroup2Mount() + path, Path: path, t: t}
	if err := os.Mkdir(c.Dir, 0o755); err != nil {
		t.Fatalf("cannot make a cgroup: %v", err)
	}
	t.Cleanup(func() {
		if err := RemoveCgroup(c.Dir); err != nil {
			t.Errorf("cannot remove a cgroup: %v", err)
		}
	})
	var st unix.Stat_t
	if err := unix.Stat(c.Dir, &st); err != nil {
		t.Fatalf("cannot stat a cgroup: %v", err)
	}
	c.ID = st.Ino
	return c
}

// Delegate gives the cgroup to a host uid in the way LXC does, so that the
// container's root can make cgroups below it.
func (c *Cgroup) Delegate(uid int) {
	c.t.Helper()
	for _, f := range []string{"", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"} {
		if err := os.Chown(filepath.Join(c.Dir, f), uid, uid); err != nil {
			c.t.Fatalf("cannot delegate a cgroup: %v", err)
		}
	}
}

// Move puts a process into the cgroup, as the host's root does.
func (c *Cgroup) Move(pid int) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.Dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
		c.t.Fatalf("cannot move a process: %v", err)
	}
}

// Remove kills what is in the cgroup and removes it now.
func (c *Cgroup) Remove() {
	c.t.Helper()
	if err := RemoveCgroup(c.Dir); err != nil {
		c.t.Fatalf("cannot remove a cgroup: %v", err)
	}
}

// RemoveCgroup kills all processes in and below a cgroup directory and removes it. A
// directory that does not exist is no error.
func RemoveCgroup(dir string) error {
	err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	// Killed processes leave their cgroup a moment after the kill.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		err = cgroup2.RemoveTree(dir)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// sweep removes what test processes that do not live any more have left.
func sweep() {
	old, err := filepath.Glob(filepath.Join(cgroup2Mount(), cgroupPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range old {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), cgroupPrefix), "-")
		n, err := strconv.Atoi(pid)
		if err == nil && n > 0 && unix.Kill(n, 0) == unix.ESRCH {
			_ = RemoveCgroup(dir)
		}
	}
}
