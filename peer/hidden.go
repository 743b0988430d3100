package peer

import "golang.org/x/sys/unix"

// hidden tells a process that /proc does not show, although it lives, from one that
// has ended: both are ENOENT below /proc/PID. An exiting process is shown until it has been
// reaped, and then its pidfd has been readable for a while.
func (h *Host) hidden(pid, pidfd int) bool {
	if exited(pidfd) {
		return false
	}
	fd, r := h.openProc(int32(pid), "", unix.O_RDONLY|unix.O_DIRECTORY)
	if r == RejectNone {
		h.k.close(fd)
	}
	return r == RejectGone && !exited(pidfd)
}
