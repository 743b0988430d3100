package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"devlxd/internal/cgroup2"
)

// rmdirTime is how long the kernel may take to see that a cgroup is empty.
const rmdirTime = 2 * time.Second

// cgroup is a cgroup v2 directory made for one container.
type cgroup struct {
	dir  string
	file *os.File // open on dir
}

// newCgroup makes a cgroup below the caller's own and lets the container's root manage what
// is below it (Documentation/admin-guide/cgroup-v2.rst, "Delegation").
func newCgroup(name string, ids idMap) (*cgroup, error) {
	own, err := ownCgroup()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(own, "devlxd-"+name+"-")
	if err != nil {
		return nil, err
	}
	c := &cgroup{dir: dir}
	if err := c.prepare(ids); err != nil {
		return nil, errors.Join(err, c.remove())
	}
	return c, nil
}

func (c *cgroup) prepare(ids idMap) error {
	if err := os.Chmod(c.dir, 0o755); err != nil {
		return err
	}
	for _, file := range [...]string{"", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"} {
		if err := os.Chown(filepath.Join(c.dir, file), int(ids.host), int(ids.host)); err != nil {
			return err
		}
	}
	var err error
	c.file, err = os.Open(c.dir)
	return err
}

// remove kills what is left in the cgroup and removes it with all below it. It does
// nothing for nil.
func (c *cgroup) remove() error {
	if c == nil {
		return nil
	}
	if c.file != nil {
		c.file.Close()
		c.file = nil
	}
	// cgroup.kill came with Linux 5.14; without it the end of pid 1 has to do.
	_ = os.WriteFile(filepath.Join(c.dir, "cgroup.kill"), []byte("1"), 0)
	deadline := time.Now().Add(rmdirTime)
	for {
		err := cgroup2.RemoveTree(c.dir)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// ownCgroup returns the directory of the caller's cgroup v2.
func ownCgroup() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	mount := cgroup2.Mount(string(mounts))
	if mount == "" {
		return "", errors.New("cgroup2 is not mounted")
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			dir := filepath.Join(mount, path)
			if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err != nil {
				return "", fmt.Errorf("the caller's cgroup is not in sight: %w", err)
			}
			return dir, nil
		}
	}
	return "", errors.New("the caller has no cgroup v2")
}
