package peer

import (
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// NS names a namespace: device and inode of its file in nsfs. The pair is valid only
// as long as the namespace lives or somebody holds a descriptor on it.
type NS struct{ Dev, Ino uint64 }

// Options adapt Probe. The zero value is right for production.
type Options struct {
	// Level forces a level instead of the best one that works. LevelNone: the best.
	Level Level

	// Mount is the cgroup2 mount point. Empty: taken from /proc/self/mountinfo.
	Mount string

	// PidNSAlways demands the pid namespace as second proof of every peer from the
	// start, and not only once a privileged container is known. It costs about 4 us for each
	// connection, and peers that exited before they were identified are refused.
	PidNSAlways bool
}

// Check is one finding of Probe.
type Check struct {
	Name   string // short, stable, lower case
	OK     bool
	Detail string // what was found, or what is missing and what follows from it
}

// Host is what Probe found out about the running kernel and the server's own place
// in it. It is safe for concurrent use.
type Host struct {
	level   Level
	k       kernel
	checks  []Check
	bootID  string
	ownNS   NS
	procFD  int
	pidfs   bool // pidfd inodes are unique
	nsIoctl bool // PIDFD_GET_PID_NAMESPACE works
	infoAsk uint64

	cgroups   bool   // cgroup v2 ids can be used
	handles   bool   // open_by_handle_at works
	mountFD   int    // cgroup2 mount, -1 when there is none
	mountPath string // its path, "" when there is none
	cgroupDev uint64
	own       []uint64 // the server's cgroup, those above it, and the root of the mount

	always  bool
	guard   atomic.Pointer[guard]
	guardMu sync.Mutex
	binds   guardCounts

	scratch sync.Pool // of *scratch
}

// scratch is the memory of one slow path.
type scratch struct {
	path [64]byte
	buf  [8 << 10]byte // longer /proc/PID/cgroup texts are refused
}

// Level returns the level in use.
func (h *Host) Level() Level { return h.level }

// Checks returns what Probe found, in the order in which it looked.
func (h *Host) Checks() []Check { return slices.Clone(h.checks) }

// Mount returns the cgroup2 mount point, "" when cgroup ids are not used.
func (h *Host) Mount() string {
	if !h.cgroups {
		return ""
	}
	return h.mountPath
}

// BootID returns the kernel's boot id: ids of cgroups, namespaces and pidfds are
// comparable only where it is the same.
func (h *Host) BootID() string { return h.bootID }

// OwnCgroup returns the id of the server's own cgroup, 0 when cgroup ids are not used.
func (h *Host) OwnCgroup() uint64 {
	if !h.cgroups || len(h.own) == 0 {
		return 0
	}
	return h.own[0]
}

// OwnPidNS returns the server's own pid namespace.
func (h *Host) OwnPidNS() NS { return h.ownNS }

// Close closes the descriptors on /proc and the cgroup2 mount. No other method may be
// called during or after it, except Close of an Init.
func (h *Host) Close() error {
	for _, fd := range []*int{&h.procFD, &h.mountFD} {
		if *fd >= 0 {
			h.k.close(*fd)
			*fd = -1
		}
	}
	return nil
}

// reserved tells the cgroups that never identify anyone: the root, the server's own
// and every one above it. Host processes live there.
func (h *Host) reserved(id uint64) bool {
	return id <= rootCgroup || slices.Contains(h.own, id)
}

func (h *Host) getScratch() *scratch {
	if s, ok := h.scratch.Get().(*scratch); ok {
		return s
	}
	return new(scratch)
}

// procPath writes "PID", or "PID/rest", with a NUL byte behind it.
func (s *scratch) procPath(pid int32, rest string) []byte {
	b := strconv.AppendInt(s.path[:0], int64(pid), 10)
	if rest != "" {
		b = append(b, '/')
		b = append(b, rest...)
	}
	return append(b, 0)
}

// openProc opens a file of /proc/PID.
func (h *Host) openProc(pid int32, rest string, flags int) (int, Reject) {
	s := h.getScratch()
	fd, e := h.k.openAt(h.procFD, s.procPath(pid, rest), flags)
	h.scratch.Put(s)
	switch {
	case e == 0:
		return fd, RejectNone
	case gone(e):
		return -1, RejectGone
	case resources(e):
		return -1, RejectResources
	}
	return -1, RejectUnknown
}

// alive tells whether the process of pidfd has not been reaped, so that until now its
// pid number was its own and what was read under that number is about it.
func (h *Host) alive(pidfd int) bool {
	// EPERM: kill_pid_info found the process and then refused the signal.
	e := h.k.signal0(pidfd)
	return e == 0 || e == unix.EPERM
}
