package target

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what a process has used.
type Usage struct {
	CPU time.Duration // of all its threads
	RSS uint64        // resident memory in bytes
}

// ReadUsage reads a process. The CPU time is the sum over its threads of the first field of
// /proc/PID/task/TID/schedstat (nanoseconds, Documentation/scheduler/sched-stats.rst): stat(5) counts in ticks of 10 ms, too coarse
// for a run of seconds. A thread that ended is not in it, which a Go program's threads rarely do.
func ReadUsage(pid int) (Usage, error) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	tasks, err := os.ReadDir(dir + "task")
	if errors.Is(err, fs.ErrNotExist) {
		return Usage{}, fmt.Errorf("%w: process %d is gone", ErrExited, pid)
	}
	if err != nil {
		return Usage{}, fmt.Errorf("cannot read the CPU time of the server: %w", err)
	}
	var u Usage
	for _, task := range tasks {
		text, err := os.ReadFile(dir + "task/" + task.Name() + "/schedstat")
		if err != nil {
			continue // the thread has ended
		}
		first, _, _ := bytes.Cut(text, []byte{' '})
		ns, err := strconv.ParseInt(string(first), 10, 64)
		if err != nil {
			return Usage{}, fmt.Errorf("cannot read the CPU time of the server: %w", err)
		}
		u.CPU += time.Duration(ns)
	}
	text, err := os.ReadFile(dir + "statm")
	if err != nil {
		return Usage{}, fmt.Errorf("cannot read the memory of the server: %w", err)
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return Usage{}, fmt.Errorf("cannot read the memory of the server: %sstatm has %d fields", dir, len(fields))
	}
	pages, err := strconv.ParseUint(string(fields[1]), 10, 64)
	if err != nil {
		return Usage{}, fmt.Errorf("cannot read the memory of the server: %w", err)
	}
	if pages == 0 {
		return Usage{}, fmt.Errorf("%w: process %d is a zombie", ErrExited, pid)
	}
	u.RSS = pages * uint64(os.Getpagesize())
	return u, nil
}

// OpenFiles counts the descriptors of a process (proc_pid_fd(5)).
func OpenFiles(pid int) (int, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return 0, fmt.Errorf("cannot count the open files of the server: %w", err)
	}
	return len(entries), nil
}

// Pin binds all threads of a process to the given CPUs. Threads that it makes later inherit them.
func Pin(pid int, cpus ...int) error {
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return fmt.Errorf("cannot pin the server: %w", err)
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			continue
		}
		if err := unix.SchedSetaffinity(tid, &set); err != nil && err != unix.ESRCH {
			return fmt.Errorf("cannot pin the server: %w", os.NewSyscallError("sched_setaffinity", err))
		}
	}
	return nil
}
