package client

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

var (
	// ErrUnreachable: nobody answers on the admin socket.
	ErrUnreachable = errors.New("cannot reach devlxd")
	// ErrBroken: the connection ended before the answer was complete. Whether
	// a change was made is unknown.
	ErrBroken = errors.New("connection to devlxd broke: see its log, and look before trying again")
	// ErrAnswer: what answered does not speak the admin API.
	ErrAnswer = errors.New("answer is not from the admin API of devlxd: check which program owns the socket")
	// ErrEmptyName: a container, device or image was named by "".
	ErrEmptyName = errors.New("name is empty: give the name of a container, device or image")
	// ErrLine: an event is longer than any that the daemon sends.
	ErrLine = errors.New("event is too long: the stream cannot be trusted any more")
	// ErrText: a text cannot be carried in JSON.
	ErrText = errors.New("not valid UTF-8: encode binary values, for example as base64")
)

// Error is an error that the daemon answered.
type Error struct {
	// Code is the HTTP status: 404 not found, 409 conflict and so on.
	Code int
	// Text is the daemon's one line.
	Text string
}

func (e *Error) Error() string { return e.Text }

// IsNotFound reports whether the daemon answered that something does not exist.
func IsNotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == 404
}

// dialError says why the socket could not be reached, and what to do.
func dialError(socket string, err error) error {
	advice := "is it running? start it with 'devlxd serve' or name another directory with --run-dir"
	switch {
	case errors.Is(err, fs.ErrPermission):
		advice = "permission denied: run as root or as the user of the daemon"
	case errors.Is(err, unix.EAGAIN):
		advice = "its backlog is full: try again"
	case errors.Is(err, unix.EINVAL):
		advice = fmt.Sprintf("path is too long for a socket (%d bytes): name a shorter directory with --run-dir", len(filepath.Clean(socket)))
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ECONNREFUSED):
		advice = err.Error()
	}
	return fmt.Errorf("%w at %s: %s", ErrUnreachable, socket, advice)
}
