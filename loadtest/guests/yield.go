package guests

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Yield gives all guests, with the processes of their jobs, only the CPU time that nobody else wants (SCHED_IDLE of sched(7)), so that a
// flood is what the server makes of it and not what the scheduler does; with false it takes that back, without which a job might not get
// the time to end. Where processes are scheduled in groups, the group of this set steps back, too: that of its session ("The autogroup
// feature" of sched(7)), and that of its cgroup (cpu.idle of cgroup v2).
//
// Errors: that of sched_setattr(2) for a guest that runs. Groups are not there everywhere, so theirs are none.
func (s *Set) Yield(yield bool) error {
	policy, nice, idle := uint32(unix.SCHED_NORMAL), "0", "0"
	if yield {
		policy, nice, idle = unix.SCHED_IDLE, "19", "1"
	}
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", s.helper.process.Pid), []byte(nice), 0)
	if s.base != nil {
		_ = os.WriteFile(filepath.Join(s.base.dir, "cpu.idle"), []byte(idle), 0)
	}
	for i := range s.guests {
		for _, pid := range withChildren(s.PID(i)) {
			// At worst another process of these guests has the pid by now.
			err := unix.SchedSetAttr(pid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy}, 0)
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("cannot change the CPU time of guest %d: %w", i, os.NewSyscallError("sched_setattr", err))
			}
		}
	}
	return nil
}

// Niceness of [Set.Hurry] and of nobody in particular (setpriority(2)).
const (
	niceFirst  = -20
	niceNormal = 0
)

// Hurry lets all guests run before everybody else who wants the CPU, the threads of the kernel that clean up after connections included, so
// that what a guest waits for is the server; with false it takes that back. Without CAP_SYS_NICE it does nothing. The processes of jobs are
// left alone.
func (s *Set) Hurry(hurry bool) {
	for i := range s.guests {
		if pid := s.PID(i); pid != 0 {
			_ = unix.Setpriority(unix.PRIO_PROCESS, pid, niceness(hurry))
		}
	}
}

// HurrySelf is Hurry for the threads of this process, and for those that they make later.
func HurrySelf(hurry bool) {
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, task := range tasks {
		if tid, err := strconv.Atoi(task.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, tid, niceness(hurry))
		}
	}
}

func niceness(hurry bool) int {
	if hurry {
		return niceFirst
	}
	return niceNormal
}

// withChildren is a process with its children (proc_pid_task(5), "children"); none of it when it is 0.
func withChildren(pid int) []int {
	if pid == 0 {
		return nil
	}
	pids := []int{pid}
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, field := range strings.Fields(string(text)) {
		if child, err := strconv.Atoi(field); err == nil {
			pids = append(pids, child)
		}
	}
	return pids
}
