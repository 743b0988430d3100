package guest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

const (
	// DefaultSocket is where LXD and devlxd have the socket.
	DefaultSocket = "/dev/lxd/sock"
	// IncusSocket is where Incus has it.
	IncusSocket = "/dev/incus/sock"
	// SocketEnv names another socket.
	SocketEnv = "DEVLXD_SOCKET"
)

const (
	maxBody = 16 << 20 // bytes of an answer or an event
	maxText = 1 << 10  // bytes of an error text
	// idleTime is for how long a connection is kept for the next request. The servers close it after 30 s.
	idleTime = 25 * time.Second
	// answerTime bounds the wait for the head of an answer. A server that has much to do has requests wait.
	answerTime = 60 * time.Second
)

// Client asks the guest API of the container that it runs in. It is safe for
// concurrent use.
type Client struct {
	http *http.Client
	base string
}

// New returns a client of a socket. Nothing is dialled yet. "" is the one that
// the environment names in [SocketEnv], else [DefaultSocket], else
// [IncusSocket] if there is only that.
func New(socket string) *Client {
	if socket == "" {
		socket = findSocket()
	}
	return &Client{base: "http://lxd", http: &http.Client{
		// The servers do not redirect; what answers with one is no guest API.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{ // without Proxy: the environment's are not for this
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "unix", socket)
			},
			MaxIdleConns: 2, IdleConnTimeout: idleTime, ResponseHeaderTimeout: answerTime, DisableCompression: true,
		},
	}}
}

func findSocket() string {
	if socket := os.Getenv(SocketEnv); socket != "" {
		return socket
	}
	if _, err := os.Stat(DefaultSocket); err != nil {
		if _, err := os.Stat(IncusSocket); err == nil {
			return IncusSocket
		}
	}
	return DefaultSocket
}

// Close closes the connections that are kept for later. The client can be used
// again.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// send makes a request and returns the answer, whose body is to be closed. An
// answer of another status than 2xx is an [*Error].
func (c *Client) send(ctx context.Context, method, path string, body io.Reader, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, broken(ctx, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		defer resp.Body.Close()
		return nil, errorOf(resp)
	}
	return resp, nil
}

// errorOf reads an answer that says no. Image exports say it in JSON.
func errorOf(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxText))
	e := &Error{Status: resp.StatusCode, Text: strings.TrimSpace(string(text))}
	var envelope struct{ Error string }
	if json.Unmarshal(text, &envelope) == nil && envelope.Error != "" {
		e.Text = envelope.Error
	}
	return e
}

// get reads a whole answer.
func (c *Client) get(ctx context.Context, path string) ([]byte, error) {
	resp, err := c.send(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, broken(ctx, err)
	case len(body) > maxBody:
		return nil, ErrTooLarge
	}
	return body, nil
}

func (c *Client) getJSON(ctx context.Context, path string, v any) error {
	body, err := c.get(ctx, path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%w (%v)", ErrAnswer, err)
	}
	return nil
}

// segment encodes a name for a path. Unlike url.PathEscape it encodes "." and
// "..", which clients and servers may take for directories.
func segment(name string) string {
	if strings.Trim(name, ".") == "" {
		return strings.ReplaceAll(name, ".", "%2E")
	}
	return url.PathEscape(name)
}
