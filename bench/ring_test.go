package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"devlxd/registry"
	"devlxd/ws"
)

// ringContests publishes one event and gets its finished bytes for each subscriber; nothing is written to a socket. devlxd's
// publish is a whole Put: the specs are compared and the event is encoded. The rivals are told what has changed, so they
// spare the comparison:
//
//   - channels: encoded once, then a buffered channel for each subscriber, read by the goroutine that filled it, so that no
//     goroutine is ever switched to;
//   - goroutines: as LXD's events do it, a goroutine for each event and listener, which takes the listener's lock and encodes.
func ringContests(tb testing.TB, sizes []int) (contests []contest) {
	for _, size := range sizes {
		contests = append(contests, contest{
			name: fmt.Sprintf("subscribers-%d", size), per: size, part: "delivery",
			ways: []way{
				{name: "devlxd", run: deliverByRing(tb, size)},
				{name: "channels", run: deliverByChannels(size)},
				{name: "goroutines", run: deliverByGoroutines(size)},
			},
		})
	}
	return contests
}

func deliverByRing(tb testing.TB, subscribers int) func(int) error {
	r := registry.New(registry.Options{FrameEvent: ws.TextFrame})
	specs := [2]registry.Spec{
		{Name: "c1", Config: map[string]string{"user.a": "before"}}, {Name: "c1", Config: map[string]string{"user.a": "after"}},
	}
	if _, err := r.Put(specs[1]); err != nil {
		tb.Fatal(err)
	}
	b, err := r.Bind("c1", madeUpIdentity(1))
	if err != nil {
		tb.Fatal(err)
	}
	ring := b.Ring()
	cursors := make([]registry.Cursor, subscribers)
	for i := range cursors {
		cursors[i] = ring.Subscribe(registry.EventConfig)
	}
	turn := 0
	return func(n int) error {
		for range n {
			if _, err := r.Put(specs[turn%2]); err != nil {
				return err
			}
			turn++
			for i := range cursors {
				event, err := ring.Next(&cursors[i])
				if err != nil {
					return err
				}
				if event == nil || len(event.Frame(false)) == 0 {
					return errNoEvent
				}
			}
		}
		return nil
	}
}

var errNoEvent = errors.New("a subscriber got no event")

// change is an event as the rivals encode it.
type change struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Metadata  struct {
		Key      string `json:"key"`
		OldValue string `json:"old_value"`
		Value    string `json:"value"`
	} `json:"metadata"`
}

func newChange() *change {
	c := &change{Type: "config", Timestamp: time.Now()}
	c.Metadata.Key, c.Metadata.OldValue, c.Metadata.Value = "user.a", "before", "after"
	return c
}

func deliverByChannels(subscribers int) func(int) error {
	queues := make([]chan []byte, subscribers)
	for i := range queues {
		queues[i] = make(chan []byte, 8)
	}
	return func(n int) error {
		for range n {
			payload, err := json.Marshal(newChange())
			if err != nil {
				return err
			}
			frame, _ := ws.TextFrame(payload)
			for _, q := range queues {
				q <- frame
			}
			for _, q := range queues {
				if len(<-q) == 0 {
					return errNoEvent
				}
			}
		}
		return nil
	}
}

// listener is a subscriber that has its own lock and buffer.
type listener struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *listener) deliver(c *change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Reset()
	_ = json.NewEncoder(&l.buf).Encode(c) // into memory, of a type that can be encoded; an empty buffer tells of a fault
}

func deliverByGoroutines(subscribers int) func(int) error {
	listeners := make([]listener, subscribers)
	return func(n int) error {
		for range n {
			c := newChange()
			var all sync.WaitGroup
			for i := range listeners {
				all.Go(func() { listeners[i].deliver(c) })
			}
			all.Wait()
			for i := range listeners {
				if listeners[i].buf.Len() == 0 {
					return errNoEvent
				}
			}
		}
		return nil
	}
}
