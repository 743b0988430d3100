package lxd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// How long an answer may take. The daemon may hold a request back while it starts.
const (
	readTimeout = 30 * time.Second
	listTimeout = 10 * time.Minute
)

// client asks one daemon. Safe for concurrent use.
type client struct {
	socket string
	http   *http.Client
}

func newClient(socket string) *client {
	// A proxy of the environment is not for a Unix socket.
	return &client{socket: socket, http: &http.Client{Transport: &http.Transport{DialContext: dialer(socket), MaxIdleConnsPerHost: workers, IdleConnTimeout: time.Minute}}}
}

// dialer connects to the daemon, whatever address it is given.
func dialer(socket string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// instance reads one instance.
func (c *client) instance(ctx context.Context, k key) (*instance, error) {
	i := &instance{Project: k.project}
	err := c.get(ctx, readTimeout, "instances/"+url.PathEscape(k.name), url.Values{"project": {k.project}}, func(d *json.Decoder) error { return d.Decode(i) })
	if err == nil && i.Name != k.name {
		err = fmt.Errorf("%w (instance %q was asked for, %q came)", ErrAnswer, k.name, i.Name)
	}
	return i, err
}

// initPID reads the init process of an instance, 0 when it has none. It takes the daemon tens of milliseconds, since it looks at the
// network in there too.
func (c *client) initPID(ctx context.Context, k key) (int, error) {
	var state struct {
		PID int `json:"pid"`
	}
	err := c.get(ctx, readTimeout, "instances/"+url.PathEscape(k.name)+"/state", url.Values{"project": {k.project}}, func(d *json.Decoder) error { return d.Decode(&state) })
	return max(state.PID, 0), err
}

// instances calls each for every instance of every project.
func (c *client) instances(ctx context.Context, each func(*instance)) error {
	return c.get(ctx, listTimeout, "instances", url.Values{"recursion": {"1"}, "all-projects": {"true"}}, func(d *json.Decoder) error {
		return elements(d, func() error {
			i := new(instance)
			if err := d.Decode(i); err != nil {
				return err
			}
			if i.Project == "" {
				i.Project = defaultProject
			}
			each(i)
			return nil
		})
	})
}

// images returns the images of the project "default", the only ones that the daemon's own guest API offers.
func (c *client) images(ctx context.Context) (list []image, err error) {
	err = c.get(ctx, listTimeout, "images", url.Values{"recursion": {"1"}}, func(d *json.Decoder) error { return d.Decode(&list) })
	return list, err
}

// server reads what the daemon says of itself.
func (c *client) server(ctx context.Context) (s server, err error) {
	err = c.get(ctx, readTimeout, "", nil, func(d *json.Decoder) error { return d.Decode(&s) })
	return s, err
}

// setConfig sets one config key of an instance and leaves the others as they are.
func (c *client) setConfig(ctx context.Context, k key, name, value string) error {
	body, err := json.Marshal(map[string]map[string]string{"config": {name: value}})
	if err != nil {
		return err
	}
	return c.call(ctx, readTimeout, http.MethodPatch, "instances/"+url.PathEscape(k.name), url.Values{"project": {k.project}}, body, nil)
}

func (c *client) get(ctx context.Context, within time.Duration, path string, query url.Values, metadata func(*json.Decoder) error) error {
	return c.call(ctx, within, http.MethodGet, path, query, nil, metadata)
}

// call makes a request. metadata reads the member of that name; nil ignores the answer.
func (c *client) call(ctx context.Context, within time.Duration, method, path string, query url.Values, body []byte, metadata func(*json.Decoder) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, within, ErrSilent)
	defer cancel()
	target := "http://lxd/1.0"
	if path != "" {
		target += "/" + path
	}
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "devlxd")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return because(ctx, err)
	}
	defer res.Body.Close()
	if res.StatusCode >= http.StatusBadRequest {
		return refusal(res)
	}
	if metadata == nil {
		_, err = io.Copy(io.Discard, res.Body)
		return because(ctx, err)
	}
	if err := envelope(json.NewDecoder(res.Body), metadata); err != nil {
		return because(ctx, fmt.Errorf("%w (%w)", ErrAnswer, err))
	}
	return nil
}

// because prefers the reason of a context that has ended to what came of it, and takes the URL out, which says nothing here.
func because(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// refusal reads an answer of LXD's error form (shared/api.ResponseRaw), or plain text.
func refusal(res *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("%w (%w)", ErrAnswer, err)
	}
	var raw struct {
		Error string `json:"error"`
	}
	text := string(bytes.TrimSpace(b))
	if json.Unmarshal(b, &raw) == nil && raw.Error != "" {
		text = raw.Error
	}
	return &apiError{code: res.StatusCode, text: oneLine(text)}
}

// envelope reads a whole answer. An answer that ends early is an error wherever it ends.
func envelope(d *json.Decoder, metadata func(*json.Decoder) error) error {
	if err := delim(d, '{'); err != nil {
		return err
	}
	found := false
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		if name == "metadata" {
			found = true
			err = metadata(d)
		} else {
			var skipped json.RawMessage
			err = d.Decode(&skipped)
		}
		if err != nil {
			return err
		}
	}
	if err := delim(d, '}'); err != nil {
		return err
	}
	if !found {
		return errors.New("no metadata")
	}
	return nil
}

// elements calls read for each element of an array, which may be null.
func elements(d *json.Decoder, read func() error) error {
	t, err := d.Token()
	if err != nil || t == nil {
		return err
	}
	if t != json.Delim('[') {
		return fmt.Errorf("%v where a list belongs", t)
	}
	for d.More() {
		if err := read(); err != nil {
			return err
		}
	}
	return delim(d, ']')
}

func delim(d *json.Decoder, want json.Delim) error {
	t, err := d.Token()
	switch {
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	case err != nil:
		return err
	case t != want:
		return fmt.Errorf("%v where %v belongs", t, want)
	}
	return nil
}
