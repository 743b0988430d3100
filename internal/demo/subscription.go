package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"devlxd/internal/sandbox"
)

// eventTime is how long an event may take on a machine that is busy with other things.
const eventTime = 20 * time.Second

// subscription is a guest that listens to the events of its container.
type subscription struct {
	name  string
	cmd   *sandbox.Cmd
	out   *os.File
	lines *bufio.Scanner
	errs  bytes.Buffer // complete after end
	end   func() error // waits for the guest, once
	last  event
}

// event is one event as a guest reads it.
type event struct {
	Type      string         `json:"type"`
	Timestamp time.Time      `json:"timestamp"`
	Metadata  map[string]any `json:"metadata"`
	Position  string         `json:"position"`
}

func configEvent(key, from, to string) event {
	return event{Type: "config", Metadata: map[string]any{"key": key, "old_value": from, "value": to}}
}

func deviceEvent(action, name string, config map[string]any) event {
	return event{Type: "device", Metadata: map[string]any{"action": action, "name": name, "config": config}}
}

// listen starts a guest and returns when the server has confirmed the subscription:
// whatever happens from then on must be delivered.
func (t *Tour) listen(ctx context.Context, name, how string) (*subscription, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	s := &subscription{name: name, cmd: t.boxes[name].Guest(ctx, "events", how, pathEvents), out: r, lines: bufio.NewScanner(r)}
	s.end = sync.OnceValue(s.cmd.Wait)
	s.lines.Buffer(nil, maxEvent)
	s.cmd.Stdout, s.cmd.Stderr = w, &s.errs
	if err := s.cmd.Start(); err != nil {
		r.Close()
		return nil, err
	}
	l, err := s.next(ctx)
	if err == nil && l.Kind != kindSubscribed {
		err = fmt.Errorf("%s: the subscription began with %q", name, l)
	}
	return s, err
}

// next reads the next line of the guest.
func (s *subscription) next(ctx context.Context) (l line, err error) {
	if err := s.out.SetReadDeadline(time.Now().Add(eventTime)); err != nil {
		return l, err
	}
	defer context.AfterFunc(ctx, func() { _ = s.out.SetReadDeadline(time.Now()) })()
	if s.lines.Scan() {
		return l, json.Unmarshal(s.lines.Bytes(), &l)
	}
	switch err := s.lines.Err(); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return l, fmt.Errorf("%s: no further event within %v", s.name, eventTime)
	case err != nil:
		return l, err
	}
	return l, fmt.Errorf("%s: the guest that listened ended: %w: %s", s.name, s.end(), s.errs.String())
}

// expect reads the next event and compares all of it.
func (s *subscription) expect(ctx context.Context, want event) (text string, err error) {
	l, err := s.next(ctx)
	if err != nil {
		return "", err
	}
	var got event
	if err := json.Unmarshal([]byte(l.Text), &got); l.Kind != kindEvent || err != nil {
		return "", fmt.Errorf("%s: got %q in place of an event", s.name, l)
	}
	if got.Type != want.Type || !reflect.DeepEqual(got.Metadata, want.Metadata) {
		return "", fmt.Errorf("%s: the event is %s, must be of type %s with %v", s.name, l.Text, want.Type, want.Metadata)
	}
	if err := got.follows(s.last); err != nil {
		return "", fmt.Errorf("%s: the event %s %w", s.name, l.Text, err)
	}
	s.last = got
	return l.Text, nil
}

// follows checks the position, EPOCH.NUMBER, and the time against those of the event before.
func (e event) follows(before event) error {
	epoch, number, err := e.place()
	if err != nil || before.Position == "" {
		return err
	}
	lastEpoch, last, err := before.place()
	if err != nil {
		return err
	}
	if epoch != lastEpoch || number != last+1 {
		return fmt.Errorf("does not follow position %s", before.Position)
	}
	if e.Timestamp.Before(before.Timestamp) {
		return fmt.Errorf("is older than the one before it (%s)", before.Timestamp)
	}
	return nil
}

func (e event) place() (epoch string, number uint64, err error) {
	epoch, text, ok := strings.Cut(e.Position, ".")
	number, err = strconv.ParseUint(text, 10, 64)
	if !ok || err != nil {
		return "", 0, fmt.Errorf("has the position %q, not EPOCH.NUMBER", e.Position)
	}
	return epoch, number, nil
}

// ended waits for the end of the stream and says how it ended.
func (s *subscription) ended(ctx context.Context) (string, error) {
	l, err := s.next(ctx)
	if err == nil && l.Kind != kindEnd {
		err = fmt.Errorf("%s: got %q in place of the end of the stream", s.name, l)
	}
	return l.Text, err
}

// close waits for the guest, which must be ending.
func (s *subscription) close() {
	_ = s.end() // what matters of it was read, or the tour has failed for a better reason
	s.out.Close()
}
