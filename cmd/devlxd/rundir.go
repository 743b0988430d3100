package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lockName is in the run directory. It differs from the name in the state
	// directory, since both may be one directory.
	lockName = "run.lock"
	// lockWait lets a daemon that was told to end just before do so.
	lockWait  = 2 * time.Second
	lockRetry = 20 * time.Millisecond
)

// lockRunDir makes this process the only daemon of the run directory until the
// returned file is closed. The sockets cannot say so: they are replaced by
// rename, and a daemon that still loads has none for guests. The lock (flock(2))
// ends with the process, however that ends, and the file stays: if it were
// removed, two processes could each hold a lock on a file of that name.
func lockRunDir(ctx context.Context, dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the run directory: %w: choose another with --run-dir", err)
	}
	if err := flock(ctx, f); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("cannot lock %s: %w: choose another run directory with --run-dir", f.Name(), err)
		}
		return nil, fmt.Errorf("another devlxd%s serves %s: stop it, or use another --run-dir", holder(f), dir)
	}
	// The pid serves the message above only.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}

// flock takes the lock; EWOULDBLOCK says that another process keeps it.
func flock(ctx context.Context, f *os.File) error {
	retry := time.NewTicker(lockRetry)
	defer retry.Stop()
	for deadline := time.Now().Add(lockWait); ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || err != unix.EINTR && err != unix.EWOULDBLOCK || time.Now().After(deadline) {
			return err
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// holder is " (pid N)" of who wrote to the lock file, or nothing if nobody has yet.
func holder(f *os.File) string {
	text := make([]byte, 20)
	n, _ := f.ReadAt(text, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text[:n])))
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (pid %d)", pid)
}

// unserved returns an error if a process listens on the socket at path, which
// would be cut off from its clients if the socket was replaced: it may be
// something that knows nothing of the lock, such as systemd or another server
// of this API. That a dead one left the socket is no error.
func unserved(path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	switch err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err {
	case nil:
	case unix.EACCES, unix.EPERM:
		return fmt.Errorf("cannot find out whether %s is served: %w: run as its owner, or use another --run-dir", path, err)
	case unix.EAGAIN, unix.EPROTOTYPE: // its backlog is full, or it is of another type
		return fmt.Errorf("another process answers on %s: stop it, or use another --run-dir", path)
	default: // there is none, nobody listens, or no socket can be there, which listening finds out
		return nil
	}
	// Of the process that called listen(2), see unix(7).
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	switch {
	case err != nil:
		return os.NewSyscallError("getsockopt", err)
	case cred.Pid == 1:
		return fmt.Errorf("systemd listens on %s for a service: start that one, or use another --run-dir", path)
	}
	return fmt.Errorf("another process (pid %d) answers on %s: stop it, or use another --run-dir", cred.Pid, path)
}
