package rival

import "errors"

// Errors of the package.
var (
	// ErrKind: the name is none of [Kinds].
	ErrKind = errors.New("unknown rival: use one of nethttp, plain, fasthttp, gnet, limit, limit-c")
	// ErrNoCompiler: LimitC is made when it is started.
	ErrNoCompiler = errors.New("no C compiler was found: install gcc, or leave the rival limit-c out")
	// ErrCompile is followed by what the compiler said.
	ErrCompile = errors.New("compiler refused limit.c: install the C library's headers (libc6-dev), or leave the rival limit-c out")
	// ErrControl is followed by what is wrong.
	ErrControl = errors.New("control command is malformed: send one JSON object a line")
	// ErrRefused is followed by what the rival answered.
	ErrRefused = errors.New("rival refused a command")
	// ErrGone: the rival's process has ended.
	ErrGone = errors.New("rival does not answer: look at what its process said")
)

var (
	errOp          = errors.New("unknown op: use register, unregister, set or image")
	errNoContainer = errors.New("no such container: register it first")
	errNoName      = errors.New("container has no name: give each one a name of its own")
	errNoEvents    = errors.New("this rival has no events: use one whose Kind says so")
	errNoImages    = errors.New("this rival has no images: use one whose Kind says so")
	errEnded       = errors.New("server ended by itself: raise the limit of open files (ulimit -n) if they ran out")
	errNoRootUID   = errors.New("uid_map of the container's init has no root: register the container when its user namespace is set up")

	errNotInContainer = errors.New("process is in no registered container: ask from inside of one")
)
