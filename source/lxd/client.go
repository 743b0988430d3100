package lxd

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"devlxd/internal/lxdapi"
)

// How long an answer may take. The daemon may hold a request back while it starts.
const (
	readTimeout = 30 * time.Second
	listTimeout = 10 * time.Minute
)

// client asks one daemon for what a mirror needs. Safe for concurrent use.
type client struct{ api *lxdapi.Client }

func newClient(socket string) *client { return &client{lxdapi.New(socket, workers)} }

func (c *client) close() { c.api.Close() }

// within bounds a request.
func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, ErrSilent)
}

func (k key) path(rest ...string) string {
	return lxdapi.Path(url.Values{"project": {k.project}}, append([]string{"instances", k.name}, rest...)...)
}

// instance reads one instance.
func (c *client) instance(ctx context.Context, k key) (*instance, error) {
	ctx, cancel := within(ctx, readTimeout)
	defer cancel()
	i := &instance{Project: k.project}
	_, err := c.api.Get(ctx, k.path(), i)
	if err == nil && i.Name != k.name {
		err = fmt.Errorf("%w (instance %q was asked for, %q came)", lxdapi.ErrAnswer, k.name, i.Name)
	}
	return i, err
}

// initPID reads the init process of an instance, 0 when it has none. It takes the daemon tens of milliseconds, since it looks at the
// network in there too.
func (c *client) initPID(ctx context.Context, k key) (int, error) {
	ctx, cancel := within(ctx, readTimeout)
	defer cancel()
	var state struct {
		PID int `json:"pid"`
	}
	_, err := c.api.Get(ctx, k.path("state"), &state)
	return max(state.PID, 0), err
}

// instances calls each for every instance of every project.
func (c *client) instances(ctx context.Context, each func(*instance)) error {
	ctx, cancel := within(ctx, listTimeout)
	defer cancel()
	_, err := c.api.Read(ctx, lxdapi.Path(url.Values{"recursion": {"1"}, "all-projects": {"true"}}, "instances"), func(d *json.Decoder) error {
		return lxdapi.Elements(d, func() error {
			i := new(instance)
			if err := d.Decode(i); err != nil {
				return err
			}
			i.Project = orDefault(i.Project)
			each(i)
			return nil
		})
	})
	return err
}

// images returns the images of the project "default", the only ones that the daemon's own guest API offers.
func (c *client) images(ctx context.Context) (list []image, err error) {
	ctx, cancel := within(ctx, listTimeout)
	defer cancel()
	_, err = c.api.Get(ctx, lxdapi.Path(url.Values{"recursion": {"1"}}, "images"), &list)
	return list, err
}

// server reads what the daemon says of itself.
func (c *client) server(ctx context.Context) (s server, err error) {
	ctx, cancel := within(ctx, readTimeout)
	defer cancel()
	_, err = c.api.Get(ctx, lxdapi.Path(nil), &s)
	return s, err
}

// setConfig sets one config key of an instance and leaves the others as they are.
func (c *client) setConfig(ctx context.Context, k key, name, value string) error {
	ctx, cancel := within(ctx, readTimeout)
	defer cancel()
	return c.api.Patch(ctx, k.path(), map[string]map[string]string{"config": {name: value}})
}
