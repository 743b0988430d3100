package peer

import "golang.org/x/sys/unix"

// openPidNS returns a descriptor on the pid namespace of the peer.
func (h *Host) openPidNS(pid int32, pidfd int) (int, Reject) {
	if h.nsIoctl {
		fd, e := h.k.pidNS(pidfd)
		switch {
		case e == 0:
			return fd, RejectNone
		case resources(e):
			return -1, RejectResources
		case e != unix.ESRCH:
			return -1, RejectUnknown // EPERM, EACCES: not allowed to look
		}
		// ESRCH also for a zombie and for a leader that exited before its threads:
		// /proc still answers for those.
	}
	fd, r := h.openProc(pid, "ns/pid", unix.O_RDONLY)
	if r != RejectNone {
		return -1, r
	}
	if !h.alive(pidfd) {
		h.k.close(fd)
		return -1, RejectGone
	}
	return fd, RejectNone
}

// inPidNS tells whether the peer's pid namespace is want, or below it. The server's
// own namespace has everything below it, so there only equality counts.
func (h *Host) inPidNS(pid int32, pidfd int, want NS) (bool, Reject) {
	fd, r := h.openPidNS(pid, pidfd)
	if r != RejectNone {
		return false, r
	}
	in := false
	r = h.climbNS(fd, func(ns NS) bool {
		in = ns == want
		return !in && want != h.ownNS
	})
	return in, r
}

// nsAncestry is a pid namespace and those above it, innermost first, up to but
// without the server's own.
type nsAncestry struct {
	ns [maxPidNSDepth + 1]NS
	n  int
}

// nsAncestors fills up for a peer. It stays empty when the server's own namespace is
// not above the peer's.
func (h *Host) nsAncestors(pid int32, pidfd int, up *nsAncestry) Reject {
	up.n = 0
	fd, r := h.openPidNS(pid, pidfd)
	if r != RejectNone {
		return r
	}
	below := false
	r = h.climbNS(fd, func(ns NS) bool {
		if below = ns == h.ownNS; !below {
			up.ns[up.n] = ns
			up.n++
		}
		return !below
	})
	if !below {
		up.n = 0
	}
	return r
}

// climbNS calls visit for the namespace of fd and each one above it, until visit
// returns false or the server's own was visited, and closes fd.
func (h *Host) climbNS(fd int, visit func(NS) bool) Reject {
	for range maxPidNSDepth + 1 {
		st, e := h.k.stat(fd)
		if e != 0 || !visit(st.NS) || st.NS == h.ownNS {
			break
		}
		next, e := h.k.parentNS(fd)
		if e != 0 {
			h.k.close(fd)
			if resources(e) {
				return RejectResources
			}
			return RejectNone // EPERM: the parent is outside the server's own
		}
		h.k.close(fd)
		fd = next
	}
	h.k.close(fd)
	return RejectNone
}
