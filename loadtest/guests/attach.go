package guests

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// container is a container that exists: its init process and the cgroup of that.
type container struct {
	pidfd  int
	cgroup *os.File
}

// openContainer takes hold of a container by its init process. The pidfd is opened first and asked last, so that the cgroup
// cannot be that of another process which got the pid meanwhile.
func openContainer(pid int) (_ *container, err error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return nil, errGone
	}
	if err != nil {
		return nil, fmt.Errorf("pidfd_open: %w", err)
	}
	c := &container{pidfd: pidfd}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	dir, err := cgroupOf(fmt.Sprintf("/proc/%d/cgroup", pid))
	switch {
	case err == errNoCgroup: // all that remains to be told by are the namespaces
	case err != nil:
		return nil, err
	default:
		if c.cgroup, err = os.Open(dir); err != nil {
			return nil, err
		}
	}
	if err := unix.PidfdSendSignal(pidfd, 0, nil, 0); err == unix.ESRCH {
		return nil, errGone
	}
	return c, nil
}

func (c *container) close() {
	unix.Close(c.pidfd)
	if c.cgroup != nil {
		c.cgroup.Close()
	}
}

// Init returns the pid, as seen here, of the init process of the container that guest i is in: what a server has to be told of it. It is
// that of [Options.Attach], whether it still runs or not; other guests are the inits of their containers themselves (see [Set.PID]).
func (s *Set) Init(i int) int {
	if len(s.attach) > 0 {
		return s.attach[i]
	}
	return s.PID(i)
}

// attachGuest starts guest i in its container. The caller holds asking.
func (s *Set) attachGuest(ctx context.Context, i int) error {
	c, err := openContainer(s.attach[i])
	if err != nil {
		return fmt.Errorf("%w: init process %d: %w", ErrAttach, s.attach[i], err)
	}
	defer c.close()
	cmd, fds := command{op: opAttach, first: uint32(i)}, []int{c.pidfd}
	if c.cgroup != nil {
		cmd.count = 1
		fds = append(fds, int(c.cgroup.Fd()))
	}
	if err := s.helper.send(cmd, fds...); err != nil {
		return err
	}
	r, err := s.answer(ctx)
	if err != nil {
		return err
	}
	switch r.errno {
	case 0:
		return nil
	case unix.EPERM, unix.EACCES:
		return fmt.Errorf("%w: init process %d: run as root of the host (%w)", ErrAttach, s.attach[i], r.errno)
	case unix.ESRCH:
		return fmt.Errorf("%w: init process %d: %w", ErrAttach, s.attach[i], errGone)
	}
	return fmt.Errorf("%w: init process %d: %w", ErrAttach, s.attach[i], thisHost().explain(r.errno))
}
