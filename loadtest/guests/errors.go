package guests

import "errors"

// Errors of this package, to be compared with errors.Is. [ErrUnavailable] comes with
// one line that says what is missing and what to do.
var (
	// ErrUnavailable: the host does not allow the guests to be made.
	ErrUnavailable = errors.New("emulated containers cannot be made here")
	// ErrCount: no guests are asked for, or more than the helper has room for.
	ErrCount = errors.New("number of guests out of range: ask for 1 to 1048576, or for the init processes to attach to")
	// ErrAttach: a guest cannot be started in a container that exists.
	ErrAttach = errors.New("cannot start a guest in this container")
	// ErrPath: the path does not fit into a socket address (unix(7)).
	ErrPath = errors.New("not a path of a socket: use an absolute one of at most 107 bytes")
	// ErrNoSocket: Connect comes before SetSocket.
	ErrNoSocket = errors.New("no socket to connect to: call SetSocket first")
	// ErrBusy: a command is under way.
	ErrBusy = errors.New("connections asked for before are not all received: call Receive until they are")
	// ErrJob: the job is none that a guest can do.
	ErrJob = errors.New("not a job of a guest: ask for a flood of 1 to 256 connections and 1 to 128 requests at once, or a probe of 1 to 64 processes")
	// ErrAttached: guests in containers that exist do no jobs.
	ErrAttached = errors.New("guests in containers that exist make connections only")
	// ErrWorking: the processes of a job did not end.
	ErrWorking = errors.New("the processes of a guest's job did not end in time")
	// ErrStopped: the guest does not run.
	ErrStopped = errors.New("the guest has stopped: restart it")
	// ErrEnded: the helper process has ended, and all guests with it.
	ErrEnded = errors.New("the process that keeps the guests has ended by itself: close the set and start another")
	// ErrClosed: the set was closed.
	ErrClosed = errors.New("the set of guests is closed")
	// ErrLeft: the end of the guests left something behind.
	ErrLeft = errors.New("cgroups of the guests are left: remove them with rmdir, or start guests again")
)

var (
	errNumber   = errors.New("number of connections out of range: ask for 1 to 1048576")
	errMachine  = errors.New("the helper program is built for amd64 and arm64 only")
	errNoCgroup = errors.New("cgroup2 is not mounted")
	errGone     = errors.New("its init process has ended")
)
