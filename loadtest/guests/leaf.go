package guests

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// SplitCgroup puts all processes of guest i but its init into a cgroup of their own below the guest's, made for it, and removes the one
// that they were in before, as a service manager in a container does when a service starts again. Processes that start meanwhile may stay
// where they are. Nothing happens to a guest that has stopped or has no cgroup.
func (s *Set) SplitCgroup(i int) error {
	dir, init := s.Cgroup(i), strconv.Itoa(s.PID(i))
	if dir == "" {
		return nil
	}
	// Two names in turn, which the helper removes with the guest.
	next, before := filepath.Join(dir, "0"), filepath.Join(dir, "1")
	if _, err := os.Stat(next); err == nil {
		next, before = before, next
	}
	err := unix.Mkdir(next, 0o755)
	if errors.Is(err, unix.EEXIST) {
		err = nil // it could not be removed the last time
	}
	for _, from := range [...]string{dir, before} {
		if err == nil {
			err = moveAll(from, next, init)
		}
		if from == before && errors.Is(err, os.ErrNotExist) {
			return nil // the first time
		}
	}
	if err == nil {
		err = unix.Rmdir(before)
	}
	// One that was just born is still there, or the guest has ended.
	if err == nil || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return fmt.Errorf("cannot make the cgroup of guest %d anew: %w", i, err)
}

// moveAll moves the processes of one cgroup to another, all but one.
func moveAll(from, to, stays string) error {
	text, err := os.ReadFile(filepath.Join(from, "cgroup.procs"))
	if err != nil {
		return err
	}
	for _, pid := range strings.Fields(string(text)) {
		if pid == stays {
			continue
		}
		err := os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte(pid), 0)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}
