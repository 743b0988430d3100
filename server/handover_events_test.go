package server

import (
	"fmt"
	"strings"
	"testing"
)

// TestHandOverOfEvents: each subscriber gets each event once and in order, whether it came before, was pending or comes after, and positions stay
// good. Twice, so that what was taken over can be handed over.
func TestHandOverOfEvents(t *testing.T) {
	const ring = 64 << 20 // holds all events
	r := newRig(t, Options{Loops: 2, RingBytes: ring})
	r.container("c1", nil)
	r.container("c2", nil)
	const each = 40
	big := strings.Repeat("x", 20<<10)
	publish := func(r *rig, from int) {
		for n := from; n < from+each; n++ {
			r.set("c1", "user.n", fmt.Sprintf("%d %s", n, big))
		}
	}
	fast, a := r.subscribe("c1", "?position=true")
	epoch, _, _ := strings.Cut(a.fields.Get("Devlxd-Position"), ".")
	slow, _ := r.subscribe("c1", "?type=config")
	other, _ := r.subscribe("c2", "")
	stream := r.dial("c1")
	stream.send("GET /1.0/events HTTP/1.1\r\nHost: a\r\n\r\n")
	stream.answer("GET")
	want := func(what, event string, n int) {
		t.Helper()
		if !strings.Contains(event, fmt.Sprintf(`"value":"%d x`, n)) {
			t.Fatalf("%s: event %d is %.120q", what, n, event)
		}
	}
	read := func(from int) {
		t.Helper()
		for n := from; n < from+each; n++ {
			event := fast.event()
			want("the fast one", event, n)
			if at := fmt.Sprintf(`"position":"%s.%d"`, epoch, n+1); !strings.Contains(event, at) {
				t.Fatalf("event %d lacks %s", n, at)
			}
			line, err := stream.r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			want("the stream", line, n)
		}
	}
	for round := range 3 {
		publish(r, round*each)
		read(round * each)
		if round < 2 {
			next := r.successor(Options{Loops: 1 + round, RingBytes: ring})
			r.handOver(next)
			r = next
		}
	}
	for n := range 3 * each {
		want("the slow one", slow.event(), n)
	}
	again, _ := r.subscribe("c1", fmt.Sprintf("?since=%s.%d", epoch, each))
	for n := each; n < 3*each; n++ {
		want("the one that resumed", again.event(), n)
	}
	r.set("c2", "user.other", "1")
	if event := other.event(); !strings.Contains(event, "user.other") {
		t.Errorf("the other container got %s", event)
	}
	if n := r.srv.Subscribers(); n != 5 {
		t.Errorf("%d subscribers; want 5", n)
	}
	if n := r.totalLost(); n != 0 {
		t.Errorf("%d events were lost", n)
	}
}

// TestHandOverOfOverrun: a subscriber that was too slow before is told after, once.
func TestHandOverOfOverrun(t *testing.T) {
	r := newRig(t, Options{Loops: 1, RingEvents: 4})
	r.container("c1", nil)
	c, _ := r.subscribe("c1", "")
	big := strings.Repeat("x", 100<<10)
	for n := 0; r.pending() == 0; n++ {
		r.set("c1", "user.n", fmt.Sprintf("%d %s", n, big))
	}
	next := r.successor(Options{Loops: 1, RingEvents: 4})
	r.handOver(next)
	for n := range 8 {
		next.set("c1", "user.n", fmt.Sprintf("after %d", n))
	}
	if code, text := c.closeFrame(); code != 1013 {
		t.Errorf("closed with %d %q", code, text)
	}
}
