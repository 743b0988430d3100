package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// told returns a subscription to which a guest said the given lines.
func told(t *testing.T, lines ...string) *subscription {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	for _, l := range lines {
		if _, err := fmt.Fprintln(w, l); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &subscription{name: "web", out: r, lines: bufio.NewScanner(r), end: func() error { return errors.New("killed") }}
}

// said is the line of a guest that has got an event.
func said(second int, position, key string) string {
	return fmt.Sprintf(`{"kind":"event","text":"{\"type\":\"config\",\"timestamp\":\"2026-01-01T00:00:%02dZ\",`+
		`\"metadata\":{\"key\":\"%s\",\"old_value\":\"\",\"value\":\"1\"},\"position\":\"%s\"}"}`, second, key, position)
}

func TestSubscriptionIsChecked(t *testing.T) {
	for _, tc := range []struct {
		name   string
		second string // the line after that of the event a.1
		err    string // "" for none
	}{
		{"next", said(1, "a.2", "user.k"), ""},
		{"another key", said(1, "a.2", "user.other"), "must be of type config with map[key:user.k old_value: value:1]"},
		{"one is missing", said(1, "a.3", "user.k"), "does not follow position a.1"},
		{"twice", said(1, "a.1", "user.k"), "does not follow position a.1"},
		{"another epoch", said(1, "b.2", "user.k"), "does not follow position a.1"},
		{"no position", said(1, "", "user.k"), `has the position "", not EPOCH.NUMBER`},
		{"back in time", said(0, "a.2", "user.k"), "is older than the one before it"},
		{"end", `{"kind":"end","text":"1001 bye"}`, "in place of an event"},
		{"no JSON", "panic", "invalid character"},
		{"nothing", "", "the guest that listened ended: killed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lines := []string{said(1, "a.1", "user.k")}
			if tc.second != "" {
				lines = append(lines, tc.second)
			}
			s, want := told(t, lines...), configEvent("user.k", "", "1")
			if _, err := s.expect(t.Context(), want); err != nil {
				t.Fatal(err)
			}
			_, err := s.expect(t.Context(), want)
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error = %v, want %q", err, tc.err)
			}
		})
	}
}

func TestSubscriptionEnds(t *testing.T) {
	end, err := told(t, `{"kind":"end","text":"1008 not authorized"}`).ended(t.Context())
	if err != nil || end != "1008 not authorized" {
		t.Errorf("got %q, %v", end, err)
	}
	if _, err := told(t, said(1, "a.1", "user.k")).ended(t.Context()); err == nil {
		t.Error("an event is taken for the end")
	}
}

func TestSubscriptionEndsWithContext(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close() // a guest that lives and says nothing
	s := &subscription{name: "web", out: r, lines: bufio.NewScanner(r)}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	if _, err := s.next(ctx); err == nil {
		t.Error("no error after the end of the context")
	}
}
