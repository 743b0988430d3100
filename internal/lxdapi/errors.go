package lxdapi

import (
	"errors"
	"fmt"
	"net/http"
)

var (
	// ErrNoDaemon: nobody answers as LXD or Incus on the socket.
	ErrNoDaemon = errors.New("no LXD or Incus daemon answers")
	// ErrNotFound: there is no such profile, instance or project.
	ErrNotFound = errors.New("not found")
	// ErrChanged: somebody has changed the document since it was read.
	ErrChanged = errors.New("changed by somebody else at the same time")
)

// daemonError is what the daemon says of a request.
func daemonError(method, path string, status int, text string) error {
	err := fmt.Errorf("%s %s: the daemon says %q (%d)", method, path, text, status)
	switch status {
	case http.StatusNotFound:
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case http.StatusPreconditionFailed:
		return fmt.Errorf("%w: %w", ErrChanged, err)
	}
	return err
}
