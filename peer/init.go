package peer

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Init is a container's init process, held by descriptors, and what identifies the
// container by it. The fields are read-only; the descriptors belong to the Init.
type Init struct {
	PID        int
	Pidfd      int    // readable when the process exits
	PidfdInode uint64 // names the process for ever within one boot; 0 before Linux 6.9, where it is not unique
	BootID     string
	CgroupID   uint64 // the container's own cgroup, 0: it is known by its pid namespace alone
	CgroupPath string // of CgroupID, relative to the cgroup2 mount with a leading "/"; "" with 0
	CgroupNote string // why CgroupID is 0, for the log; "" otherwise
	PidNS      NS     // held open, so that its inode number is not used again
	RootUID    uint32 // host uid of the container's root
	Privileged bool   // host uid 0 is mapped in it
	nsFD       int
	contested  uint64
	host       *Host
	closeOnce  sync.Once
}

// InitOptions is what the caller knows about a container.
type InitOptions struct {
	// CgroupID is the container's own cgroup as an earlier Init of the same boot found it,
	// where the init is in it or below it still; 0: not known. It comes before Cgroup
	// and is not derived again: init may have moved itself down since, and processes
	// that the host has put in belong there (see Limits).
	CgroupID uint64

	// Cgroup is the cgroup that the container was started in: an absolute path under the
	// cgroup2 mount, or one relative to it (a leading "/" is allowed, as in
	// /proc/PID/cgroup). It must hold the init. Empty: found out from the init.
	Cgroup string

	// RootUID overrides the host uid that the container's root maps to.
	RootUID *uint32

	// InUse tells whether a cgroup is registered for another container. Nil: none is.
	InUse func(cgroupID uint64) bool
}

// OpenInit looks at the init process of a container and holds it. Everything is read
// while the process is alive, which is verified at the end.
//
// Without an option the container's cgroup is the one that init is in now, or
// its parent where systemd as init has moved itself to init.scope. It must be the
// container's own; CgroupID is 0, and CgroupNote says why, when the cgroup is the root, the
// server's own or above that; when another container is registered with it; or
// when it holds, at any depth, processes outside the container's pid namespace.
// With the option Cgroup those are errors, except that foreign processes make it 0 as well:
// runtimes put a helper there for a moment when they start a command inside.
// A cgroup above or below a registered one is always refused (ErrNested).
//
// A privileged process in a pid namespace below the server's own makes the Host demand
// the pid namespace of every peer from now on, whether it can be registered or not. For
// one in the server's own namespace that holds as long as the Init is open; whoever
// registers it calls [Host.RequirePidNS].
//
// Where another container is registered with this one's cgroup, peers in it are told
// apart by their pid namespace as long as the Init is open.
//
// Errors: ErrNoProcess, ErrNotContainer, ErrForeignPidNS, ErrNoRootUID, ErrUIDMap, ErrCgroup*,
// ErrNested, ErrNoCgroup2, or the system call's. Close must be called on the result.
func (h *Host) OpenInit(pid int, o InitOptions) (*Init, error) {
	i, err := h.openInit(pid, o)
	if err != nil {
		return nil, fmt.Errorf("cannot use process %d as a container's init: %w", pid, err)
	}
	return i, nil
}

func (h *Host) openInit(pid int, o InitOptions) (*Init, error) {
	if pid <= 0 || pid > 1<<31-1 {
		return nil, ErrNoProcess
	}
	pidfd, e := h.k.pidfdOpen(int32(pid))
	if e != 0 {
		if gone(e) || e == unix.EINVAL { // the id of a thread: ENOENT, on older kernels EINVAL
			return nil, ErrNoProcess
		}
		return nil, os.NewSyscallError("pidfd_open", e)
	}
	i := &Init{PID: pid, Pidfd: pidfd, BootID: h.bootID, nsFD: -1, host: h}
	err := h.fillInit(i, o)
	if err != nil && exited(pidfd) {
		err = ErrNoProcess // what was read was not about the process
	}
	if err != ErrNoProcess && i.Privileged && i.PidNS != h.ownNS {
		// Also where it cannot be registered: it runs nevertheless. In the server's own
		// namespace it may be a process of the host, by mistake or by reuse of a pid.
		h.RequirePidNS()
	}
	if err != nil {
		i.closeFDs()
		return nil, err
	}
	h.demand(+1, i.Privileged, i.contested)
	return i, nil
}

