package server

import (
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"
	"time"

	"devlxd/registry"
)

// The events that the tests make, at the time at which the fake clock stands.
const (
	eventTime = `"timestamp":"2026-03-01T12:00:00Z"`
	addedA    = `{"type":"config",` + eventTime + `,"metadata":{"key":"user.a","old_value":"","value":"1"}}` + "\n"
	addedB    = `{"type":"config",` + eventTime + `,"metadata":{"key":"user.b","old_value":"","value":"<&>"}}` + "\n"
	changedA  = `{"type":"config",` + eventTime + `,"metadata":{"key":"user.a","old_value":"1","value":"2"}}` + "\n"
	removedA  = `{"type":"config",` + eventTime + `,"metadata":{"key":"user.a","old_value":"2","value":""}}` + "\n"
	addedD    = `{"type":"device",` + eventTime + `,"metadata":{"action":"added","config":{"network":"br0","type":"nic"},"name":"eth0"}}` + "\n"
	updatedD  = `{"type":"device",` + eventTime + `,"metadata":{"action":"updated","config":{"network":"br1","type":"nic"},"name":"eth0"}}` + "\n"
	removedD  = `{"type":"device",` + eventTime + `,"metadata":{"action":"removed","config":{"network":"br1","type":"nic"},"name":"eth0"}}` + "\n"
)

// changeAll makes each kind of event once.
func (r *rig) changeAll(name string) {
	r.t.Helper()
	device := func(network string) {
		r.update(name, func(s *registry.Spec) {
			s.Devices = map[string]map[string]string{"eth0": {"type": "nic", "network": network}}
		})
	}
	r.set(name, "user.b", "<&>", "user.a", "1", "cloud-init.user-data", "no event", "security.nesting", "true")
	r.set(name, "user.a", "2")
	r.update(name, func(s *registry.Spec) {
		s.Config = maps.Clone(s.Config)
		delete(s.Config, "user.a")
	})
	device("br0")
	device("br1")
	r.update(name, func(s *registry.Spec) { s.Devices = nil })
}

// TestEvents: the exact events, in order, on a websocket and as a JSON stream, of the types that were asked for.
func TestEvents(t *testing.T) {
	config, devices := []string{addedA, addedB, changedA, removedA}, []string{addedD, updatedD, removedD}
	both := append(append([]string{}, config...), devices...)
	for query, want := range map[string][]string{
		"": both, "?type=": both, "?type=config,device": both, "?type=device,config": both, "?type=config": config, "?type=device": devices,
		"?type=config,nonsense": config, "?type=%63onfig": config, "?type=nonsense": nil, "?type=config%2Cdevice&x=y": both,
	} {
		t.Run(query, func(t *testing.T) {
			r := withClock(t, Options{Loops: 1})
			r.container("c1", nil)
			r.container("c2", nil)
			socket, a := r.subscribe("c1", query)
			if want := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"; a.head != want {
				t.Errorf("handshake = %q;\nwant %q", a.head, want)
			}
			stream := r.dial("c1")
			stream.send("GET /1.0/events" + query + " HTTP/1.1\r\nHost: a\r\n\r\n")
			if want := "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n\r\n"; stream.answer("GET").head != want {
				t.Errorf("the head of the stream is not %q", want)
			}
			r.set("c2", "user.secret", "of c2")
			r.changeAll("c1")
			for i, event := range want {
				if got := socket.event(); got != event {
					t.Fatalf("event %d = %s;\nwant %s", i, got, event)
				}
				if got, err := stream.r.ReadString('\n'); got != event || err != nil {
					t.Fatalf("line %d = %s, %v;\nwant %s", i, got, err, event)
				}
			}
			// Nothing else has come: the next thing is the end.
			r.set("c1", "security.devlxd", "false")
			if code, _ := socket.closeFrame(); code != 1008 {
				t.Errorf("closed with %d", code)
			}
			if rest := stream.rest(); rest != "" {
				t.Errorf("the stream goes on with %q", rest)
			}
		})
	}
}

