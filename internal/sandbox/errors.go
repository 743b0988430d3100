package sandbox

import "errors"

// Errors of this package, to be compared with errors.Is. [ErrUnavailable] comes
// with one line that says what is missing and what to do.
var (
	// ErrUnavailable: the host does not allow a container to be made.
	ErrUnavailable = errors.New("containers cannot be made here")
	// ErrName: the name cannot be a host name.
	ErrName = errors.New("not a container name: use 1 to 63 of a-z, A-Z, 0-9 and \"-\"")
	// ErrStopped: the container has ended.
	ErrStopped = errors.New("the container has stopped: start it again")
	// ErrStarted: a Cmd is used a second time, or waited for before its start.
	ErrStarted = errors.New("the command was started already, or not at all: make a new one for each start")
	// ErrNoMain: the program does not call Main, or does so too late.
	ErrNoMain = errors.New("the container's init did not answer: call sandbox.Main first of all in main or TestMain")
)

var (
	errNoRole   = errors.New("no guest function of this name is registered with sandbox.Main")
	errProtocol = errors.New("unexpected message on the control socket")
)
