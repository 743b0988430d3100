package peer

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Init is a container's init process, held by a pidfd, and what identifies the
// container by it. The fields are read-only.
//
// The file of a pidfd holds the pid, which is not given out again, and the pid holds the namespace that
// it was made in (Linux kernel/pid.c: alloc_pid takes a reference to it, put_pid gives it back),
// so that its inode number is not given out again either, however long ago the process was reaped.
type Init struct {
	PID        int
	PidfdInode uint64 // names the process for ever within one boot; 0 before Linux 6.9, where it is not unique
	BootID     string
	CgroupID   uint64 // the container's own cgroup, 0: it is known by its pid namespace alone
	CgroupPath string // of CgroupID, relative to the cgroup2 mount with a leading "/"; "" with 0
	CgroupNote string // why CgroupID is 0, for the log; "" otherwise
	PidNS      NS     // its pid namespace
	RootUID    uint32 // host uid of the container's root
	Privileged bool   // host uid 0 is mapped in it
	contested  uint64
	host       *Host

	mu      sync.Mutex  // guards what follows
	pidfd   int         // -1: it was given to the watcher, or closed
	watcher *Watcher    // nil: not watched
	watch   Watch       // of watcher
	closed  bool        // Close was called
	ended   atomic.Bool // the watcher saw the exit
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
// Errors: ErrNoProcess, ErrHidden, ErrNotContainer, ErrForeignPidNS, ErrNoRootUID, ErrUIDMap, ErrCgroup*,
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
	i := &Init{PID: pid, pidfd: pidfd, BootID: h.bootID, host: h}
	err := h.fillInit(i, o)
	switch {
	case err != nil && exited(pidfd):
		err = ErrNoProcess // what was read was not about the process
	case err == ErrNoProcess && h.hidden(pid, pidfd):
		err = ErrHidden // to take it for ended would stop a container that runs
	}
	if err != ErrNoProcess && i.Privileged && i.PidNS != h.ownNS {
		// Also where it cannot be registered: it runs nevertheless. In the server's own
		// namespace it may be a process of the host, by mistake or by reuse of a pid.
		h.RequirePidNS()
	}
	if err != nil {
		unix.Close(pidfd)
		return nil, err
	}
	h.demand(+1, i.Privileged, i.contested)
	return i, nil
}

// fillInit reads everything and verifies at last that it was about the pidfd's process.
func (h *Host) fillInit(i *Init, o InitOptions) error {
	if h.pidfs {
		st, e := h.k.stat(i.pidfd)
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
	if exited(i.pidfd) {
		return ErrNoProcess
	}
	return nil
}

// initPidNS looks at the pid namespace, which must be the server's own or one below it.
func (h *Host) initPidNS(i *Init) error {
	fd, r := h.openPidNS(int32(i.PID), i.pidfd)
	switch r {
	case RejectNone:
	case RejectGone:
		return ErrNoProcess
	default:
		return fmt.Errorf("cannot open its pid namespace (%s): %w", r, ErrHidden)
	}
	defer h.k.close(fd)
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

// Watch has a watcher call exited, once, when the process has exited; see [Watcher.Add]. The pidfd
// is the watcher's from then on and may have no descriptor any more, so everything that is asked
// of it is asked before. Errors: ErrWatched when it is watched or closed already, or those of Add.
func (i *Init) Watch(w *Watcher, exited func()) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.pidfd < 0 {
		return ErrWatched
	}
	watch, err := w.Add(i.pidfd, func() { i.ended.Store(true); exited() })
	if err != nil {
		return err
	}
	i.pidfd, i.watcher, i.watch = -1, w, watch
	return nil
}

// Exited tells whether the process has ended, or, when it is watched, whether the watcher has seen that already. It must
// not be called after Close.
func (i *Init) Exited() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.pidfd < 0 {
		return i.ended.Load()
	}
	return exited(i.pidfd)
}

// Close lets the process go; a callback of Watch that is not due yet is not called any more. The
// container must not be identified by this Init any more: from now on the inode number of
// its pid namespace can be used again. It may be called more than once, from any goroutine and from
// the callback.
func (i *Init) Close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return nil
	}
	i.closed = true
	i.host.demand(-1, i.Privileged, i.contested)
	if i.watcher != nil {
		i.watcher.Remove(i.watch)
	}
	if i.pidfd >= 0 {
		unix.Close(i.pidfd)
		i.pidfd = -1
	}
	return nil
}
