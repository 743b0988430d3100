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

// probeHidden looks for the first process of the namespace, which is another user's as
// far as permissions go. A container's init that /proc does not show cannot be bound.
func (h *Host) probeHidden() {
	fd, r := h.openProc(1, "stat", unix.O_RDONLY)
	if r == RejectNone {
		h.k.close(fd)
	}
	h.hides = r != RejectNone
	if h.hides {
		h.check("hidepid", false, "/proc/1/stat: %s: %v", r, ErrHidden)
		return
	}
	h.check("hidepid", true, "/proc shows all processes")
}

// HidesProcesses tells whether /proc hid the processes of others from the server when it was
// probed.
func (h *Host) HidesProcesses() bool { return h.hides }
