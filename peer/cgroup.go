package peer

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// cgroupLine returns the path of the cgroup v2 line of a /proc/PID/cgroup text, a
// slice of it that begins with "/". It refuses whatever could be mistaken: no
// such line or more than one, a text that was cut off, a removed cgroup (a guest may
// name one "x (deleted)", which harms nobody else), and a path that leaves the
// reader's cgroup namespace ("/../x"). Lines of cgroup v1 are not looked at; the
// kernel allows no newline in a cgroup's name.
func cgroupLine(text []byte) (path []byte, ok bool) {
	for len(text) > 0 {
		end := bytes.IndexByte(text, '\n')
		if end < 0 {
			return nil, false
		}
		line := text[:end]
		text = text[end+1:]
		rest, v2 := bytes.CutPrefix(line, []byte("0::"))
		if !v2 {
			continue
		}
		if path != nil || !cleanPath(rest) || bytes.HasSuffix(rest, []byte(" (deleted)")) {
			return nil, false
		}
		path = rest
	}
	return path, path != nil
}

// cleanPath tells whether p is absolute and has no empty, "." or ".." component.
func cleanPath(p []byte) bool {
	if len(p) == 0 || p[0] != '/' || bytes.IndexByte(p, 0) >= 0 {
		return false
	}
	if len(p) == 1 {
		return true
	}
	for len(p) > 0 {
		p = p[1:]
		end := bytes.IndexByte(p, '/')
		if end < 0 {
			end = len(p)
		}
		switch string(p[:end]) {
		case "", ".", "..":
			return false
		}
		p = p[end:]
	}
	return true
}

// cgroupOf tells the id of the peer's cgroup. Below LevelInfo it also returns a
// descriptor on the directory, else -1.
func (h *Host) cgroupOf(pid int32, pidfd int) (id uint64, dirfd int, r Reject) {
	if h.level < LevelInfo {
		return h.cgroupByPath(pid, pidfd)
	}
	mask, id, e := h.k.info(pidfd, h.infoAsk)
	switch {
	case e == 0 && mask&unix.PIDFD_INFO_CGROUPID != 0:
		return id, -1, RejectNone
	case e == 0 || gone(e):
		return 0, -1, RejectGone // reaped, and no exit record was kept
	case resources(e):
		return 0, -1, RejectResources
	}
	return 0, -1, RejectUnknown // EREMOTE: outside the server's pid namespace
}

// cgroupByPath reads /proc/PID/cgroup and opens that directory. The path names the
// peer's cgroup only because the peer is alive afterwards: its pid cannot have
// been reused then, and neither the payload nor a directory above it can have been
// removed and made again while it was in there.
func (h *Host) cgroupByPath(pid int32, pidfd int) (id uint64, dirfd int, r Reject) {
	s := h.getScratch()
	defer h.scratch.Put(s)
	path, r := h.readCgroup(pid, s)
	if r != RejectNone {
		return 0, -1, r
	}
	dirfd, e := h.k.openAt(h.mountFD, path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if e != 0 {
		switch {
		case resources(e):
			return 0, -1, RejectResources
		case !h.alive(pidfd):
			return 0, -1, RejectGone
		}
		return 0, -1, RejectUnknown
	}
	st, e := h.k.stat(dirfd)
	switch {
	case e != 0 || st.Dev != h.cgroupDev:
		r = RejectUnknown
	case !h.alive(pidfd):
		r = RejectGone
	default:
		return st.Ino, dirfd, RejectNone
	}
	h.k.close(dirfd)
	return 0, -1, r
}

// readCgroup returns the cgroup v2 path of a process relative to the mount, with a
// NUL byte behind it, in the memory of s.
func (h *Host) readCgroup(pid int32, s *scratch) (path []byte, r Reject) {
	fd, r := h.openProc(pid, "cgroup", unix.O_RDONLY)
	if r != RejectNone {
		return nil, r
	}
	n := 0
	for n < len(s.buf) {
		m, e := h.k.read(fd, s.buf[n:])
		if e != 0 {
			h.k.close(fd)
			if gone(e) {
				return nil, RejectGone
			}
			return nil, RejectUnknown
		}
		if m == 0 {
			break
		}
		n += m
	}
	h.k.close(fd)
	line, ok := cgroupLine(s.buf[:n])
	if !ok || n == len(s.buf) {
		return nil, RejectUnknown
	}
	if len(line) == 1 {
		return append(s.path[:0], '.', 0), RejectNone
	}
	// The newline that ended the line makes room for the NUL byte.
	line = line[: len(line)+1 : len(line)+1]
	line[len(line)-1] = 0
	return line[1:], RejectNone
}

// ancestry is a cgroup and those above it, innermost first, without reserved ones.
type ancestry struct {
	ids [maxCgroupDepth]uint64
	n   int
}

var parentDir = [...]byte{'.', '.', 0}

// ancestors fills up with the cgroup and all above it. dirfd is a descriptor on the
// cgroup, which it closes, or -1. A cgroup that is removed already, or is too deep,
// has no ancestors: up stays empty.
func (h *Host) ancestors(id uint64, dirfd int, pid int32, pidfd int, up *ancestry) Reject {
	if dirfd < 0 {
		var r Reject
		if dirfd, r = h.openCgroup(id, pid, pidfd); r != RejectNone || dirfd < 0 {
			return r
		}
	}
	return h.climb(dirfd, up)
}

// openCgroup opens a cgroup by its id; where that is not permitted, by the path of the
// live peer, which may have moved on within its container by then. -1 without a
// reason: the cgroup does not exist any more.
func (h *Host) openCgroup(id uint64, pid int32, pidfd int) (int, Reject) {
	if !h.handles {
		_, fd, r := h.cgroupByPath(pid, pidfd)
		return fd, r
	}
	fd, e := h.k.openHandle(h.mountFD, id)
	switch {
	case e == 0:
		return fd, RejectNone
	case resources(e):
		return -1, RejectResources
	}
	return -1, RejectNone
}

// climb fills up from the directory dirfd to the root and closes dirfd.
func (h *Host) climb(dirfd int, up *ancestry) Reject {
	up.n = 0
	for {
		st, e := h.k.stat(dirfd)
		if e == 0 && st.Dev == h.cgroupDev && h.reserved(st.Ino) {
			break
		}
		if e != 0 || st.Dev != h.cgroupDev || up.n == len(up.ids) {
			up.n = 0 // not known to the top, or deeper than anything that is served
			break
		}
		up.ids[up.n] = st.Ino
		up.n++
		next, e := h.k.openAt(dirfd, parentDir[:], unix.O_PATH|unix.O_DIRECTORY)
		if e != 0 {
			up.n = 0
			h.k.close(dirfd)
			if resources(e) {
				return RejectResources
			}
			return RejectNone
		}
		h.k.close(dirfd)
		dirfd = next
	}
	h.k.close(dirfd)
	return RejectNone
}
