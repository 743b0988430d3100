package target

import "errors"

var (
	// ErrUnsupported: the target has no such feature.
	ErrUnsupported = errors.New("not supported by this target")
	// ErrNoBinary: devlxd was not found and cannot be built.
	ErrNoBinary = errors.New("no devlxd binary: build one beside devlxd-load, put it on the PATH, or name it with --devlxd")
	// ErrExited: a server that was started here ended by itself.
	ErrExited = errors.New("server ended by itself")
	// ErrNotReady: a server that was started here does not serve its socket.
	ErrNotReady = errors.New("server does not serve its socket: see its messages above")
	// ErrNoInstances: a daemon runs no containers.
	ErrNoInstances = errors.New("daemon runs no containers: start some, or name them with --attach")
)
