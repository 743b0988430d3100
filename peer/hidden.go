package peer

import (
	"golang.org/x/sys/unix"
)

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

// HidesProcesses tells whether /proc hides the processes of others from the server now. It
// looks for the first process of the namespace, which is another's as far as permissions go. It is safe
// for concurrent use.
func (h *Host) HidesProcesses() bool {
	fd, r := h.openProc(1, "stat", unix.O_RDONLY)
	if r == RejectNone {
		h.k.close(fd)
	}
	return r != RejectNone && r != RejectResources
}

func (h *Host) probeHidden() {
	if h.HidesProcesses() {
		h.check("hidepid", false, "%v", ErrHidden)
		return
	}
	h.check("hidepid", true, "/proc shows all processes")
}
