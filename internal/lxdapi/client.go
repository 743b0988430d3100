package lxdapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Client talks to one daemon.
type Client struct {
	socket string
	http   *http.Client
}

// New makes a client of the daemon on a Unix socket, which keeps up to idle connections open between requests. Nothing is connected yet.
func New(socket string, idle int) *Client {
	// A proxy of the environment is not for a Unix socket.
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext: Dialer(socket), MaxIdleConnsPerHost: idle, IdleConnTimeout: time.Minute,
	}}}
}

// Dialer connects to the daemon, whatever address it is given.
func Dialer(socket string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
}

// Close closes the connections that no request uses.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Path is a resource of the API: its parts are escaped, and query is "" or left out where it is empty.
func Path(query url.Values, parts ...string) string {
	path := "/1.0"
	for _, p := range parts {
		path += "/" + url.PathEscape(p)
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return path
}

// Read has the metadata of a document read, as it comes. Errors: those of read and of the connection, a [*Refusal], [ErrAnswer], and the cause of ctx.
func (c *Client) Read(ctx context.Context, path string, read func(*json.Decoder) error) (etag string, err error) {
	a, err := c.do(ctx, http.MethodGet, path, "", nil, read)
	return a.etag, err
}

// Get reads a document into v, and returns its ETag.
func (c *Client) Get(ctx context.Context, path string, v any) (etag string, err error) {
	return c.Read(ctx, path, func(d *json.Decoder) error { return d.Decode(v) })
}

// Put replaces a document if it still has the ETag, "" for whatever it is, and waits until that is done. Error: [ErrChanged] among others.
func (c *Client) Put(ctx context.Context, path, etag string, v any) error {
	return c.write(ctx, http.MethodPut, path, etag, v)
}

// Patch changes what v has of a document, and waits until that is done.
func (c *Client) Patch(ctx context.Context, path string, v any) error {
	return c.write(ctx, http.MethodPatch, path, "", v)
}

func (c *Client) write(ctx context.Context, method, path, etag string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	a, err := c.do(ctx, method, path, etag, body, nil)
	if err != nil || a.kind != "async" {
		return err
	}
	return c.wait(ctx, a.operation)
}

// wait waits for the end of an operation.
func (c *Client) wait(ctx context.Context, operation string) error {
	var op struct {
		StatusCode int    `json:"status_code"`
		Err        string `json:"err"`
	}
	at, query, inProject := strings.Cut(operation, "?")
	if at += "/wait"; inProject {
		at += "?" + query
	}
	if _, err := c.Get(ctx, at, &op); err != nil {
		return err
	}
	if op.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s", ErrFailed, oneLine(op.Err))
	}
	return nil
}

// do makes a request. read reads the metadata; nil skips it.
func (c *Client) do(ctx context.Context, method, path, etag string, body []byte, read func(*json.Decoder) error) (a answer, err error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://daemon"+path, bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	req.Header.Set("User-Agent", "devlxd")
	if etag != "" {
		req.Header.Set("If-Match", etag)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return a, c.because(ctx, err)
	}
	defer res.Body.Close()
	if res.StatusCode >= http.StatusBadRequest {
		return a, c.because(ctx, refusal(res))
	}
	if a, err = envelope(json.NewDecoder(res.Body), read); err != nil {
		return a, c.because(ctx, fmt.Errorf("%w (%w)", ErrAnswer, err))
	}
	a.etag = res.Header.Get("ETag")
	return a, nil
}
