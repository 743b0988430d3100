package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"devlxd/admin"
)

// Server returns what the daemon says of itself.
func (c *Client) Server(ctx context.Context) (info admin.ServerInfo, err error) {
	err = c.do(ctx, call{method: http.MethodGet}, &info)
	return info, err
}

// Status returns the state of the daemon.
func (c *Client) Status(ctx context.Context) (status admin.Status, err error) {
	err = c.do(ctx, call{method: http.MethodGet, path: []string{"status"}}, &status)
	return status, err
}

// Health returns whether anything is wrong with the daemon.
func (c *Client) Health(ctx context.Context) (health admin.Health, err error) {
	err = c.do(ctx, call{method: http.MethodGet, path: []string{"health"}}, &health)
	return health, err
}

// Top returns what the daemon is doing, and at most limit of the containers that it does most for.
func (c *Client) Top(ctx context.Context, by admin.TopSort, limit int) (top admin.Top, err error) {
	query := url.Values{"sort": {string(by)}, "limit": {strconv.Itoa(limit)}}
	err = c.do(ctx, call{method: http.MethodGet, path: []string{"top"}, query: query}, &top)
	return top, err
}

// Upgrade replaces the daemon by another binary, an absolute path; "" is the one that it was started from. It returns when the new process
// serves, or with the reason why the old one goes on.
func (c *Client) Upgrade(ctx context.Context, binary string) (upgraded admin.Upgraded, err error) {
	err = c.do(ctx, call{method: http.MethodPost, path: []string{"upgrade"}, send: admin.UpgradePost{Binary: binary}}, &upgraded)
	return upgraded, err
}

// LogLevel returns the level of the daemon's log: debug, info, warn or error.
func (c *Client) LogLevel(ctx context.Context) (level string, err error) {
	var got admin.LogLevelPut
	err = c.do(ctx, call{method: http.MethodGet, path: []string{"log-level"}}, &got)
	return got.Level, err
}

// SetLogLevel changes it, until the daemon reads its settings again or ends.
func (c *Client) SetLogLevel(ctx context.Context, level string) error {
	return c.do(ctx, call{method: http.MethodPut, path: []string{"log-level"}, send: admin.LogLevelPut{Level: level}}, nil)
}

// ContainerNames returns the names of all containers, sorted.
func (c *Client) ContainerNames(ctx context.Context) ([]string, error) {
	var paths []string
	if err := c.do(ctx, call{method: http.MethodGet, path: []string{"containers"}}, &paths); err != nil {
		return nil, err
	}
	for i, path := range paths {
		name, err := url.PathUnescape(path[strings.LastIndexByte(path, '/')+1:])
		if err != nil {
			return nil, fmt.Errorf("%w (%v)", ErrAnswer, err)
		}
		paths[i] = name
	}
	return paths, nil
}

// Containers returns all containers, sorted by name, without config and
// devices.
func (c *Client) Containers(ctx context.Context) (containers []admin.Container, err error) {
	query := url.Values{"recursion": {"1"}, "summary": {"true"}}
	err = c.do(ctx, call{method: http.MethodGet, path: []string{"containers"}, query: query}, &containers)
	return containers, err
}

// Container returns one container with its config and devices.
func (c *Client) Container(ctx context.Context, name string) (container admin.Container, err error) {
	err = c.do(ctx, call{method: http.MethodGet, path: []string{"containers", name}}, &container)
	return container, err
}

// AddContainer adds a container, and binds it if PID is set: both or nothing.
func (c *Client) AddContainer(ctx context.Context, container admin.ContainersPost) error {
	if err := checkText(container.Config); err != nil {
		return err
	}
	for _, config := range container.Devices {
		if err := checkText(config); err != nil {
			return err
		}
	}
	return c.do(ctx, call{method: http.MethodPost, path: []string{"containers"}, send: container}, nil)
}

// RemoveContainer forgets a container.
func (c *Client) RemoveContainer(ctx context.Context, name string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: []string{"containers", name}}, nil)
}

// Bind says that a container runs now, as that process.
func (c *Client) Bind(ctx context.Context, name string, bind admin.BindPost) error {
	return c.do(ctx, call{method: http.MethodPost, path: []string{"containers", name, "bind"}, send: bind}, nil)
}

// Config returns the config of a container.
func (c *Client) Config(ctx context.Context, name string) (config map[string]string, err error) {
	err = c.do(ctx, call{method: http.MethodGet, path: []string{"containers", name, "config"}}, &config)
	return config, err
}

// UpdateConfig sets and unsets keys in one atomic change.
func (c *Client) UpdateConfig(ctx context.Context, name string, change admin.Change) error {
	if err := checkText(change.Set); err != nil {
		return err
	}
	return c.do(ctx, call{method: http.MethodPatch, path: []string{"containers", name, "config"}, send: change}, nil)
}

// Devices returns the devices of a container by name.
func (c *Client) Devices(ctx context.Context, name string) (devices map[string]map[string]string, err error) {
	err = c.do(ctx, call{method: http.MethodGet, path: []string{"containers", name, "devices"}}, &devices)
	return devices, err
}

// AddDevice adds a device; config needs "type".
func (c *Client) AddDevice(ctx context.Context, name, dev string, config map[string]string) error {
	if err := checkText(config); err != nil {
		return err
	}
	send := admin.DevicesPost{Name: dev, Config: config}
	return c.do(ctx, call{method: http.MethodPost, path: []string{"containers", name, "devices"}, send: send}, nil)
}

// SetDevice sets and unsets properties of a device in one atomic change.
func (c *Client) SetDevice(ctx context.Context, name, dev string, change admin.Change) error {
	if err := checkText(change.Set); err != nil {
		return err
	}
	return c.do(ctx, call{method: http.MethodPatch, path: []string{"containers", name, "devices", dev}, send: change}, nil)
}

// RemoveDevice removes a device.
func (c *Client) RemoveDevice(ctx context.Context, name, dev string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: []string{"containers", name, "devices", dev}}, nil)
}

// checkText refuses what encoding/json would replace by U+FFFD in silence.
func checkText(config map[string]string) error {
	for key, value := range config {
		if !utf8.ValidString(key) || !utf8.ValidString(value) {
			return fmt.Errorf("value of %q is %w", key, ErrText)
		}
	}
	return nil
}
