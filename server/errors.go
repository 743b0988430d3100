package server

import (
	"errors"

	"devlxd/httpparse"
)

var (
	// errPositionFlag: ?position= is neither true nor false.
	errPositionFlag = errors.New("position must be true or false")
	// errImageFiles: as many image files are open as the limit of descriptors allows.
	errImageFiles = errors.New("too many image files are open: raise LimitNOFILE or try again")
	// errFileShrunk: an image file is shorter than its record says.
	errFileShrunk = errors.New("image file is shorter than announced")

	// errPatchTooLarge: the body of PATCH /1.0 is held in memory, so it is bounded.
	errPatchTooLarge = &httpparse.Error{Status: 413, Text: "body is larger than 16384 bytes: send less"}
	// errNegative: an option that is a number of things is negative.
	errNegative = errors.New("number of loops or connections is negative: give 0 for the default")

	// ErrHandoverState: what a predecessor sent cannot be its state.
	ErrHandoverState = errors.New("state of the other process is inconsistent: upgrade between versions that fit, or restart")

	// ErrNotSocket: the path of the guest socket holds something else.
	ErrNotSocket = errors.New("path exists and is not a socket: remove it or choose another run directory")
	// ErrClosed: the server was shut down, or not started yet.
	ErrClosed = errors.New("server is not running: start it, or make a new one after a shutdown")
	// ErrListening: a server has one listening socket.
	ErrListening = errors.New("server listens already: make another one for another socket")
)
