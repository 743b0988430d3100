package lxd

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devlxd/source"
)

// host is what a mirror asks the kernel.
type host interface {
	// inits returns processes that may be the init of the container, by the monitors that may be its own.
	inits(dirs []string, name string) []int
	// proves reports whether a process, which the caller holds, is the init of the container: a child of its monitor.
	proves(dirs []string, name string, pid int) bool
	// ended reports whether a process that was bound has certainly ended.
	ended(f source.Facts) bool
}

// linux is the host by its /proc.
type linux struct{ proc, cgroups string }

// Each instance has a monitor, a process of the host's root, in a cgroup of its own: lxc.monitor.NAME, or with -N after it where that
// name was taken (liblxc src/lxc/cgroups/cgfsng.c: cgfsng_monitor_create).
const (
	monitorCgroup = "lxc.monitor."
	monitorCopies = 8
	monitorTitle  = "[lxc monitor] " // liblxc src/lxc/lxccontainer.c: do_lxcapi_start; then the directory and the name
	instancesDir  = "containers"     // below the data directory
)

func (l *linux) inits(dirs []string, name string) (pids []int) {
	if l.cgroups == "" || strings.ContainsRune(name, '/') {
		return nil
	}
	path := filepath.Join(l.cgroups, monitorCgroup+name)
	for n := range monitorCopies {
		at := path
		if n > 0 {
			at += "-" + strconv.Itoa(n)
		}
		for _, monitor := range readPIDs(filepath.Join(at, "cgroup.procs")) {
			if !l.isMonitor(dirs, name, monitor) {
				continue
			}
			id := strconv.Itoa(monitor)
			for _, child := range readPIDs(filepath.Join(l.proc, id, "task", id, "children")) {
				if l.isInit(child) {
					pids = append(pids, child)
				}
			}
		}
	}
	return pids
}

// readPIDs reads a file of pids. The monitors' files are short; no guest writes to them.
func readPIDs(path string) (pids []int) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	for _, field := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 1 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// isMonitor reports whether a process is the monitor of a container. A title anybody can have, and root in a container is the host's root
// where that is privileged; but no process of a container is in the pid namespace of /proc alone, and no other user of the host is its root.
func (l *linux) isMonitor(dirs []string, name string, pid int) bool {
	status := l.status(pid)
	if len(status["NSpid"]) != 1 || len(status["Uid"]) == 0 || slices.ContainsFunc(status["Uid"], func(uid string) bool { return uid != "0" }) {
		return false
	}
	title, err := os.ReadFile(filepath.Join(l.proc, strconv.Itoa(pid), "cmdline"))
	if err != nil {
		return false
	}
	text := string(bytes.TrimRight(title, "\x00"))
	return slices.ContainsFunc(dirs, func(dir string) bool {
		return text == monitorTitle+filepath.Join(dir, instancesDir)+" "+name
	})
}

// isInit reports whether a process is the first one of a pid namespace below that of /proc.
func (l *linux) isInit(pid int) bool {
	ns := l.status(pid)["NSpid"]
	return len(ns) > 1 && ns[len(ns)-1] == "1"
}

// proves asks for the parent before and after, so that the monitor was the parent, and the same process, all the while.
func (l *linux) proves(dirs []string, name string, pid int) bool {
	parent := l.parent(pid)
	return parent > 1 && l.isMonitor(dirs, name, parent) && l.isInit(pid) && l.parent(pid) == parent
}

func (l *linux) parent(pid int) int {
	if p := l.status(pid)["PPid"]; len(p) == 1 {
		parent, _ := strconv.Atoi(p[0])
		return parent
	}
	return 0
}

// status reads /proc/PID/status (proc_pid_status(5)) as fields by name. The command, which a guest chooses, has its newlines escaped.
func (l *linux) status(pid int) map[string][]string {
	b, err := os.ReadFile(filepath.Join(l.proc, strconv.Itoa(pid), "status"))
	if err != nil {
		return nil
	}
	fields := make(map[string][]string)
	for line := range strings.Lines(string(b)) {
		name, values, _ := strings.Cut(line, ":")
		fields[name] = strings.Fields(values)
	}
	return fields
}

func (l *linux) ended(f source.Facts) bool {
	if f.PID <= 0 {
		return true
	}
	fd, err := unix.PidfdOpen(f.PID, 0)
	if err != nil {
		return err == unix.ESRCH //nolint:errorlint // an errno as it is
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if f.PidfdInode != 0 && unix.Fstat(fd, &st) == nil && st.Ino != f.PidfdInode {
		return true
	}
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0
}
