package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// EventType says what an event is about.
type EventType string

// The types of events. A server may have more, which are passed on with
// [Event.Metadata] alone.
const (
	// EventSync is not sent by a server. The subscription stands, and what was before it is not known: read the configuration now. What
	// changes from here on follows.
	EventSync EventType = "sync"
	// EventConfig: a user.* key was added, changed or removed.
	EventConfig EventType = "config"
	// EventDevice: a device was added, changed or removed.
	EventDevice EventType = "device"
)

// Event is one element of [Client.Events].
type Event struct {
	Type EventType
	// Time is when it happened; zero for EventSync.
	Time time.Time
	// Config is not nil for EventConfig.
	Config *ConfigChange
	// Device is not nil for EventDevice.
	Device *DeviceChange
	// Position is where to go on behind this element, for [EventsOptions.Since]; "" where the server has no positions.
	Position string
	// Metadata is the JSON text of what happened.
	Metadata json.RawMessage
}

// ConfigChange is what happened to a key. Of a key that was added the old
// value is "", of one that was removed the value.
type ConfigChange struct {
	Key      string `json:"key"`
	OldValue string `json:"old_value"`
	Value    string `json:"value"`
}

// DeviceChange is what happened to a device.
type DeviceChange struct {
	// Action is "added", "updated" or "removed".
	Action string            `json:"action"`
	Name   string            `json:"name"`
	Config map[string]string `json:"config"`
}

// EventsOptions choose what [Client.Events] delivers.
type EventsOptions struct {
	// Types are those that are wanted; none: all. An EventSync always comes.
	Types []EventType
	// Since goes on behind this position, of an earlier sequence, also of another process. "": begin with an EventSync.
	Since string
	// NoPositions asks the server for none, so that each new connection begins with an EventSync. Without it a server that has none is
	// noticed, and treated so.
	NoPositions bool
}

// Events follows what happens to the container until ctx ends or the caller
// leaves the loop. An error is the last element: of ctx, an [*Error] that is not
// worth another try ([ErrForbidden] when the host closes the guest API), or
// [ErrTooLarge], [ErrAnswer] or [ErrPosition]. See the package's documentation for what is
// promised.
//
// The sequence holds one connection while the loop runs, and can be ranged over
// again, from the start.
func (c *Client) Events(ctx context.Context, o EventsOptions) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		f := follower{client: c, o: o, at: o.Since}
		if err := f.run(ctx, yield); err != nil {
			yield(Event{}, err)
		}
	}
}

// follower is one run of a sequence.
type follower struct {
	client *Client
	o      EventsOptions
	at     string // position behind which to go on; "": not known
	backoff
}

// run returns nil when the caller has left the loop.
func (f *follower) run(ctx context.Context, yield func(Event, error) bool) error {
	for {
		conn, start, err := f.subscribe(ctx)
		if err == nil {
			err = f.deliver(ctx, conn, start, yield)
			_ = conn.CloseNow()
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, ErrGone) && f.at != "":
			f.at = "" // known at once: no need to wait
			continue
		case !errors.Is(err, ErrUnavailable):
			return err
		case !f.wait(ctx):
			return context.Cause(ctx)
		}
	}
}

// subscribe opens a stream. start is the position that it begins at, "" if the
// server has none.
func (f *follower) subscribe(ctx context.Context) (conn *websocket.Conn, start string, err error) {
	query := url.Values{}
	if len(f.o.Types) > 0 {
		types := make([]string, len(f.o.Types))
		for i, t := range f.o.Types {
			types[i] = string(t)
		}
		query.Set("type", strings.Join(types, ","))
	}
	if !f.o.NoPositions {
		query.Set("position", "true")
		if f.at != "" {
			query.Set("since", f.at)
		}
	}
	target := f.client.base + "/1.0/events"
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	conn, resp, err := websocket.Dial(ctx, target, &websocket.DialOptions{HTTPClient: f.client.http, CompressionMode: websocket.CompressionDisabled})
	switch {
	case err == nil:
		conn.SetReadLimit(maxBody)
		return conn, resp.Header.Get("Devlxd-Position"), nil
	case resp == nil:
		return nil, "", broken(ctx, err)
	case resp.StatusCode == http.StatusSwitchingProtocols || resp.StatusCode < 300:
		return nil, "", fmt.Errorf("%w (%v)", ErrAnswer, err)
	case resp.StatusCode == http.StatusBadRequest && f.at != "":
		return nil, "", fmt.Errorf("%w (%w)", ErrPosition, errorOf(resp))
	}
	return nil, "", errorOf(resp)
}

// deliver yields what comes over one connection. It returns nil when the
// caller has left the loop.
func (f *follower) deliver(ctx context.Context, conn *websocket.Conn, start string, yield func(Event, error) bool) error {
	if start == "" || f.at == "" {
		f.at = start
		if !yield(Event{Type: EventSync, Position: start}, nil) {
			return nil
		}
	}
	for {
		_, text, err := conn.Read(ctx)
		if err != nil {
			return readError(ctx, err)
		}
		event, err := parseEvent(text)
		if err != nil {
			return err
		}
		f.reset()
		f.at = event.Position
		if len(f.o.Types) > 0 && !slices.Contains(f.o.Types, event.Type) {
			continue
		}
		if !yield(event, nil) {
			return nil
		}
	}
}

// readError says why a stream has ended. The server ends it when it stops
// (1001), when access is closed (1008), which the next subscription is told, and
// when the reader was too slow (1013): the position tells whether something was
// lost.
func readError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, websocket.ErrMessageTooBig):
		return ErrTooLarge
	}
	return fmt.Errorf("%w (%w)", ErrUnavailable, err)
}

func parseEvent(text []byte) (Event, error) {
	var wire struct {
		Type      EventType       `json:"type"`
		Timestamp time.Time       `json:"timestamp"`
		Metadata  json.RawMessage `json:"metadata"`
		Position  string          `json:"position"`
	}
	if err := json.Unmarshal(text, &wire); err != nil || wire.Type == "" {
		return Event{}, fmt.Errorf("%w (an event is %.80q)", ErrAnswer, text)
	}
	event := Event{Type: wire.Type, Time: wire.Timestamp, Position: wire.Position, Metadata: wire.Metadata}
	var err error
	switch wire.Type {
	case EventConfig:
		event.Config = new(ConfigChange)
		err = json.Unmarshal(wire.Metadata, event.Config)
	case EventDevice:
		event.Device = new(DeviceChange)
		err = json.Unmarshal(wire.Metadata, event.Device)
	}
	if err != nil {
		return Event{}, fmt.Errorf("%w (%v)", ErrAnswer, err)
	}
	return event, nil
}
