package lxdapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

var (
	// ErrAddress: a daemon is not named as it has to be.
	ErrAddress = errors.New("invalid source")
	// ErrNoSocket: there is no socket of a daemon where one should be.
	ErrNoSocket = errors.New("no socket of the daemon")
	// ErrTwo: nobody has said which of two daemons is meant.
	ErrTwo = errors.New("both LXD and Incus are here")
	// ErrNoDaemon: nobody listens on the socket.
	ErrNoDaemon = errors.New("no LXD or Incus daemon answers")
	// ErrAnswer: what answers is no LXD or Incus, or its answer was cut off.
	ErrAnswer = errors.New("answer of the daemon cannot be read")
	// ErrNotFound: there is no such profile, instance or project (any more).
	ErrNotFound = errors.New("not found")
	// ErrChanged: somebody has changed the document since it was read.
	ErrChanged = errors.New("changed by somebody else at the same time")
	// ErrFailed: an operation that the daemon had begun has failed.
	ErrFailed = errors.New("the daemon could not do it")
)

// Refusal is what the daemon says of a request that it does not grant. It is ErrNotFound or ErrChanged by its code.
type Refusal struct {
	Code int    // of HTTP
	Text string // one line
}

func (e *Refusal) Error() string { return fmt.Sprintf("daemon answered %d %s", e.Code, e.Text) }

// Is tells the refusals apart that callers act on.
func (e *Refusal) Is(target error) bool {
	return target == ErrNotFound && e.Code == http.StatusNotFound || target == ErrChanged && e.Code == http.StatusPreconditionFailed
}

// refusal reads an answer of the daemons' error form (shared/api.ResponseRaw), or plain text.
func refusal(res *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("%w (%w)", ErrAnswer, err)
	}
	var raw struct {
		Error string `json:"error"`
	}
	text := string(b)
	if json.Unmarshal(b, &raw) == nil && raw.Error != "" {
		text = raw.Error
	}
	return &Refusal{Code: res.StatusCode, Text: oneLine(text)}
}

// oneLine shows a foreign text in an error.
func oneLine(s string) string {
	const most = 300
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

// because prefers the reason of a context that has ended to what came of it, and takes the URL out, which says nothing here.
func (c *Client) because(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return fmt.Errorf("%w on %s: %w", ErrNoDaemon, c.socket, op.Err)
	}
	return err
}
