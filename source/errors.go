package source

import "errors"

// Kinds of failure. Every error of a [Writer] or a source wraps exactly one of the first group, with a line that names
// what was wrong and what to do; compare with errors.Is. [ErrStorage] and [ErrDamaged] also wrap the cause.
var (
	// ErrNotFound: no container, device or image has that name.
	ErrNotFound = errors.New("not found")
	// ErrExists: the name or fingerprint is taken; nothing was changed.
	ErrExists = errors.New("already exists")
	// ErrInvalid: the request breaks a rule of this package; the same request never succeeds.
	ErrInvalid = errors.New("invalid")
	// ErrConflict: the request is right but not in the present state, such as binding a container that runs.
	ErrConflict = errors.New("conflict")
	// ErrTooLarge: a key, value, set or image is over its limit.
	ErrTooLarge = errors.New("too large")
	// ErrFull: the host holds as many containers as it is configured for.
	ErrFull = errors.New("full")
	// ErrStorage: the change could not be written to disk; nothing was changed unless the text says so.
	ErrStorage = errors.New("storage failed")
	// ErrDamaged: stored state cannot be trusted; it was left as it is.
	ErrDamaged = errors.New("damaged")
	// ErrLocked: another process uses the state directory.
	ErrLocked = errors.New("in use by another devlxd")
	// ErrNewer: the state was written by a newer version; it was left as it is.
	ErrNewer = errors.New("written by a newer devlxd")
	// ErrReadOnly: the source mirrors another daemon, and the change is to be made there.
	ErrReadOnly = errors.New("only read by devlxd")
	// ErrClosed: the source was closed.
	ErrClosed = errors.New("store is closed")

	// ErrNoProcess is what [Binder.Open] wraps when the pid does not exist or its process has exited. A source tells by it
	// a container that stopped from one that could not be examined.
	ErrNoProcess = errors.New("no such process")
)