// fillInit reads everything and verifies at last that it was about the pidfd's process.
func (h *Host) fillInit(i *Init, o InitOptions) error {
	if h.pidfs {
		st, e := h.k.stat(i.Pidfd)
		if e != 0 {
			return os.NewSyscallError("fstat", e)
		}
		i.PidfdInode = st.Ino
	}
	if err := h.initPidNS(i); err != nil {
		return err
	}
	if err := h.initUID(i, o.RootUID); err != nil {
		return err
	}
	if err := h.initCgroup(i, o); err != nil {
		return err
	}
	if i.CgroupID == 0 && i.PidNS == h.ownNS {
		return fmt.Errorf("%w (%s)", ErrNotContainer, i.CgroupNote)
	}
	if exited(i.Pidfd) {
		return ErrNoProcess
	}
	return nil
}

// initPidNS opens the pid namespace, which must be the server's own or one below it.
func (h *Host) initPidNS(i *Init) error {
	fd, r := h.openPidNS(int32(i.PID), i.Pidfd)
	switch r {
	case RejectNone:
	case RejectGone:
		return ErrNoProcess
	default:
		return fmt.Errorf("cannot open its pid namespace (%s): the server needs CAP_SYS_PTRACE over it", r)
	}
	i.nsFD = fd
	st, e := h.k.stat(fd)
	if e != 0 {
		return os.NewSyscallError("fstat", e)
	}
	i.PidNS = st.NS
	in, r := h.nsBelow(fd, h.ownNS)
	if r != RejectNone {
		return fmt.Errorf("cannot follow its pid namespace upwards (%s)", r)
	}
	if !in {
		return ErrForeignPidNS
	}
	return nil
}

// initUID reads /proc/PID/uid_map.
func (h *Host) initUID(i *Init, override *uint32) error {
	text, err := h.readProcFile(i.PID, "uid_map")
	if err != nil {
		return err
	}
	root, mapped, privileged, err := parseUIDMap(text)
	if err != nil {
		return err
	}
	if override != nil {
		root, mapped = *override, *override != unmappedID
	}
	if !mapped {
		return ErrNoRootUID
	}
	i.RootUID, i.Privileged = root, privileged || root == 0
	return nil
}

func (h *Host) readProcFile(pid int, name string) (string, error) {
	fd, r := h.openProc(int32(pid), name, unix.O_RDONLY)
	switch r {
	case RejectNone:
	case RejectGone:
		return "", ErrNoProcess
	default:
		return "", fmt.Errorf("cannot open /proc/%d/%s (%s)", pid, name, r)
	}
	f := os.NewFile(uintptr(fd), "/proc/"+strconv.Itoa(pid)+"/"+name)
	defer f.Close()
	text, err := io.ReadAll(f)
	return string(text), err
}

// exited tells whether a process has ended, reaped or not.
func exited(pidfd int) bool {
	p := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, 0)
		if err == unix.EINTR {
			continue
		}
		return err != nil || n != 0
	}
}

// Exited tells whether the process has ended. It must not be called after Close.
func (i *Init) Exited() bool { return exited(i.Pidfd) }

// Close lets the process and its namespace go. The container must not be
// identified by this Init any more: from now on the inode number of its pid namespace
// can be used again. It may be called more than once and from any goroutine.
func (i *Init) Close() error {
	i.closeOnce.Do(func() {
		i.host.demand(-1, i.Privileged, i.contested)
		i.closeFDs()
	})
	return nil
}

func (i *Init) closeFDs() {
	unix.Close(i.Pidfd)
	if i.nsFD >= 0 {
		unix.Close(i.nsFD)
	}
}
