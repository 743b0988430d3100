package peer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of the search for foreign processes in a container's cgroup. A container that
// exceeds them is known by its pid namespace alone.
const (
	maxScanCgroups   = 4096
	maxScanProcesses = 32768
)

// initCgroup finds the cgroup of an Init and decides whether it is the container's own.
func (h *Host) initCgroup(i *Init, o InitOptions) error {
	if !h.cgroups {
		if o.Cgroup != "" {
			return ErrNoCgroup2
		}
		i.CgroupNote = "no usable cgroup2 mount"
		return nil
	}
	if o.CgroupID != 0 && h.knownCgroup(i, o) {
		return nil
	}
	name, err := h.initCgroupPath(i, o.Cgroup)
	if err != nil {
		return err
	}
	dirfd, err := openDir(h.mountFD, name)
	if err != nil {
		return fmt.Errorf("cgroup %s: %v: %w", name, err, ErrCgroupPath)
	}
	defer unix.Close(dirfd)
	st, e := h.k.stat(dirfd)
	if e != 0 || st.Dev != h.cgroupDev {
		return fmt.Errorf("cgroup %s: %w", name, ErrCgroupPath)
	}
	note, err := h.ownCgroupOf(i, dirfd, st.Ino, o)
	if err != nil {
		return fmt.Errorf("cgroup %s: %w", name, err)
	}
	if note != "" {
		i.CgroupNote = fmt.Sprintf("cgroup %s %s", name, note)
		return nil
	}
	i.CgroupID, i.CgroupPath = st.Ino, name
	return nil
}

// initCgroupPath returns the path of the cgroup to look at, relative to the mount with
// a leading "/".
func (h *Host) initCgroupPath(i *Init, given string) (string, error) {
	if given != "" {
		rest, under := strings.CutPrefix(given, h.mountPath)
		if !under || (rest != "" && rest[0] != '/') {
			rest = given
		}
		rest = "/" + strings.Trim(rest, "/")
		if !cleanPath([]byte(rest)) {
			return "", fmt.Errorf("cgroup %q: %w", given, ErrCgroupPath)
		}
		return rest, nil
	}
	name, err := h.currentCgroup(i)
	if err != nil {
		return "", err
	}
	// systemd as init moves itself to init.scope (its src/core/cgroup.c); the
	// container's cgroup is the one above.
	if path.Base(name) == "init.scope" {
		name = path.Dir(name)
	}
	return name, nil
}

// currentCgroup returns the path of the cgroup that the init is in now.
func (h *Host) currentCgroup(i *Init) (string, error) {
	text, err := h.readProcFile(i.PID, "cgroup")
	if err != nil {
		return "", err
	}
	line, ok := cgroupLine([]byte(text))
	if !ok {
		return "", ErrCgroupLine
	}
	return string(line), nil
}

// knownCgroup takes the cgroup that is known by its id as the container's own, if the
// init is in it or below and no other container is registered with it, above it or
// where the init is. The search goes upwards from the init, so it needs no
// CAP_DAC_READ_SEARCH and can end only in a cgroup that holds the init.
func (h *Host) knownCgroup(i *Init, o InitOptions) bool {
	name, err := h.currentCgroup(i)
	if err != nil {
		return false
	}
	dirfd, err := openDir(h.mountFD, name)
	if err != nil {
		return false
	}
	var up ancestry
	if r := h.climb(dirfd, &up); r != RejectNone {
		return false
	}
	at := slices.Index(up.ids[:up.n], o.CgroupID)
	if at < 0 || o.InUse != nil && slices.ContainsFunc(up.ids[:up.n], o.InUse) {
		return false
	}
	for range at {
		name = path.Dir(name)
	}
	i.CgroupID, i.CgroupPath = o.CgroupID, name
	return true
}

// holdsInit tells whether the init is in the cgroup or below it.
func (h *Host) holdsInit(i *Init, id uint64) error {
	_, dirfd, r := h.cgroupByPath(int32(i.PID), i.pidfd)
	var up ancestry
	if r == RejectNone {
		r = h.climb(dirfd, &up)
	}
	if r != RejectNone {
		return fmt.Errorf("cannot read the cgroup of the init (%s)", r)
	}
	for _, above := range up.ids[:up.n] {
		if above == id {
			return nil
		}
	}
	return ErrCgroupNotInit
}

