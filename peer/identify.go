package peer

import "golang.org/x/sys/unix"

// Binding is one life of a registered container, as Identify sees it. Its methods
// must be safe for concurrent use and must not change their answers, except Dead.
type Binding interface {
	comparable
	CgroupID() uint64         // 0: it has no cgroup of its own
	PidNS() (dev, ino uint64) // of its init
	RootUID() uint32          // host uid of the container's root
	Privileged() bool         // its user namespace reaches host uid 0
	Dead() bool               // it stopped; never false again
}

// Directory finds bindings. It must be safe for concurrent use and should not lock.
type Directory[B Binding] interface {
	// LookupCgroup finds a registered payload cgroup, or a leaf below one that
	// CacheLeaf was told of.
	LookupCgroup(id uint64) (B, bool)

	// LookupPidNS finds a container that has no cgroup of its own, and no others.
	LookupPidNS(dev, ino uint64) (B, bool)

	// CacheLeaf says that a cgroup lies below the payload of b. The directory bounds
	// what it keeps for each binding and forgets it with the binding: a guest can
	// make as many leaves as it likes.
	CacheLeaf(leaf uint64, b B)
}

// Peer is the process that connected.
type Peer struct {
	PID      int32 // as of connect(2): a hint for logs, it may belong to another process by now
	UID, GID uint32
	CgroupID uint64 // the cgroup it was found in, 0 when that is not known
	Path     Path   // what the search for its container came to last
}

// Identify tells which container the peer of an accepted Unix socket is in. The
// binding is valid only with RejectNone; with RejectUID, RejectStopped and
// RejectPidNS it is the one whose test failed, for the log and for the choice between
// 401 and 500. Otherwise it is the zero B. Whoever keeps the binding must test Dead
// again before each use.
//
// It makes four system calls and allocates nothing when the directory knows the
// peer's cgroup (LevelInfo and above) and no second proof is needed. The socket is
// neither read nor closed.
func Identify[B Binding](h *Host, dir Directory[B], fd int) (b B, p Peer, r Reject) {
	p, pidfd, r := h.open(fd)
	if r != RejectNone {
		return b, p, r
	}
	b, r = identify(h, dir, &p, pidfd)
	h.k.close(pidfd)
	return b, p, r
}

// PID is the pid of the process that connected, as of connect(2) and in the pid namespace of the caller; 0 when it has none there. It costs one
// system call. It is no identity: the process may have ended, and its pid may be another's by now.
func PID(fd int) int32 {
	cred, e := sysPeerCred(fd)
	if e != 0 {
		return 0
	}
	return max(cred.Pid, 0)
}

// open reads the credentials and gets a pidfd on the peer.
func (h *Host) open(sock int) (p Peer, pidfd int, r Reject) {
	if h.level == LevelNone {
		return p, -1, RejectUnsupported
	}
	cred, e := h.k.peerCred(sock)
	switch {
	case resources(e):
		return p, -1, RejectResources
	case e != 0 || cred.Uid == unmappedID:
		return p, -1, RejectCredentials // uid -1: not a Unix socket
	}
	p = Peer{PID: cred.Pid, UID: cred.Uid, GID: cred.Gid}
	if cred.Pid <= 0 {
		return p, -1, RejectUnknown // the peer is outside the server's pid namespace
	}
	if h.level == LevelPidfdOpen {
		pidfd, e = h.k.pidfdOpen(cred.Pid)
	} else {
		pidfd, e = h.k.peerPidfd(sock)
	}
	switch {
	case e == 0:
	case resources(e):
		return p, -1, RejectResources
	case e == unix.EINVAL || e == unix.ENODATA || gone(e):
		// EINVAL: kernels before 6.16 for a peer that was reaped.
		return p, -1, RejectGone
	default:
		return p, -1, RejectCredentials
	}
	if h.level == LevelPidfdOpen {
		if r := h.sameUID(p); r != RejectNone {
			h.k.close(pidfd)
			return p, -1, r
		}
	}
	return p, pidfd, RejectNone
}

// sameUID tells whether the pid still belongs to a process of the uid that connected.
// It narrows what LevelPidfdOpen leaves open; whether the pid is the pidfd's own is
// shown later, by the pidfd being alive.
func (h *Host) sameUID(p Peer) Reject {
	fd, r := h.openProc(p.PID, "", unix.O_PATH|unix.O_DIRECTORY)
	if r != RejectNone {
		return r
	}
	st, e := h.k.stat(fd)
	h.k.close(fd)
	if e != 0 || st.uid != p.UID {
		return RejectGone
	}
	return RejectNone
}

// identify finds the binding and tests it.
func identify[B Binding](h *Host, dir Directory[B], p *Peer, pidfd int) (b B, r Reject) {
	var none B
	found := false
	if h.cgroups {
		if b, found, r = byCgroup(h, dir, p, pidfd); r != RejectNone {
			return none, r
		}
	}
	if found {
		need, contested := h.proof(b.CgroupID())
		if !need && !b.Privileged() {
			return b, admit(b, p)
		}
		dev, ino := b.PidNS()
		in, r := h.inPidNS(p.PID, pidfd, NS{dev, ino})
		switch {
		case r != RejectNone:
			return none, r
		case in:
			return b, admit(b, p)
		case !contested:
			return b, RejectPidNS
		}
	}
	p.Path = PathPidNS
	b, found, r = byPidNS(h, dir, p, pidfd)
	switch {
	case r != RejectNone:
		return none, r
	case !found:
		return none, RejectUnknown
	}
	return b, admit(b, p)
}

// admit makes the tests that are left when it is clear where the peer is.
func admit[B Binding](b B, p *Peer) Reject {
	switch {
	case b.Dead():
		return RejectStopped
	case b.RootUID() != p.UID:
		return RejectUID
	}
	return RejectNone
}

// byCgroup looks for the peer's cgroup, or the outermost registered one above it.
func byCgroup[B Binding](h *Host, dir Directory[B], p *Peer, pidfd int) (b B, found bool, r Reject) {
	p.Path = PathCgroup
	id, dirfd, r := h.cgroupOf(p.PID, pidfd)
	p.CgroupID = id
	if r != RejectNone {
		return b, false, r
	}
	if !h.reserved(id) {
		b, found = dir.LookupCgroup(id)
	}
	if found || h.reserved(id) {
		if dirfd >= 0 {
			h.k.close(dirfd)
		}
		return b, found, RejectNone
	}
	p.Path = PathAncestors
	var up ancestry
	if r := h.ancestors(id, dirfd, p.PID, pidfd, &up); r != RejectNone {
		return b, false, r
	}
	for i := up.n - 1; i >= 0; i-- {
		if b, found = dir.LookupCgroup(up.ids[i]); found {
			if i > 0 {
				dir.CacheLeaf(up.ids[0], b)
			}
			p.CgroupID = up.ids[0]
			return b, true, RejectNone
		}
	}
	return b, false, RejectNone
}

// byPidNS looks for a container without a cgroup of its own: the outermost
// registered pid namespace among the peer's and those above it.
func byPidNS[B Binding](h *Host, dir Directory[B], p *Peer, pidfd int) (b B, found bool, r Reject) {
	var up nsAncestry
	if r := h.nsAncestors(p.PID, pidfd, &up); r != RejectNone {
		return b, false, r
	}
	for i := up.n - 1; i >= 0; i-- {
		if b, found = dir.LookupPidNS(up.ns[i].Dev, up.ns[i].Ino); found {
			return b, true, RejectNone
		}
	}
	return b, false, RejectNone
}