// position adds a position to an event.
func position(event, at string) string {
	return strings.TrimSuffix(event, "}\n") + `,"position":"` + at + "\"}\n"
}

// TestPositions: a subscriber that asks for positions can go on where it was, on a new connection and of any type.
func TestPositions(t *testing.T) {
	r := withClock(t, Options{Loops: 2})
	r.container("c1", nil)
	c, a := r.subscribe("c1", "?position=true")
	start := a.fields.Get("Devlxd-Position")
	epoch, offset, _ := strings.Cut(start, ".")
	if len(epoch) != 16 || offset != "0" {
		t.Fatalf("Devlxd-Position: %q; want the place before the first event", start)
	}
	at := func(n int) string { return fmt.Sprintf("%s.%d", epoch, n) }
	r.changeAll("c1")
	all := []string{addedA, addedB, changedA, removedA, addedD, updatedD, removedD}
	for i, event := range all {
		if got, want := c.event(), position(event, at(i+1)); got != want {
			t.Fatalf("event %d = %s;\nwant %s", i, got, want)
		}
	}
	for n := range all {
		again, a := r.subscribe("c1", "?since="+at(n))
		if a.fields.Get("Devlxd-Position") != "" {
			t.Errorf("a position is told to who did not ask: %q", a.head)
		}
		for _, want := range all[n:] {
			if got := again.event(); got != want {
				t.Fatalf("since %d: %s;\nwant %s", n, got, want)
			}
		}
	}
	only, a := r.subscribe("c1", "?type=device&position=1&since="+at(2))
	if got := a.fields.Get("Devlxd-Position"); got != at(2) {
		t.Errorf("Devlxd-Position: %s; want %s", got, at(2))
	}
	for i, event := range all[4:] {
		if got, want := only.event(), position(event, at(5+i)); got != want {
			t.Fatalf("device %d = %s;\nwant %s", i, got, want)
		}
	}
	for query, want := range map[string]int{
		"?since=" + at(8): 410, "?since=ffffffffffffffff.0": 410, "?since=x": 400, "?since=": 400, "?since=" + at(1) + "x": 400,
		"?position=maybe": 400, "?position=TRUE": 400, "?since=" + strings.ToUpper(at(1)): 400,
	} {
		c := r.dial("c1")
		c.send(upgradeRequest("/1.0/events" + query))
		got := c.answer("GET")
		if strings.ToUpper(epoch) == epoch && strings.HasSuffix(query, strings.ToUpper(at(1))) {
			continue // no letter in it
		}
		if got.status != want || strings.Count(got.body, "\n") != 1 {
			t.Errorf("%s = %q; want %d and one line", query, got.raw(), want)
		}
		c.wantOpen()
	}
}

// TestPositionFallsOut: what has left the ring cannot be resumed, and who is too slow for it is told.
func TestPositionFallsOut(t *testing.T) {
	r := newRig(t, Options{Loops: 1, RingEvents: 8})
	r.container("c1", nil)
	_, a := r.subscribe("c1", "?position=true")
	start := a.fields.Get("Devlxd-Position")
	stuck, _ := r.subscribe("c1", "")
	stream := r.dial("c1")
	stream.send("GET /1.0/events HTTP/1.1\r\nHost: a\r\n\r\n")
	stream.answer("GET")
	value := strings.Repeat("x", 50<<10)
	for n := 0; r.totalLost() < 2; n++ { // neither the socket nor the stream is read
		if n > 1000 {
			t.Fatal("nobody is too slow")
		}
		r.set("c1", "user.a", fmt.Sprint(n)+value)
		time.Sleep(time.Millisecond)
	}
	next := 0
	for {
		opcode, payload := stuck.frame()
		if opcode == 8 {
			if string(payload) != "\x03\xf5events lost: reader too slow" {
				t.Errorf("close frame %q; want 1013", payload)
			}
			break
		}
		if want := fmt.Sprintf(`"value":"%dxx`, next); !strings.Contains(string(payload), want) {
			t.Fatalf("event %.120q...; want %s: nothing is missing before the close frame", payload, want)
		}
		next++
	}
	stuck.send(maskedClose)
	stuck.wantEOF()
	lines := strings.SplitAfter(stream.rest(), "\n")
	for i, line := range lines[:len(lines)-1] {
		if want := fmt.Sprintf(`"value":"%dxx`, i); !strings.Contains(line, want) {
			t.Fatalf("line %.120q...; want %s", line, want)
		}
	}
	c := r.dial("c1")
	c.send("GET /1.0/events?since=" + start + " HTTP/1.1\r\nHost: a\r\n\r\n")
	if a := c.answer("GET"); a.status != 410 {
		t.Errorf("resuming what is gone: %q", a.raw())
	}
}

