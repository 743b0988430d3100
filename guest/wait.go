package guest

import (
	"context"
	"errors"
	"strings"
	"time"
)

// pollTime is how often a key is read of whose changes the servers send no events: all but user.*.
const pollTime = 2 * time.Second

// WaitKey waits until a key exists and returns its value, at once if it does
// already. It subscribes before it reads, so nothing falls between the two, and
// goes on while the server is away. LXD, and devlxd in its dialect, take an empty
// value for none.
//
// Errors: that of ctx; an [*Error] that is not worth another try, such as
// [ErrForbidden] for a key that guests do not read.
func (c *Client) WaitKey(ctx context.Context, key string) (string, error) {
	return c.await(ctx, key, func(_ string, exists bool) bool { return exists })
}

// WaitChange waits until a key exists with another value than old, and returns
// that, as WaitKey does.
func (c *Client) WaitChange(ctx context.Context, key, old string) (string, error) {
	return c.await(ctx, key, func(value string, exists bool) bool { return exists && value != old })
}

func (c *Client) await(ctx context.Context, key string, done func(value string, exists bool) bool) (string, error) {
	if !strings.HasPrefix(key, "user.") {
		return c.poll(ctx, key, done)
	}
	for event, err := range c.Events(ctx, EventsOptions{Types: []EventType{EventConfig}}) {
		if err != nil {
			return "", err
		}
		if event.Config != nil && event.Config.Key != key {
			continue
		}
		value, exists, err := c.read(ctx, key)
		if err != nil || done(value, exists) {
			return value, err
		}
	}
	return "", ctx.Err() // not reached: an error is the last element
}

// read is Get that goes on while the server is away, and for which no value is
// no error.
func (c *Client) read(ctx context.Context, key string) (value string, exists bool, err error) {
	var b backoff
	for {
		value, err := c.Get(ctx, key)
		switch {
		case err == nil:
			return value, true, nil
		case errors.Is(err, ErrNotFound):
			return "", false, nil
		case !errors.Is(err, ErrUnavailable):
			return "", false, err
		case !b.wait(ctx):
			return "", false, context.Cause(ctx)
		}
	}
}

// poll is await for keys without events.
func (c *Client) poll(ctx context.Context, key string, done func(value string, exists bool) bool) (string, error) {
	ticker := time.NewTicker(pollTime)
	defer ticker.Stop()
	for {
		value, exists, err := c.read(ctx, key)
		if err != nil || done(value, exists) {
			return value, err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}
