package target

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	dirPattern = "devlxd-load-"
	dirLock    = "owner"
)

// workDir is a directory for a server that is started here. It lies in memory where there is a memory file system: every change is
// synced to disk before it is acknowledged, and how fast this disk is, is not what a run is to find out.
type workDir struct {
	path string
	lock *os.File // held as long as the directory is in use
}

func newWorkDir() (*workDir, error) {
	parent := os.TempDir()
	if unix.Access("/dev/shm", unix.W_OK) == nil {
		parent = "/dev/shm"
	}
	sweep(parent)
	path, err := os.MkdirTemp(parent, dirPattern)
	if err != nil {
		return nil, fmt.Errorf("cannot make a directory for the server: %w", err)
	}
	// Guests of other users have to reach the socket in it.
	if err := os.Chmod(path, 0o755); err != nil {
		return nil, err
	}
	lock, err := os.Create(filepath.Join(path, dirLock))
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		_ = os.RemoveAll(path)
		return nil, fmt.Errorf("cannot lock the directory of the server: %w", err)
	}
	return &workDir{path, lock}, nil
}

func (d *workDir) remove() error {
	defer d.lock.Close()
	return os.RemoveAll(d.path)
}

// sweep removes the directories of runs that were killed: nobody holds their lock. One without a lock file may be in the making.
func sweep(parent string) {
	stale, _ := filepath.Glob(filepath.Join(parent, dirPattern+"*"))
	for _, path := range stale {
		lock, err := os.OpenFile(filepath.Join(path, dirLock), os.O_RDWR|unix.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = os.RemoveAll(path)
		}
		_ = lock.Close()
	}
}