func (r *rig) totalLost() uint64 { return r.srv.Totals().Overrun }

// TestEventRequests: requests for events that are refused, and leave the connection usable where that is possible.
func TestEventRequests(t *testing.T) {
	r := newRig(t, Options{Loops: 1})
	r.container("c1", nil)
	without := func(field string) string {
		var kept []string
		for line := range strings.SplitSeq(upgradeRequest("/1.0/events"), "\r\n") {
			if !strings.HasPrefix(line, field) {
				kept = append(kept, line)
			}
		}
		return strings.Join(kept, "\r\n")
	}
	for name, tc := range map[string]struct {
		request string
		status  int
		field   string
	}{
		"HEAD":        {"HEAD /1.0/events HTTP/1.1\r\nHost: a\r\n\r\n", 405, "Allow: GET"},
		"old version": {strings.Replace(upgradeRequest("/1.0/events"), "Version: 13", "Version: 8", 1), 426, "Sec-WebSocket-Version: 13"},
		"no version":  {without("Sec-WebSocket-Version"), 426, "Sec-WebSocket-Version: 13"},
		"no key":      {without("Sec-WebSocket-Key"), 400, ""},
		"short key":   {strings.Replace(upgradeRequest("/1.0/events"), "dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", 1), 400, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := r.dial("c1")
			c.send(tc.request)
			method, _, _ := strings.Cut(tc.request, " ")
			if a := c.answer(method); a.status != tc.status || !strings.Contains(a.head, tc.field) {
				t.Errorf("answer = %q; want %d and %q", a.raw(), tc.status, tc.field)
			}
			c.wantOpen()
		})
	}
	t.Run("body", func(t *testing.T) {
		c := r.dial("c1")
		c.send("GET /1.0/events HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
		if a := c.answer("GET"); a.status != 400 || !a.close {
			t.Errorf("answer = %q", a.raw())
		}
		c.wantEOF()
	})
	if n := r.srv.Subscribers(); n != 0 {
		t.Errorf("%d subscribers", n)
	}
}

