package discover

import "errors"

var (
	// ErrRuntime: the name is none of a runtime that can be discovered.
	ErrRuntime = errors.New("unknown runtime")
	// ErrTree: the cgroup v2 tree cannot be opened or watched.
	ErrTree = errors.New("cannot watch the cgroup v2 tree")
)

// Why a cgroup in the place of a container is not bound, for the log.
var (
	errEmpty    = errors.New("it has no process")
	errNoInit   = errors.New("none of its processes is below a process 1 of a pid namespace of its own: bind it with 'devlxd container bind'")
	errForeign  = errors.New("the cgroup above it belongs to another user than the tree")
	errNameless = errors.New("its supervisor does not say how it is called: bind it with 'devlxd container bind'")
	errEscape   = errors.New("its unit has a name that systemd does not write")
	errReused   = errors.New("its init process has ended")
)
