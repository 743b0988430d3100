package lxd

import (
	"errors"
	"net/http"
	"strings"

	"golang.org/x/sys/unix"

	"devlxd/internal/lxdapi"
)

// Errors of this package, but for those of package source, by which admin clients are answered, and those of lxdapi.
var (
	// ErrSilent: the daemon has said nothing for too long.
	ErrSilent = errors.New("daemon does not answer: restart it if it hangs")
	// ErrEnded: the daemon has closed the connection on which it announces changes.
	ErrEnded = errors.New("daemon has closed the connection")
	// ErrState: the state of a predecessor process cannot be read.
	ErrState = errors.New("state of the predecessor cannot be read: restart devlxd")

	errSuspended = errors.New("mirror was ended by devlxd")
)

// isAbsent reports whether there is no socket, or nobody listens on it.
func isAbsent(err error) bool {
	return errors.Is(err, lxdapi.ErrNoSocket) || errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT)
}

// refuses reports whether the daemon does not let anybody set this config key. LXD answers that with 400 or 500.
func refuses(err error, key string) bool {
	var r *lxdapi.Refusal
	return errors.As(err, &r) && r.Code != http.StatusNotFound && strings.Contains(r.Text, key)
}
