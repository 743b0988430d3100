package guests

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Yield gives all guests, and what they start from now on, only the CPU time that nobody else wants (SCHED_IDLE of sched(7)), so that a
// flood is what the server makes of it and not what the scheduler does. Where processes are scheduled in groups, the group of this set
// steps back, too: that of its session ("The autogroup feature" of sched(7)), and that of its cgroup (cpu.idle of cgroup v2).
//
// Errors: that of sched_setattr(2) for a guest that runs. Groups are not there everywhere, so theirs are none.
func (s *Set) Yield() error {
	for i := range s.guests {
		pid := s.PID(i)
		if pid == 0 {
			continue
		}
		// The process of a guest is collected by the helper when it ends; at worst another one of its guests has the pid by now.
		err := unix.SchedSetAttr(pid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("cannot give guest %d less CPU time: %w", i, os.NewSyscallError("sched_setattr", err))
		}
	}
	const lowest = "19"
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", s.helper.process.Pid), []byte(lowest), 0)
	if s.base != nil {
		_ = os.WriteFile(filepath.Join(s.base.dir, "cpu.idle"), []byte("1"), 0)
	}
	return nil
}
