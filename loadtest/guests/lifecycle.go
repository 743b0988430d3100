package guests

import (
	"context"
	"fmt"
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// listen takes what the helper says, until it says no more. It alone changes whether a guest runs, in the order in which things
// happened, so that the end of one life cannot be taken for that of the next.
func (s *Set) listen() {
	buf, oob := make([]byte, reportSize), make([]byte, unix.CmsgSpace(4))
	for {
		r, pidfd, err := s.helper.receive(buf, oob)
		if err != nil || int(r.index) >= len(s.guests) {
			break
		}
		switch {
		case r.kind != sayStarted:
			s.guestEnded(int(r.index))
		case r.errno == 0:
			s.guestStarted(r, pidfd)
		}
		if pidfd >= 0 {
			unix.Close(pidfd)
		}
		if r.kind == sayDied {
			continue
		}
		select {
		case s.answers <- r:
		case <-s.quit:
		}
	}
	// A helper that ended took all guests with it: the kernel has sent SIGKILL to them (PR_SET_PDEATHSIG).
	for i := range s.guests {
		s.guestEnded(i)
	}
	close(s.lost)
}

func (s *Set) guestStarted(r report, pidfd int) {
	pid, dir := r.pid, ""
	if pidfd >= 0 {
		pid, _ = pidOf(pidfd) // -1 when it has ended already, as the helper will say
		dir, _ = cgroupOf(fmt.Sprintf("/proc/%d/cgroup", pid))
	} else if s.base != nil {
		dir = s.base.guestDir(int(r.index))
	}
	id := uint64(0)
	if dir != "" {
		id = idOf(dir)
	}
	g := &s.guests[r.index]
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running, g.pid, g.dir, g.cgroupID = true, pid, dir, id
	g.life++
	g.working = false
}

// guestEnded notes the end of a guest that runs, and wakes Receive to account for what it was told to do. It is called when the
// process has been collected, so what it has sent is in the data socket.
func (s *Set) guestEnded(i int) {
	g := &s.guests[i]
	g.mu.Lock()
	ran, life := g.running, g.life
	g.running, g.pid, g.dir, g.cgroupID = false, 0, "", 0
	g.mu.Unlock()
	if !ran {
		return
	}
	s.endsMu.Lock()
	defer s.endsMu.Unlock()
	s.ends = append(s.ends, end{i, life})
	one := [8]byte{1} // a number in native byte order, and any but 0 does
	_, _ = unix.Write(s.wakeup, one[:])
}

// Stop ends guest i as SIGKILL would, with what it was about to do, and returns when it is gone and its cgroup is removed. Nothing
// happens to a guest that has stopped. Its connections stay open, as the caller has them.
//
// Errors: [ErrClosed], [ErrEnded], or that of removing the cgroup.
func (s *Set) Stop(i int) error {
	s.asking.Lock()
	defer s.asking.Unlock()
	return s.stop(i)
}

func (s *Set) stop(i int) error {
	if s.closed.Load() {
		return ErrClosed
	}
	if err := s.helper.send(command{op: opStop, first: uint32(i)}); err != nil {
		return err
	}
	r, err := s.answer(context.Background())
	if err != nil {
		return err
	}
	if r.errno != 0 {
		return fmt.Errorf("cannot remove the cgroup of guest %d: %w", i, r.errno)
	}
	return nil
}

// Restart starts guest i again, after stopping it if it runs, and returns its new pid. It is a new container for everyone: its
// namespaces and its cgroup id are others.
//
// Errors: as of [Start] and [Set.Stop].
func (s *Set) Restart(i int) (pid int, err error) { return s.RestartAs(i, 0) }

// RestartAs is Restart with the pid that the guest shall have (clone(2), set_tid): that of another guest which has stopped, to see
// whether a server takes one for the other. It gets another one where the wanted pid is taken or may not be chosen (which takes
// CAP_CHECKPOINT_RESTORE), and in a container that exists.
//
// Errors: as of [Start] and [Set.Stop].
func (s *Set) RestartAs(i, want int) (pid int, err error) {
	s.asking.Lock()
	defer s.asking.Unlock()
	if err := s.stop(i); err != nil {
		return 0, err
	}
	if len(s.attach) > 0 {
		err = s.attachGuest(context.Background(), i)
	} else {
		err = s.helper.send(command{op: opStart, first: uint32(i), count: 1, pid: uint32(want)})
		if err == nil {
			err = s.restarted(i)
		}
	}
	if err != nil {
		return 0, err
	}
	return s.PID(i), nil
}

func (s *Set) restarted(i int) error {
	r, err := s.answer(context.Background())
	if err == nil && r.errno != 0 {
		err = fmt.Errorf("cannot start guest %d again: %w", i, thisHost().explain(r.errno))
	}
	return err
}

// inode returns the inode number of a file, which is the id of a cgroup's directory (64-bit kernels).
func inode(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}
