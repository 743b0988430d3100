package guests

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/internal/cgroup2"
)

const (
	// basePrefix begins the names of the cgroups that hold the guests' cgroups.
	basePrefix = "devlxd-load."
	// rmdirTime is how long the kernel may take to see that a cgroup is empty.
	rmdirTime = 5 * time.Second
)

// base is the cgroup in which the guests of one set have theirs. Its directory is locked (flock(2)) through one open file
// description that the helper shares: the lock is free when both have ended, and not before.
type base struct {
	dir  string
	file *os.File
}

// newBase makes a base below the caller's own cgroup, after removing those there whose owners are gone.
func newBase() (*base, error) {
	own, err := ownCgroup()
	if err != nil {
		return nil, err
	}
	sweep(own)
	for n := 0; ; n++ {
		dir := filepath.Join(own, fmt.Sprintf("%s%d.%d", basePrefix, os.Getpid(), n))
		err := unix.Mkdir(dir, 0o755)
		if err == unix.EEXIST {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "mkdir", Path: dir, Err: err}
		}
		b, err := lockBase(dir, 0)
		if err != nil || b != nil {
			return b, err
		}
	}
}

// lockBase opens and locks a base. It returns nil when somebody else removed it or, with LOCK_NB, holds it.
func lockBase(dir string, how int) (*base, error) {
	file, err := os.Open(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|how)
		if err != unix.EINTR {
			break
		}
	}
	// A sweep that came between mkdir and flock has removed the directory that we have open.
	if err == nil && isDir(file, dir) {
		return &base{dir, file}, nil
	}
	file.Close()
	if err == nil || err == unix.EWOULDBLOCK {
		return nil, nil
	}
	return nil, fmt.Errorf("lock %s: %w", dir, err)
}

// isDir tells whether file is open on what is at dir now: ids of cgroups are never used twice.
func isDir(file *os.File, dir string) bool {
	var a, b unix.Stat_t
	return unix.Fstat(int(file.Fd()), &a) == nil && unix.Stat(dir, &b) == nil && a.Ino == b.Ino
}

// sweep removes bases whose lock is free. What cannot be removed is another user's, or for the next sweep.
func sweep(own string) {
	entries, err := os.ReadDir(own)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), basePrefix) {
			continue
		}
		if b, _ := lockBase(filepath.Join(own, e.Name()), unix.LOCK_NB); b != nil {
			_ = b.remove()
		}
	}
}

// remove kills what is left in the base, removes it with all below it, and gives up the lock. It does nothing for nil.
func (b *base) remove() error {
	if b == nil {
		return nil
	}
	defer b.file.Close()
	if !isDir(b.file, b.dir) {
		return nil // the helper has removed it
	}
	// cgroup.kill came with Linux 5.14; without it the end of the helper has to do.
	_ = os.WriteFile(filepath.Join(b.dir, "cgroup.kill"), []byte("1"), 0)
	deadline := time.Now().Add(rmdirTime)
	for {
		err := cgroup2.RemoveTree(b.dir)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w (%w)", ErrLeft, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// name is the last element of dir.
func (b *base) name() string { return filepath.Base(b.dir) }

// guestDir is where the helper makes the cgroup of guest i.
func (b *base) guestDir(i int) string { return filepath.Join(b.dir, "g"+strconv.Itoa(i)) }

// ownCgroup returns the directory of the caller's cgroup v2.
func ownCgroup() (string, error) { return cgroupOf("/proc/self/cgroup") }

// cgroupOf returns the directory of the cgroup v2 named in the text of a /proc/PID/cgroup (cgroups(7)).
func cgroupOf(file string) (string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	mount := cgroup2.Mount(string(mounts))
	if mount == "" {
		return "", errNoCgroup
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::")
		if !ok {
			continue
		}
		if strings.HasPrefix(path, "/..") {
			return "", fmt.Errorf("cgroup %s is outside of this cgroup namespace", path)
		}
		dir := filepath.Join(mount, path)
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err != nil {
			return "", fmt.Errorf("the cgroup is not in sight: %w", err)
		}
		return dir, nil
	}
	return "", errors.New("the process has no cgroup v2")
}
