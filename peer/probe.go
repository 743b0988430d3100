package peer

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Probe finds out what the running kernel and the server's permissions allow: call it
// once at start. It asks the kernel about the server itself, on a socketpair and
// on one short-lived child, and takes about a millisecond. Missing root, missing
// cgroup v2 and an old kernel are no errors: Checks tells what is missing, and Level may
// be LevelNone. Errors: /proc is not usable (ErrNoProc), a forced level does not
// work here (ErrNotWorking), a given mount is no cgroup2 mount (ErrCgroupPath).
//
// The server must not be moved to another cgroup afterwards.
func Probe(o Options) (*Host, error) {
	return probe(o, realKernel())
}

func probe(o Options, k kernel) (*Host, error) {
	h := &Host{k: k, procFD: -1, mountFD: -1, always: o.PidNSAlways}
	if err := h.probeProc(); err != nil {
		h.Close()
		return nil, err
	}
	h.probeCapabilities()
	if err := h.probeMount(o.Mount); err != nil {
		h.Close()
		return nil, err
	}
	best := h.probeLevel()
	h.level = best
	if o.Level != LevelNone {
		if o.Level > best {
			h.Close()
			return nil, fmt.Errorf("cannot use level %s, the best here is %s: %w", o.Level, best, ErrNotWorking)
		}
		h.level = o.Level
	}
	h.infoAsk = unix.PIDFD_INFO_CGROUPID
	if h.level == LevelInfoExit {
		h.infoAsk |= unix.PIDFD_INFO_EXIT
	}
	h.nsIoctl = h.nsIoctl && h.level >= LevelInfo
	h.check("level", h.level > LevelNone, "%s (best: %s)", h.level, best)
	return h, nil
}

func (h *Host) check(name string, ok bool, format string, args ...any) bool {
	h.checks = append(h.checks, Check{Name: name, OK: ok, Detail: fmt.Sprintf(format, args...)})
	return ok
}

// probeProc opens /proc and learns what names this boot and the server's own namespace.
func (h *Host) probeProc() error {
	fd, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot open /proc: %v: %w", err, ErrNoProc)
	}
	h.procFD = fd
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil || fs.Type != unix.PROC_SUPER_MAGIC {
		return fmt.Errorf("cannot use /proc: not a procfs: %w", ErrNoProc)
	}
	self, err := os.Readlink("/proc/self")
	if err != nil || self != strconv.Itoa(os.Getpid()) {
		return fmt.Errorf("cannot use /proc: it calls this process %q, not %d: %w", self, os.Getpid(), ErrNoProc)
	}
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
		return fmt.Errorf("cannot stat /proc/self/ns/pid: %v: %w", err, ErrNoProc)
	}
	h.ownNS = NS{Dev: uint64(st.Dev), Ino: st.Ino}
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return fmt.Errorf("cannot read the boot id: %v: %w", err, ErrNoProc)
	}
	h.bootID = strings.TrimSpace(string(id))
	h.check("proc", true, "pid namespace %d, boot %s", h.ownNS.Ino, h.bootID)
	return nil
}

