package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// State is what a guest says of itself.
type State string

// The states.
const (
	// Started: the container runs. It is the state from the start on.
	Started State = "Started"
	// Ready: what the container is for is up.
	Ready State = "Ready"
)

// Info answers GET /1.0. All but APIVersion are "" where the server does not
// tell them (the dialect "document" of devlxd, and LXD before 4.14).
type Info struct {
	APIVersion   string `json:"api_version"`
	State        State  `json:"state"`
	InstanceType string `json:"instance_type"`
	// Location is the name of the host.
	Location string `json:"location"`
}

// Info returns what the server says of itself and of the container.
func (c *Client) Info(ctx context.Context) (info Info, err error) {
	if err = c.getJSON(ctx, "/1.0", &info); err == nil && info.APIVersion == "" {
		err = ErrAnswer
	}
	return info, err
}

// SetState tells the host that the container is [Ready], or only [Started].
func (c *Client) SetState(ctx context.Context, state State) error {
	if state != Ready && state != Started {
		return ErrState
	}
	body, err := json.Marshal(struct {
		State State `json:"state"`
	}{state})
	if err != nil {
		return err
	}
	resp, err := c.send(ctx, http.MethodPatch, "/1.0", strings.NewReader(string(body)), http.Header{"Content-Type": {"application/json"}})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Get returns the value of a key, byte for byte. Keys begin with "user." or
// "cloud-init."; any other is [ErrForbidden].
func (c *Client) Get(ctx context.Context, key string) (string, error) {
	if key == "" {
		return "", ErrNotFound
	}
	value, err := c.get(ctx, "/1.0/config/"+segment(key))
	return string(value), err
}

// Keys returns the names of the keys that can be read.
func (c *Client) Keys(ctx context.Context) ([]string, error) {
	var paths []string
	if err := c.getJSON(ctx, "/1.0/config", &paths); err != nil {
		return nil, err
	}
	for i, path := range paths {
		key, ok := strings.CutPrefix(path, "/1.0/config/")
		if !ok {
			return nil, fmt.Errorf("%w (a key is %.80q)", ErrAnswer, path)
		}
		paths[i] = key
	}
	return paths, nil
}

// Config returns all keys and their values. It is a request for each key, so
// the values may be of slightly different moments; [Client.Events] tells of
// what changes. A key that is removed meanwhile is left out.
func (c *Client) Config(ctx context.Context) (map[string]string, error) {
	keys, err := c.Keys(ctx)
	if err != nil {
		return nil, err
	}
	config := make(map[string]string, len(keys))
	for _, key := range keys {
		value, err := c.Get(ctx, key)
		switch {
		case err == nil:
			config[key] = value
		case !errors.Is(err, ErrNotFound):
			return nil, err
		}
	}
	return config, nil
}

// MetaData returns the metadata for cloud-init, in YAML.
func (c *Client) MetaData(ctx context.Context) (string, error) {
	text, err := c.get(ctx, "/1.0/meta-data")
	return string(text), err
}

// Devices returns the properties of each device of the container by its name.
func (c *Client) Devices(ctx context.Context) (devices map[string]map[string]string, err error) {
	err = c.getJSON(ctx, "/1.0/devices", &devices)
	return devices, err
}
