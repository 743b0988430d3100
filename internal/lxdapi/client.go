package lxdapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
)

// maxAnswer bounds an answer in bytes.
const maxAnswer = 64 << 20

// Client talks to one daemon.
type Client struct {
	socket string
	http   *http.Client
}

// New makes a client of the daemon on a Unix socket. Nothing is connected yet.
func New(socket string) *Client {
	var d net.Dialer
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", socket) },
		MaxIdleConns:    1,
		IdleConnTimeout: 1e9,
	}}}
}

// Sockets are where the packages of LXD and Incus put theirs (lxd/sys/os.go; the snap's; incusd/sys/os.go), in the order in which
// they are tried.
func Sockets() []string {
	return []string{"/var/snap/lxd/common/lxd/unix.socket", "/var/lib/lxd/unix.socket", "/var/lib/incus/unix.socket"}
}

// Find returns the first of the sockets that is there; "": none is.
func Find(sockets []string) string {
	for _, path := range sockets {
		if info, err := os.Stat(path); err == nil && info.Mode()&fs.ModeSocket != 0 {
			return path
		}
	}
	return ""
}

// answer is the envelope of all answers (lxd/response).
type answer struct {
	Type      string          `json:"type"`
	Operation string          `json:"operation"`
	ErrorCode int             `json:"error_code"`
	Error     string          `json:"error"`
	Metadata  json.RawMessage `json:"metadata"`
}

// Get reads a document into v, and returns its ETag.
func (c *Client) Get(ctx context.Context, path string, v any) (etag string, err error) {
	a, header, err := c.do(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(a.Metadata, v); err != nil {
		return "", fmt.Errorf("GET %s: cannot read the answer: %w", path, err)
	}
	return header.Get("ETag"), nil
}

// Put replaces a document if it still has the ETag, "" for whatever it is, and waits until that is done. Error: [ErrChanged] among others.
func (c *Client) Put(ctx context.Context, path, etag string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	a, _, err := c.do(ctx, http.MethodPut, path, etag, body)
	if err != nil || a.Type != "async" {
		return err
	}
	return c.wait(ctx, a.Operation)
}

// wait waits for the end of an operation.
func (c *Client) wait(ctx context.Context, operation string) error {
	var op struct {
		StatusCode int    `json:"status_code"`
		Err        string `json:"err"`
	}
	if _, err := c.Get(ctx, operation+"/wait", &op); err != nil {
		return err
	}
	if op.StatusCode != http.StatusOK {
		return fmt.Errorf("the daemon could not do it: %s", op.Err)
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, path, etag string, body []byte) (a answer, h http.Header, err error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://unix"+path, bytes.NewReader(body))
	if err != nil {
		return a, nil, err
	}
	if etag != "" {
		req.Header.Set("If-Match", etag)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return a, nil, fmt.Errorf("%w on %s: %w", ErrNoDaemon, c.socket, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return a, nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return a, nil, fmt.Errorf("%w on %s: %s %s is answered with something else than JSON", ErrNoDaemon, c.socket, method, path)
	}
	if a.Type == "error" || resp.StatusCode >= http.StatusBadRequest {
		return a, nil, daemonError(method, path, max(a.ErrorCode, resp.StatusCode), a.Error)
	}
	return a, resp.Header, nil
}
