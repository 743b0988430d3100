package lxdtest

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// tailLen is how much of a log a failing test shows.
const tailLen = 6000

// tail is the end of what the daemon has said.
func (d *Daemon) tail() string {
	var b strings.Builder
	for _, path := range []string{d.Log(), d.Dir + ".out"} {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		b.Write(text[max(0, len(text)-tailLen):])
	}
	return b.String()
}

// monitors are the processes that liblxc leaves beside each container: their command line is "[lxc monitor] LXCPATH NAME".
func (d *Daemon) monitors() (pids []int) {
	for _, pid := range processes() {
		line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		if err == nil && bytes.HasPrefix(line, []byte("[lxc monitor] "+d.Dir+"/")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func processes() (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// childrenOf lists the children of all threads of a process (proc_pid_tid_children(5)).
func childrenOf(pid int) (children []int) {
	files, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task/*/children"))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		for _, f := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(f); err == nil {
				children = append(children, child)
			}
		}
	}
	return children
}

// unmount takes away what the daemon has mounted in its directory, the last one first.
func (d *Daemon) unmount() {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	var points []string
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], d.Dir+"/") {
			points = append(points, f[4])
		}
	}
	for _, point := range slices.Backward(points) {
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.ENOENT {
			d.T.Errorf("unmount %s: %v", point, err)
		}
	}
}
