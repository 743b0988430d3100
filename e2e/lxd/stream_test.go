package lxd

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"devlxd/internal/lxdtest"
)

// event is one as a guest is told it.
type event struct {
	Type      string
	Timestamp time.Time
	Metadata  json.RawMessage
	arrived   time.Time
}

// String is the event without its time. LXD 5.0.2 and Incus write "<" as "\u003c", which is the same to any reader.
func (e event) String() string {
	var about any
	if err := json.Unmarshal(e.Metadata, &about); err != nil {
		return err.Error()
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(about); err != nil {
		return err.Error()
	}
	return e.Type + " " + strings.TrimSpace(b.String())
}

// stream is a subscription of a guest. Safe for concurrent use.
type stream struct {
	name   string
	mu     sync.Mutex
	events []event
	end    error // nil: it goes on
}

// follow subscribes on a new connection: by websocket, or without one for what is one line an event.
func follow(t *testing.T, name string, conn net.Conn, query string, websocket bool) *stream {
	t.Helper()
	s := &stream{name: name}
	t.Cleanup(func() { conn.Close() })
	if websocket {
		dialer := ws.Dialer{NetDial: func(context.Context, string, string) (net.Conn, error) { return conn, nil }, Timeout: answerTime}
		_, br, _, err := dialer.Dial(t.Context(), "ws://lxd/1.0/events"+query)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		go s.frames(conn, br)
		return s
	}
	_ = conn.SetDeadline(time.Now().Add(answerTime))
	if _, err := io.WriteString(conn, head("GET", "/1.0/events"+query)); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	in := bufio.NewReader(conn)
	for { // LXD ends the lines of this head without carriage return, which net/http accepts in Go alone
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if strings.TrimSpace(line) == "" {
			break
		}
	}
	_ = conn.SetDeadline(time.Time{})
	go s.lines(in)
	return s
}

func (s *stream) frames(conn net.Conn, br *bufio.Reader) {
	var in io.Reader = conn
	if br != nil {
		in = br // what came with the answer
	}
	rw := struct {
		io.Reader
		io.Writer
	}{in, conn}
	for {
		text, _, err := wsutil.ReadServerData(rw) // answers pings
		if err != nil {
			s.add(nil, err)
			return
		}
		s.add(text, nil)
	}
}

func (s *stream) lines(in *bufio.Reader) {
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			s.add(nil, err)
			return
		}
		s.add(line, nil)
	}
}

func (s *stream) add(text []byte, err error) {
	e := event{arrived: time.Now()}
	if err == nil {
		err = json.Unmarshal(text, &e)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.end = err
		return
	}
	s.events = append(s.events, e)
}

// list is what has come so far, in the order in which it was sent: LXD 5.0.2 and Incus 6.0.4 write each event from a goroutine of
// its own, so that those of one moment may overtake each other on the way.
func (s *stream) list() []event {
	s.mu.Lock()
	defer s.mu.Unlock()
	events := slices.Clone(s.events)
	slices.SortStableFunc(events, func(a, b event) int { return a.Timestamp.Compare(b.Timestamp) })
	return events
}

// asCame is what has come so far.
func (s *stream) asCame() []event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// ended is why the stream has ended, nil while it goes on.
func (s *stream) ended() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end
}

// await waits until an event has come that has a text in it, and returns that event.
func (s *stream) await(t *testing.T, text string) event {
	t.Helper()
	var found event
	lxdtest.WaitFor(t.Context(), t, patience, func() string {
		for _, e := range s.asCame() {
			if strings.Contains(string(e.Metadata), text) {
				found = e
				return ""
			}
		}
		if err := s.ended(); err != nil {
			t.Fatalf("%s: ended by %v before %s came", s.name, err, text)
		}
		return s.name + ": no event with " + text
	})
	return found
}

// texts are events without their times.
func texts(events []event) []string {
	list := make([]string, len(events))
	for i, e := range events {
		list[i] = e.String()
	}
	return list
}

// keysOf are the config keys that an event is about.
func keysOf(e event) []string {
	var about struct{ Key string }
	if json.Unmarshal(e.Metadata, &about) != nil || about.Key == "" {
		return nil
	}
	return []string{about.Key}
}

// showEvents is a list of events on one line.
func showEvents(events []event) string {
	return cmp.Or(strings.Join(texts(events), " ; "), "nothing")
}

// patience bounds the wait for what happens by itself.
const patience = 60 * time.Second
