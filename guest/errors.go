package guest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// Errors of the guest API, for errors.Is.
var (
	// ErrNotFound: there is no such key, image or path (404).
	ErrNotFound = errors.New("not found")
	// ErrForbidden: the key is not one that guests read, or the host has closed the guest API or images to the container (403).
	ErrForbidden = errors.New("forbidden: the host allows it with security.devlxd and security.devlxd.images")
	// ErrUnauthorized: the process is not the root user of its container (401).
	ErrUnauthorized = errors.New("unauthorized: run as root of the container")
	// ErrGone: a position is not held any more (410): read the configuration again.
	ErrGone = errors.New("position is gone: read the configuration again")
	// ErrUnavailable: the server is not there, or does not know the container yet (500): try again.
	ErrUnavailable = errors.New("guest API is not available: try again")
	// ErrTooLarge: an answer or event is longer than any that a server sends.
	ErrTooLarge = errors.New("answer is too large: check which program owns the socket")
	// ErrAnswer: what answered does not speak the guest API.
	ErrAnswer = errors.New("answer is not from the guest API: check which program owns the socket")
	// ErrImageChanged: an image is another one than that of which a part was downloaded. Begin at the start.
	ErrImageChanged = errors.New("image is another one than that of the part: download it from the start")
	// ErrState: a state is neither Ready nor Started.
	ErrState = errors.New("state is unknown: use Ready or Started")
	// ErrPosition: a position is not one that a server sent.
	ErrPosition = errors.New("position is malformed: give one that an event had")
	// ErrFingerprint: an image was named by "".
	ErrFingerprint = errors.New("fingerprint is empty: name the image")
)

// Error is an answer with a status that says no.
type Error struct {
	// Status is the HTTP status.
	Status int
	// Text is what the server said, at most 1 KiB.
	Text string
}

// Error gives both.
func (e *Error) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("guest API answered %d", e.Status)
	}
	return fmt.Sprintf("guest API answered %d: %s", e.Status, e.Text)
}

// Is makes the status known to errors.Is.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrNotFound:
		return e.Status == http.StatusNotFound
	case ErrForbidden:
		return e.Status == http.StatusForbidden
	case ErrUnauthorized:
		return e.Status == http.StatusUnauthorized
	case ErrGone:
		return e.Status == http.StatusGone
	case ErrUnavailable:
		return e.Status >= http.StatusInternalServerError && e.Status != http.StatusNotImplemented && e.Status != http.StatusHTTPVersionNotSupported
	}
	return false
}

// broken says that no whole answer came, or what the caller did.
func broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w (%w)", ErrUnavailable, err)
}