// probeCapabilities says which capabilities are missing. Nothing is decided by it.
func (h *Host) probeCapabilities() {
	var caps [2]unix.CapUserData
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&hdr, &caps[0]); err != nil {
		h.check("capabilities", false, "capget: %v", err)
		return
	}
	need := []struct {
		bit  uint
		name string
	}{
		{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE (pid namespaces of other users' containers)"},
		{unix.CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH (cgroups by id)"},
	}
	var missing []string
	for _, c := range need {
		if caps[c.bit/32].Effective&(1<<(c.bit%32)) == 0 {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		h.check("capabilities", false, "missing: %s: run as root, or add them to CapabilityBoundingSet= and AmbientCapabilities= of the unit", strings.Join(missing, ", "))
		return
	}
	h.check("capabilities", true, "all there are")
}

// probeMount finds the cgroup2 mount in which the server's own cgroup is.
func (h *Host) probeMount(given string) error {
	points := []string{given}
	if given == "" {
		text, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return fmt.Errorf("cannot read mountinfo: %v: %w", err, ErrNoProc)
		}
		points = cgroup2Mounts(string(text))
	}
	why := "no cgroup2 mount in /proc/self/mountinfo"
	for _, point := range points {
		err := h.tryMount(point)
		if err == nil {
			h.cgroups = true
			h.check("cgroup2", true, "mounted at %s, own cgroup %d", point, h.own[0])
			return nil
		}
		if given != "" {
			return fmt.Errorf("cannot use %s: %v: %w", point, err, ErrCgroupPath)
		}
		why = fmt.Sprintf("cannot use %s: %v", point, err)
	}
	h.check("cgroup2", false, "%s: containers are known by their pid namespace alone", why)
	return nil
}

// tryMount opens a mount point and the server's own cgroup below it.
func (h *Host) tryMount(point string) error {
	// open_by_handle_at refuses an O_PATH descriptor as its mount.
	fd, err := unix.Open(point, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	var fs unix.Statfs_t
	st, e := h.k.stat(fd)
	if err := unix.Fstatfs(fd, &fs); err != nil || e != 0 || fs.Type != unix.CGROUP2_SUPER_MAGIC {
		h.k.close(fd)
		return unix.ENOTSUP
	}
	h.mountFD, h.mountPath, h.cgroupDev = fd, point, st.Dev
	own, dirfd, r := h.ownCgroup()
	var up ancestry
	if r == RejectNone {
		h.own = []uint64{st.Ino}
		r = h.climb(dirfd, &up)
	}
	if r != RejectNone || (own != st.Ino && up.n == 0) {
		h.k.close(fd)
		h.mountFD, h.mountPath, h.own = -1, "", nil
		return fmt.Errorf("the server's own cgroup is not in it (%s)", r)
	}
	h.own = append(append([]uint64{}, up.ids[:up.n]...), st.Ino)
	return nil
}

// ownCgroup opens the directory of the server's "0::" line.
func (h *Host) ownCgroup() (id uint64, dirfd int, r Reject) {
	self, e := h.k.pidfdOpen(int32(os.Getpid()))
	if e != 0 {
		return 0, -1, RejectUnsupported
	}
	defer h.k.close(self)
	return h.cgroupByPath(int32(os.Getpid()), self)
}

// probeLevel tries each step of identification on the server itself and returns the
// highest level of which all steps work.
func (h *Host) probeLevel() Level {
	pid := int32(os.Getpid())
	self, e := h.k.pidfdOpen(pid)
	if !h.check("pidfd_open", e == 0, "%s", since(e, "5.3", "no peer can be identified")) {
		return LevelNone
	}
	defer h.k.close(self)
	h.probePidfs(self)
	h.probeHandles()
	h.probeParentNS()

	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		h.check("socketpair", false, "%v", err)
		return LevelNone
	}
	defer h.k.close(pair[0])
	defer h.k.close(pair[1])
	cred, e := h.k.peerCred(pair[0])
	if !h.check("SO_PEERCRED", e == 0 && cred.Pid == pid, "%s", since(e, "2.2", "no peer can be identified")) {
		return LevelNone
	}
	pidfd, e := h.k.peerPidfd(pair[0])
	if !h.check("SO_PEERPIDFD", e == 0, "%s", since(e, "6.5", "a pid reused between connect and accept is not noticed")) {
		h.probeMembers()
		return LevelPidfdOpen
	}
	defer h.k.close(pidfd)
	h.probeNSIoctl(pidfd)
	if !h.probeInfo(pidfd) {
		h.probeMembers()
		return LevelPeerPidfd
	}
	if !h.probeExit() {
		return LevelInfo
	}
	return LevelInfoExit
}

func (h *Host) probePidfs(self int) {
	var fs unix.Statfs_t
	err := unix.Fstatfs(self, &fs)
	h.pidfs = err == nil && fs.Type == unix.PID_FS_MAGIC
	if h.check("pidfs", h.pidfs, "a pidfd's inode names a process for ever (Linux 6.9)") {
		return
	}
	h.checks[len(h.checks)-1].Detail = "no pidfs (Linux 6.9): a process is not recognized after a restart of the server"
}

func (h *Host) probeHandles() {
	if !h.cgroups {
		return
	}
	fd, e := h.k.openHandle(h.mountFD, h.own[0])
	if e == 0 {
		st, se := h.k.stat(fd)
		h.k.close(fd)
		h.handles = se == 0 && st.Dev == h.cgroupDev && st.Ino == h.own[0]
	}
	if h.check("open_by_handle_at", h.handles, "cgroups are opened by their id") {
		return
	}
	h.checks[len(h.checks)-1].Detail = fmt.Sprintf(
		"%v: cgroups are opened by the path of the live peer (needs CAP_DAC_READ_SEARCH)", errText(e))
}

// probeParentNS asks for the parent of the server's own pid namespace: EPERM is the
// kernel's answer that there is none to be seen.
func (h *Host) probeParentNS() {
	fd, r := h.openProc(int32(os.Getpid()), "ns/pid", unix.O_RDONLY)
	if r != RejectNone {
		h.check("NS_GET_PARENT", false, "/proc/self/ns/pid: %s", r)
		return
	}
	defer h.k.close(fd)
	parent, e := h.k.parentNS(fd)
	if e == 0 {
		h.k.close(parent)
	}
	h.check("NS_GET_PARENT", e == 0 || e == unix.EPERM, "nested pid namespaces are followed upwards (Linux 4.9)")
}

func (h *Host) probeNSIoctl(pidfd int) {
	fd, e := h.k.pidNS(pidfd)
	if e == 0 {
		st, se := h.k.stat(fd)
		h.k.close(fd)
		h.nsIoctl = se == 0 && st.NS == h.ownNS
	}
	h.check("PIDFD_GET_PID_NAMESPACE", h.nsIoctl, "%s", since(e, "6.11", "/proc/PID/ns/pid is used"))
}

// probeInfo asks for the server's own cgroup id, which must be the inode number of
// the directory that /proc/self/cgroup names: else the mount shows something else.
func (h *Host) probeInfo(pidfd int) bool {
	mask, id, e := h.k.info(pidfd, unix.PIDFD_INFO_CGROUPID|unix.PIDFD_INFO_EXIT|pidfdInfoSupportedMask)
	if e != 0 || mask&unix.PIDFD_INFO_CGROUPID == 0 {
		return h.check("PIDFD_GET_INFO", false, "%s", since(e, "6.13", "/proc/PID/cgroup is read"))
	}
	h.check("PIDFD_GET_INFO", true, "works, own cgroup %d, mask %#x", id, mask)
	if h.cgroups && id != h.own[0] {
		h.dropMount("%s shows cgroup %d where the kernel says %d", h.mountPath, h.own[0], id)
	}
	return true
}

// probeMembers is for kernels that do not tell a cgroup id: the directory found must
// list the server, else /proc/PID/cgroup and the mount have different roots (a
// cgroup namespace) and a path would lead to the wrong cgroup.
func (h *Host) probeMembers() {
	if !h.cgroups {
		return
	}
	_, dirfd, r := h.ownCgroup()
	if r != RejectNone {
		h.dropMount("cannot open the server's own cgroup (%s)", r)
		return
	}
	defer h.k.close(dirfd)
	pids, err := readProcs(dirfd)
	if err != nil || !slices.Contains(pids, os.Getpid()) {
		h.dropMount("%s has no process %d in cgroup %d (%v)", h.mountPath, os.Getpid(), h.own[0], err)
	}
}

// dropMount gives up cgroup ids: wrong ones are worse than none.
func (h *Host) dropMount(format string, args ...any) {
	h.check("cgroup2 root", false, format+": containers are known by their pid namespace alone", args...)
	h.k.close(h.mountFD)
	h.mountFD, h.mountPath, h.own, h.cgroups, h.handles = -1, "", nil, false, false
}

// probeExit tries a peer that exited and was reaped before it is asked for.
func (h *Host) probeExit() bool {
	const lost = "a peer that exited before accept is refused"
	sock, err := reapedPeer()
	if err != nil {
		return h.check("exited peer", false, "not tried: %v: %s", err, lost)
	}
	defer h.k.close(sock)
	pidfd, e := h.k.peerPidfd(sock)
	if e != 0 {
		return h.check("exited peer", false, "SO_PEERPIDFD: %s", since(e, "6.16", lost))
	}
	defer h.k.close(pidfd)
	mask, id, e := h.k.info(pidfd, unix.PIDFD_INFO_CGROUPID|unix.PIDFD_INFO_EXIT)
	const want = unix.PIDFD_INFO_CGROUPID | unix.PIDFD_INFO_EXIT
	if e != 0 || mask&want != want || (h.cgroups && id != h.own[0]) {
		return h.check("exited peer", false, "PIDFD_INFO_EXIT: %s", since(e, "6.15", lost))
	}
	return h.check("exited peer", true, "a peer that exited before accept is identified")
}

// since says whether a feature works, or since when it would and what follows.
func since(e syscall.Errno, linux, without string) string {
	if e == 0 {
		return "works"
	}
	return fmt.Sprintf("%v (needs Linux %s): %s", e, linux, without)
}

func errText(e syscall.Errno) string {
	if e == 0 {
		return "wrong directory"
	}
	return e.Error()
}