// ownCgroupOf decides whether a cgroup is the container's own. A note says why not.
func (h *Host) ownCgroupOf(i *Init, dirfd int, id uint64, o InitOptions) (note string, err error) {
	explicit := o.Cgroup != ""
	inUse := o.InUse
	if inUse == nil {
		inUse = func(uint64) bool { return false }
	}
	if h.reserved(id) {
		if explicit {
			return "", ErrCgroupReserved
		}
		return "is the root, the server's own or one above it", nil
	}
	if explicit {
		if err := h.holdsInit(i, id); err != nil {
			return "", err
		}
	}
	if inUse(id) {
		if explicit {
			return "", ErrCgroupTaken
		}
		i.contested = id
		return "belongs to another registered container", nil
	}
	above, err := dup(dirfd)
	if err != nil {
		return "", err
	}
	var up ancestry
	if r := h.climb(above, &up); r != RejectNone || up.n == 0 {
		return "", fmt.Errorf("cannot follow it up to the root (%s): %w", r, ErrCgroupPath)
	}
	for _, a := range up.ids[1:up.n] {
		if inUse(a) {
			return "", ErrNested
		}
	}
	s := scan{h: h, want: i.PidNS, inUse: inUse}
	foreign, err := s.dir(dirfd, 0)
	if err != nil || foreign == "" {
		return "", err
	}
	return "is not its own: " + foreign, nil
}

// scan looks for what does not belong to a container in the cgroups below one.
type scan struct {
	h         *Host
	want      NS
	inUse     func(uint64) bool
	cgroups   int
	processes int
}

// dir looks at one directory and all below it. foreign says what was found.
func (s *scan) dir(dirfd, depth int) (foreign string, err error) {
	if s.cgroups++; s.cgroups > maxScanCgroups || depth > maxCgroupDepth {
		return "it has too many cgroups to look at", nil
	}
	pids, err := readProcs(dirfd)
	if err == unix.EOPNOTSUPP && depth > 0 {
		// cgroup-v2: a threaded cgroup's processes are listed in the domain above.
		err = nil
	}
	if err != nil {
		return "its processes cannot be read: " + err.Error(), nil
	}
	for _, pid := range pids {
		if s.processes++; s.processes > maxScanProcesses {
			return "it has too many processes to look at", nil
		}
		if !s.inside(pid) {
			return fmt.Sprintf("process %d in it is outside the container's pid namespace", pid), nil
		}
	}
	return s.below(dirfd, depth)
}

func (s *scan) below(dirfd, depth int) (foreign string, err error) {
	names, err := subdirs(dirfd)
	if err != nil {
		return "it cannot be listed: " + err.Error(), nil
	}
	for _, name := range names {
		sub, err := openDir(dirfd, "/"+name)
		if err == unix.ENOENT || err == unix.ENODEV {
			continue
		}
		if err != nil {
			return fmt.Sprintf("%s in it cannot be opened: %v", name, err), nil
		}
		st, e := s.h.k.stat(sub)
		if e == 0 && s.inUse(st.Ino) {
			unix.Close(sub)
			return "", ErrNested
		}
		foreign, err = s.dir(sub, depth+1)
		unix.Close(sub)
		if foreign != "" || err != nil {
			return foreign, err
		}
	}
	return "", nil
}

// inside tells whether a process is in the container's pid namespace or below it.
// One that has ended meanwhile is. Its number may be reused while this looks: then
// the answer is about a process that is not in the cgroup, and at worst refuses it.
func (s *scan) inside(pid int) bool {
	if pid == 0 {
		return false // cgroup.procs shows 0 for processes that the server cannot see
	}
	fd, r := s.h.openProc(int32(pid), "ns/pid", unix.O_RDONLY)
	if r == RejectGone {
		return true
	}
	if r != RejectNone {
		return false
	}
	defer unix.Close(fd)
	in, r := s.h.nsBelow(fd, s.want)
	return in && r == RejectNone
}

// nsBelow tells whether the namespace of fd is want or below it. fd stays open.
func (h *Host) nsBelow(fd int, want NS) (bool, Reject) {
	first, err := dup(fd)
	if err != nil {
		return false, RejectResources
	}
	in := false
	r := h.climbNS(first, func(ns NS) bool {
		in = ns == want
		return !in
	})
	return in, r
}

// dup copies a descriptor, close-on-exec.
func dup(fd int) (int, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	return n, os.NewSyscallError("fcntl", err)
}

// openDir opens a directory below another; name begins with "/".
func openDir(dirfd int, name string) (int, error) {
	if name = strings.TrimPrefix(name, "/"); name == "" {
		name = "."
	}
	return unix.Openat(dirfd, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// readProcs reads cgroup.procs of a cgroup.
func readProcs(dirfd int) ([]int, error) {
	fd, err := unix.Openat(dirfd, "cgroup.procs", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		if err == unix.ENOENT || err == unix.ENODEV {
			return nil, nil // removed meanwhile
		}
		return nil, err
	}
	defer unix.Close(fd)
	var text []byte
	buf := make([]byte, 64<<10)
	for {
		n, e := sysRead(fd, buf)
		if e == unix.ENODEV {
			break
		}
		if e != 0 {
			return nil, e
		}
		if n == 0 {
			break
		}
		text = append(text, buf[:n]...)
	}
	var pids []int
	for _, f := range bytes.Fields(text) {
		pid, err := strconv.Atoi(string(f))
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// subdirs lists the directories in a cgroup.
func subdirs(dirfd int) ([]string, error) {
	fd, err := unix.Openat(dirfd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil, nil // removed meanwhile
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "cgroup")
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
