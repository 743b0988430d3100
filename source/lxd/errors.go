package lxd

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/sys/unix"
)

// Errors of this package, but for those of package source, by which admin clients are answered.
var (
	// ErrNoSocket: there is no socket of a daemon where one should be.
	ErrNoSocket = errors.New("no socket of the daemon")
	// ErrAnswer: what answers is no LXD or Incus, or its answer was cut off.
	ErrAnswer = errors.New("answer of the daemon cannot be read")
	// ErrSilent: the daemon has said nothing for too long.
	ErrSilent = errors.New("daemon does not answer: restart it if it hangs")
	// ErrEnded: the daemon has closed the connection on which it announces changes.
	ErrEnded = errors.New("daemon has closed the connection")
	// ErrState: the state of a predecessor process cannot be read.
	ErrState = errors.New("state of the predecessor cannot be read: restart devlxd")

	errSuspended = errors.New("mirror was ended by devlxd")
)

// apiError is a refusal by the daemon.
type apiError struct {
	code int
	text string
}

func (e *apiError) Error() string { return fmt.Sprintf("daemon answered %d %s", e.code, e.text) }

// isAbsent reports whether there is no socket, or nobody listens on it.
func isAbsent(err error) bool {
	return errors.Is(err, ErrNoSocket) || errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT)
}

// isGone reports whether the daemon says that there is no such thing (any more).
func isGone(err error) bool {
	var e *apiError
	return errors.As(err, &e) && e.code == http.StatusNotFound
}

// refuses reports whether the daemon does not let anybody set this config key. LXD answers that with 400 or 500.
func refuses(err error, key string) bool {
	var e *apiError
	return errors.As(err, &e) && e.code != http.StatusNotFound && strings.Contains(e.text, key)
}
