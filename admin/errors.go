package admin

import (
	"errors"
	"fmt"
	"net/http"

	"golang.org/x/sys/unix"

	"devlxd/registry"
	"devlxd/source"
)

// Errors of the listener and of [Server.Serve].
var (
	// ErrNotSocket: something that is not a socket is where the socket goes.
	ErrNotSocket = errors.New("not a socket: move it away, or choose another run directory")
	// ErrPathTooLong: the path does not fit into a socket address.
	ErrPathTooLong = errors.New("path is too long for a socket: choose a shorter run directory")
	// ErrNotUnix: the admin API was to be served on something that cannot name its peers.
	ErrNotUnix = errors.New("not a unix socket: the admin API is served on no other kind")
	// ErrShutdown: the server was shut down before.
	ErrShutdown = errors.New("admin server was shut down: make a new one")
)

// Errors that a client is answered with.
var (
	errPeer        = &apiError{http.StatusForbidden, "permission denied: run as root or as the user of the devlxd daemon"}
	errReadOnly    = &apiError{http.StatusForbidden, "containers come from a source that devlxd only reads: make the change there"}
	errNoPath      = &apiError{http.StatusNotFound, "no such resource: see GET /1.0 and the documentation of the admin API"}
	errPath        = &apiError{http.StatusBadRequest, "path is malformed: percent-encode each name once"}
	errBodyLarge   = &apiError{http.StatusRequestEntityTooLarge, fmt.Sprintf("request body is too large: send at most %d bytes", MaxBody)}
	errBodyShort   = &apiError{http.StatusBadRequest, "request body ended early: send it whole"}
	errBodyMissing = &apiError{http.StatusBadRequest, "request has no body: send a JSON object"}
	errBodyUTF8    = &apiError{http.StatusBadRequest, "request body is not valid UTF-8: encode binary values, for example as base64"}
	errBodyAfter   = &apiError{http.StatusBadRequest, "request body goes on after the JSON object: send one object"}
	errPosition    = &apiError{http.StatusBadRequest, "position is malformed: use EPOCH.OFFSET as the daemon sent it"}
	errGone        = &apiError{http.StatusGone, "position is no longer held: read the configuration again and subscribe anew"}
	errOverrun     = &apiError{http.StatusGone, "events lost: reader too slow"}
	errRevoked     = &apiError{http.StatusConflict, "the guest API is closed to the container: monitor again when security.devlxd is true"}
	errLoading     = &apiError{http.StatusServiceUnavailable, "devlxd is still loading its containers and images: try again when GET /readyz answers 200"}
	errStopping    = &apiError{http.StatusServiceUnavailable, "devlxd is shutting down: try again when it has restarted"}
	errUpgradeOff  = &apiError{http.StatusNotImplemented, "this server cannot be upgraded: restart it"}
	errLogLevelOff = &apiError{http.StatusNotImplemented, "the log of this server has a level that stays: restart it with another"}
	errTopOff      = &apiError{http.StatusNotImplemented, "this server does not count by container"}
	errBusy        = &apiError{http.StatusConflict, "a change takes long, such as the import of an image: upgrade when it is done"}
	errRelay       = &apiError{http.StatusServiceUnavailable, "devlxd is being upgraded: try again"}
	errStreams     = &apiError{http.StatusServiceUnavailable, fmt.Sprintf("too many event streams: at most %d at a time", maxStreams)}
	errMetricsOff  = &apiError{http.StatusNotFound, "metrics are off: no gatherer is configured"}
	errMultipart   = &apiError{http.StatusBadRequest, "multipart body is malformed: send a part metadata, then a part rootfs"}
	errPartOrder   = &apiError{http.StatusInternalServerError, "image parts were read out of order: nothing was imported"}
	errInternal    = &apiError{http.StatusInternalServerError, "internal error: see the log of devlxd"}
	errPrefix      = &apiError{http.StatusBadRequest, "fingerprint is malformed: use at least 4 of its hexadecimal digits"}
)

// apiError is an answer with an error: the code and the one line.
type apiError struct {
	code int
	text string
}

func (e *apiError) Error() string { return e.text }

// errorf makes an apiError with a text of its own.
func errorf(code int, format string, args ...any) *apiError {
	return &apiError{code, fmt.Sprintf(format, args...)}
}

// codes says what each kind of error of a source is answered with. The first
// that matches counts, so the precise ones stand before the general.
var codes = [...]struct {
	err  error
	code int
}{
	{source.ErrReadOnly, http.StatusForbidden},
	{source.ErrTooLarge, http.StatusRequestEntityTooLarge},
	{source.ErrNoProcess, http.StatusBadRequest},
	{source.ErrConflict, http.StatusConflict},
	{source.ErrExists, http.StatusConflict},
	{source.ErrInvalid, http.StatusBadRequest},
	{source.ErrFull, http.StatusInsufficientStorage},
	{unix.ENOSPC, http.StatusInsufficientStorage},
	{unix.EDQUOT, http.StatusInsufficientStorage},
	{source.ErrClosed, http.StatusServiceUnavailable},
	{source.ErrLocked, http.StatusServiceUnavailable},
	{source.ErrStorage, http.StatusInternalServerError},
	{source.ErrDamaged, http.StatusInternalServerError},
	{source.ErrNewer, http.StatusInternalServerError},
	{source.ErrNotFound, http.StatusNotFound},
	{registry.ErrNotFound, http.StatusNotFound},
}

// codeOf returns the status code of an error; 500 for one that is not known.
func codeOf(err error) int {
	var api *apiError
	if errors.As(err, &api) {
		return api.code
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return http.StatusInternalServerError
}
