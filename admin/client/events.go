package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"devlxd/admin"
)

// maxLine bounds an event: the old and the new value of the longest config
// value that there is, each byte of which may take six in JSON.
const maxLine = 16 << 20

// MonitorOptions choose what a [Stream] delivers.
type MonitorOptions struct {
	// Types are "config" and "device"; nil is both.
	Types []string
	// Position adds to each event where it stands.
	Position bool
	// Since begins after this position, as an event or [Stream.Position] gave
	// it; "" begins now.
	Since string
}

// Stream is the events of one life of a container.
type Stream struct {
	ctx   context.Context
	conn  *conn
	lines *bufio.Scanner
	start string
}

// Monitor subscribes to the events of a running container. It returns once
// the daemon has confirmed: whatever happens from then on is delivered.
func (c *Client) Monitor(ctx context.Context, name string, o MonitorOptions) (*Stream, error) {
	query := url.Values{}
	if len(o.Types) > 0 {
		query.Set("type", strings.Join(o.Types, ","))
	}
	if o.Position {
		query.Set("position", "true")
	}
	if o.Since != "" {
		query.Set("since", o.Since)
	}
	resp, conn, err := c.roundTrip(ctx, call{method: http.MethodGet, path: []string{"containers", name, "events"}, query: query})
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer conn.Close()
		if _, err := readEnvelope(ctx, resp); err != nil {
			return nil, err
		}
		return nil, ErrAnswer
	}
	s := &Stream{ctx: ctx, conn: conn, lines: bufio.NewScanner(resp.Body), start: resp.Header.Get(admin.PositionField)}
	s.lines.Buffer(nil, maxLine)
	return s, nil
}

// Position returns the position after which the stream begins.
func (s *Stream) Position() string { return s.start }

// Next waits for the next event and returns its JSON text without the final
// newline, good until the next call. It returns io.EOF when the container has
// stopped, an [*Error] when the daemon ended the stream for another reason,
// such as a reader that is too slow, and the context's error after its end.
func (s *Stream) Next() ([]byte, error) {
	for s.lines.Scan() {
		line := s.lines.Bytes()
		if len(line) == 0 {
			continue
		}
		if !bytes.HasPrefix(line, []byte(`{"type":"`+admin.TypeError+`"`)) {
			return line, nil
		}
		var envelope admin.Response
		if err := json.Unmarshal(line, &envelope); err != nil {
			return nil, ErrAnswer
		}
		return nil, &Error{Code: envelope.ErrorCode, Text: envelope.Error}
	}
	err := s.lines.Err()
	switch {
	case err == nil:
		return nil, io.EOF
	case errors.Is(err, bufio.ErrTooLong):
		return nil, ErrLine
	}
	return nil, broken(s.ctx, err)
}

// Close ends the stream. A Next that waits returns an error.
func (s *Stream) Close() error { return s.conn.Close() }
