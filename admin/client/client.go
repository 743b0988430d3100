package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"

	"devlxd/admin"
)

// Client calls the admin API on one socket.
type Client struct{ socket string }

// New returns a client of the admin socket at a path. Nothing is dialled yet.
func New(socket string) *Client { return &Client{socket: socket} }

// InRunDir returns a client of the daemon with that run directory.
func InRunDir(dir string) *Client { return New(filepath.Join(dir, admin.SocketName)) }

// call is one request.
type call struct {
	method string
	path   []string // below /1.0, not encoded
	query  url.Values
	send   any // encoded as the JSON body; nil: none
	// body is sent as it is, with its type and its length; -1: unknown.
	body   *source
	kind   string
	length int64
}

// source is a body that remembers why it could not be read.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// fault returns why the body could not be read. It is known once the request
// is written.
func (in *call) fault() error {
	if in.body == nil {
		return nil
	}
	return in.body.err
}

// do makes a call and decodes the metadata of the answer into result, unless
// that is nil.
func (c *Client) do(ctx context.Context, req call, result any) error {
	resp, conn, err := c.roundTrip(ctx, req)
	if err != nil {
		return err
	}
	defer conn.Close()
	envelope, err := readEnvelope(ctx, resp)
	if err != nil || result == nil {
		return err
	}
	if err := json.Unmarshal(envelope.Metadata, result); err != nil {
		return fmt.Errorf("%w (%v)", ErrAnswer, err)
	}
	return nil
}

// readEnvelope reads an answer to its end. An error envelope is an *Error.
func readEnvelope(ctx context.Context, resp *http.Response) (*admin.Response, error) {
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, broken(ctx, err)
	}
	var envelope admin.Response
	if err := json.Unmarshal(body, &envelope); err != nil || envelope.Type != admin.TypeSync && envelope.Type != admin.TypeError {
		return nil, ErrAnswer
	}
	if envelope.Type == admin.TypeError {
		return nil, &Error{Code: envelope.ErrorCode, Text: envelope.Error}
	}
	return &envelope, nil
}

// broken says that the connection ended too early, or what the caller did.
func broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w (%v)", ErrBroken, err)
}

// conn ends with its context.
type conn struct {
	net.Conn
	stop func() bool
	sent <-chan struct{} // closed when the request is written; nil: not to be waited for
}

// Close ends the connection, and the writing of the request with it.
func (c *conn) Close() error {
	c.stop()
	err := c.Conn.Close()
	if c.sent != nil {
		<-c.sent
	}
	return err
}

func (c *Client) dial(ctx context.Context) (*conn, error) {
	var d net.Dialer
	inner, err := d.DialContext(ctx, "unix", c.socket)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, dialError(c.socket, err)
	}
	return &conn{Conn: inner, stop: context.AfterFunc(ctx, func() { _ = inner.Close() })}, nil
}

// roundTrip sends a request on a connection of its own and reads the head of
// the answer. The two happen at once: a daemon that refuses an image in the
// middle answers before it has read all, and net/http's transport would
// report the broken pipe in place of the reason.
func (c *Client) roundTrip(ctx context.Context, in call) (*http.Response, *conn, error) {
	req, err := in.request()
	if err != nil {
		return nil, nil, err
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	var writeErr error
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		if writeErr = req.Write(conn.Conn); writeErr != nil && in.fault() != nil {
			// The body could not be read: the daemon must not wait for the rest.
			_ = conn.Conn.Close()
		}
	}()
	if in.body == nil {
		conn.sent = sent // a reader of the caller's may block for ever instead
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err == nil {
		return resp, conn, nil
	}
	_ = conn.Close()
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	<-sent
	switch {
	case in.fault() != nil:
		return nil, nil, in.fault()
	case writeErr != nil:
		err = writeErr
	}
	return nil, nil, broken(ctx, err)
}

func (in *call) request() (*http.Request, error) {
	path := "/" + admin.APIVersion
	for _, segment := range in.path {
		if segment == "" {
			return nil, ErrEmptyName
		}
		path += "/" + url.PathEscape(segment)
	}
	if len(in.query) > 0 {
		path += "?" + in.query.Encode()
	}
	var body io.Reader
	length, kind := in.length, in.kind
	if in.body != nil {
		body = in.body
	}
	if in.send != nil {
		encoded, err := json.Marshal(in.send)
		if err != nil {
			return nil, err
		}
		body, length, kind = bytes.NewReader(encoded), int64(len(encoded)), "application/json"
	}
	req, err := http.NewRequest(in.method, "http://devlxd"+path, body)
	if err != nil {
		return nil, err
	}
	req.Close = true
	req.Header.Set("User-Agent", "devlxd")
	if body != nil {
		req.ContentLength = length
		req.Header.Set("Content-Type", kind)
	}
	return req, nil
}