// TestClientFrames: what a client may send on its event websocket, and how it ends if it sends anything else.
func TestClientFrames(t *testing.T) {
	for _, tc := range []struct {
		name, send string
		code       int
		reason     CloseReason
	}{
		{"close", masked(true, 8, "\x03\xe8bye"), 1000, CloseWebsocket},
		{"close without status", masked(true, 8, ""), 1005, CloseWebsocket},
		{"close 1001 behind a ping", masked(true, 9, "x") + masked(true, 8, "\x03\xe9"), 1001, CloseWebsocket},
		{"text", masked(true, 1, "hello"), 1003, CloseData},
		{"binary", masked(true, 2, "\x00"), 1003, CloseData},
		{"empty text", masked(true, 1, ""), 1003, CloseData},
		{"unmasked", "\x81\x01x", 1002, CloseProtocol},
		{"reserved bit", "\xc1" + masked(true, 1, "x")[1:], 1002, CloseProtocol},
		{"reserved opcode", masked(true, 3, ""), 1002, CloseProtocol},
		{"fragmented ping", masked(false, 9, ""), 1002, CloseProtocol},
		{"long ping", masked(true, 9, strings.Repeat("x", 126)), 1002, CloseProtocol},
		{"continuation of nothing", masked(true, 0, "x"), 1002, CloseProtocol},
		{"length that needs fewer bytes", "\x81\xfe\x00\x05\x00\x00\x00\x00hello", 1002, CloseProtocol},
		{"text that is not UTF-8", masked(true, 1, "\xff"), 1003, CloseData}, // not 1007: data all the same
		{"too long a message", masked(true, 1, strings.Repeat("x", 1<<16+1)), 1009, CloseProtocol},
		{"close of one byte", masked(true, 8, "\x03"), 1002, CloseProtocol},
		{"close 1005", masked(true, 8, "\x03\xed"), 1002, CloseProtocol},
	} {
		for _, piece := range []int{1 << 20, 1} {
			t.Run(fmt.Sprintf("%s by %d", tc.name, piece), func(t *testing.T) {
				if piece == 1 && len(tc.send) > 1000 {
					piece = 997
				}
				r := newRig(t, Options{Loops: 1})
				r.container("c1", nil)
				c, _ := r.subscribe("c1", "")
				for s := tc.send; s != ""; {
					n := min(piece, len(s))
					if _, err := io.WriteString(c, s[:n]); err != nil {
						break // it has said enough
					}
					s = s[n:]
					if piece == 1 {
						r.srv.loops[0].call(func() {}) // so that the pieces are read one by one
					}
				}
				if code, _ := c.closeFrame(); code != tc.code {
					t.Errorf("closed with %d; want %d", code, tc.code)
				}
				_, _ = io.WriteString(c, maskedClose)
				c.wantEOF()
				r.wantClosed(tc.reason, 1)
				if n := r.srv.Subscribers(); n != 0 {
					t.Errorf("%d subscribers are left", n)
				}
			})
		}
	}
}

// TestPingOfClient: a ping is answered with its own payload, beside events.
func TestPingOfClient(t *testing.T) {
	r := newRig(t, Options{Loops: 1})
	r.container("c1", nil)
	c, _ := r.subscribe("c1", "")
	for _, payload := range []string{"", "x", strings.Repeat("y", 125)} {
		c.send(masked(true, 9, payload) + masked(true, 10, "unasked"))
		if opcode, got := c.frame(); opcode != 10 || string(got) != payload {
			t.Errorf("ping %q was answered with frame %d %q", payload, opcode, got)
		}
	}
	r.set("c1", "user.a", "1")
	if got := c.event(); !strings.Contains(got, `"value":"1"`) {
		t.Errorf("event = %s", got)
	}
}

// TestStreamTakesNoData: a JSON stream ends when its client sends something, as in LXD.
func TestStreamTakesNoData(t *testing.T) {
	r := newRig(t, Options{Loops: 1})
	r.container("c1", nil)
	c := r.dial("c1")
	c.send("GET /1.0/events HTTP/1.1\r\nHost: a\r\n\r\n")
	c.answer("GET")
	c.send("GET /1.0 HTTP/1.1\r\nHost: a\r\n\r\n")
	c.wantEOF()
	r.wantClosed(CloseData, 1)
}

// TestPings: a websocket is pinged every 10 s, and closed when three pings in a row stay unanswered.
func TestPings(t *testing.T) {
	r := withClock(t, Options{Loops: 1})
	r.container("c1", nil)
	c, _ := r.subscribe("c1", "")
	ping := func() {
		t.Helper()
		r.settle("the ping is due", func(c *conn) bool { return c.timer == timerPing })
		r.step(10*time.Second + slack)
		if opcode, payload := c.frame(); opcode != 9 || len(payload) != 0 {
			t.Fatalf("frame %d %q; want an empty ping", opcode, payload)
		}
	}
	for range 5 { // two missed, then an answer
		ping()
		ping()
		c.send(masked(true, 10, ""))
		r.settle("the pong counts", func(c *conn) bool { return c.sub != nil && c.sub.pings == 0 })
	}
	for range 3 {
		ping()
	}
	r.step(5 * time.Second)
	if r.srv.Connections() != 1 {
		t.Fatalf("closed before its time: %v", r.closeCounts())
	}
	r.step(5*time.Second + slack)
	c.wantEOF()
	r.wantClosed(ClosePingTimeout, 1)
}
