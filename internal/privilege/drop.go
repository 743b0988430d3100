package privilege

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// Drop leaves the process what it needs of what it has, and nothing else. It may be called by any user,
// and again; it cannot be undone. Without CAP_SETPCAP the bounding set stays as it is, which gives nobody
// anything: after Drop no capability is gained by exec(2).
//
// The daemon must start no program afterwards that has to be more than itself, such as one with
// set-user-ID. Files of the process in /proc are root's from then on, and it leaves no core
// dump, which would hold the configuration of all containers.
//
// Errors: those of capset(2) and prctl(2), ErrKept.
func Drop(needs []Need) error {
	now := cap.GetProc()
	var keep []cap.Value
	for _, n := range needs {
		if has, err := now.GetFlag(cap.Permitted, n.Cap); err == nil && has {
			keep = append(keep, n.Cap)
		}
	}
	if err := dropBound(now, needs); err != nil {
		return fmt.Errorf("cannot lower the bounding set: %w", err)
	}
	if err := set(keep); err != nil {
		return err
	}
	if _, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot set no_new_privs: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot switch core dumps off: %w", err)
	}
	return verify(keep)
}

// dropBound takes everything but the needs out of the bounding set, where that is allowed.
func dropBound(now *cap.Set, needs []Need) error {
	if may, err := now.GetFlag(cap.Effective, cap.SETPCAP); err != nil || !may {
		return nil
	}
	var drop []cap.Value
	for v := cap.Value(0); v < cap.MaxBits(); v++ {
		bound, err := cap.GetBound(v)
		if err != nil {
			return err
		}
		if bound && !slices.ContainsFunc(needs, func(n Need) bool { return n.Cap == v }) {
			drop = append(drop, v)
		}
	}
	return cap.DropBound(drop...)
}

// set makes keep the permitted, effective, inheritable and ambient set.
func set(keep []cap.Value) error {
	next := cap.NewSet()
	for _, flag := range [...]cap.Flag{cap.Permitted, cap.Effective, cap.Inheritable} {
		if err := next.SetFlag(flag, true, keep...); err != nil {
			return err
		}
	}
	if err := next.SetProc(); err != nil {
		return fmt.Errorf("cannot give up capabilities: %w", err)
	}
	// What is not inheritable any more has left the ambient set too.
	if err := cap.SetAmbient(true, keep...); err != nil {
		return fmt.Errorf("cannot pass capabilities on to a successor: %w", err)
	}
	return nil
}

// verify looks at all threads.
func verify(keep []cap.Value) error {
	s, err := Of(os.Getpid())
	if err != nil {
		return err
	}
	for _, have := range s.Capabilities {
		if !slices.ContainsFunc(keep, func(v cap.Value) bool { return name(v) == have }) {
			return fmt.Errorf("%s: %w", have, ErrKept)
		}
	}
	if !s.NoNewPrivs {
		return fmt.Errorf("no_new_privs: %w", ErrKept)
	}
	return nil
}
