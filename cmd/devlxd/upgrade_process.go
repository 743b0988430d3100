package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"devlxd/internal/fdpass"
)

// start runs the new process with the arguments of this one.
func (u *upgrade) start(binary string) error {
	if binary == "" {
		binary = ownBinary()
	}
	conn, theirs, err := fdpass.Pair()
	if err != nil {
		return err
	}
	u.cmd = exec.Command(binary, os.Args[1:]...)
	u.cmd.Stdout, u.cmd.Stderr = os.Stdout, os.Stderr
	u.cmd.ExtraFiles = []*os.File{theirs} // descriptor 3
	u.cmd.Env = append(successorEnv(os.Environ()), upgradeVariable+"=3")
	pidfd := -1
	// A signal from the terminal is for the old process, which ends the new one then.
	u.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, PidFD: &pidfd}
	sibling := isService()
	if sibling {
		u.cmd.SysProcAttr.Cloneflags = unix.CLONE_PARENT
	}
	err = u.cmd.Start()
	if cerr := theirs.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%w (%v)", errNotStarted, err), conn.Close())
	}
	u.conn, u.exited = conn, awaitEnd(u.cmd, pidfd, sibling)
	return nil
}

// isService reports whether a service manager started this process, or one that this one took over from, as the main process of a service.
//
// Such a manager has to be the parent of the new process before it is told that this is the main process now. systemd does not
// wait for the end of a main process that is no child of its own: it would kill it with SIGKILL right after the SIGTERM of a stop or a restart
// ("main_pid_alien" of src/core/service.c). Pid 1 of a pid namespace may have no siblings (clone(2), CLONE_PARENT, EINVAL).
func isService() bool { return os.Getenv("NOTIFY_SOCKET") != "" && os.Getpid() != 1 }

// awaitEnd returns a channel that is closed when a process has ended. Who reaps a sibling is its parent, so its pidfd is waited for.
func awaitEnd(cmd *exec.Cmd, pidfd int, sibling bool) <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if sibling && pidfd >= 0 {
			fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}} // pidfd_open(2), "Poll"
			for err := error(unix.EINTR); err == unix.EINTR; {
				_, err = unix.Poll(fds, -1)
			}
		}
		_ = cmd.Wait() // of a sibling an error, and the end of what was held for it
		if pidfd >= 0 {
			_ = unix.Close(pidfd)
		}
	}()
	return ended
}

// ownBinary is the path that this process was started from, where another binary may be by now.
func ownBinary() string {
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return strings.TrimSuffix(path, " (deleted)") // proc(5), /proc/PID/exe
}

// successorEnv is the environment of the new process: what names this one by its pid is left out.
func successorEnv(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(v string) bool {
		for _, name := range []string{upgradeVariable, "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
			if strings.HasPrefix(v, name+"=") {
				return true
			}
		}
		return false
	})
}
