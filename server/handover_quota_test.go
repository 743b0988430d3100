package server

import (
	"strings"
	"testing"
	"time"

	"devlxd/registry"
)

// usage is what the server counts for the container c1.
func (r *rig) usage() registry.Limits {
	c, _ := r.reg.Container("c1")
	u := r.srv.Usage(c).InUse
	u[registry.LimitRequests] = 0
	return u
}

// TestHandOverQuotas: what connections use of their container's quotas counts in the successor, to the byte, and until they end.
func TestHandOverQuotas(t *testing.T) {
	r := newRig(t, Options{Loops: 2})
	r.container("c1", map[string]string{"user.long": strings.Repeat("x", longValue), "security.devlxd.images": "true"})
	var all []*client
	sub, _ := r.subscribe("c1", "")
	all = append(all, sub)
	body, head, large := r.dial("c1"), r.dial("c1"), r.dial("c1")
	body.send("PATCH /1.0 HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
	head.send("GET /1.0 HT")
	large.send("GET /1.0/config/user.long HTTP/1.1\r\nHost: a\r\n\r\n")
	download, _ := r.startDownload("c1", r.image(randomBytes(largeImage, 5), nil))
	all = append(all, body, head, large, download)
	r.settle("the body is held", func(c *conn) bool { return c.body != nil && len(c.body.data) == 1 })
	r.settle("the head is held", func(c *conn) bool { return len(c.in) == 11 })
	eventually(t, "two sockets are full", func() bool { return r.pending() == 2 })
	before := r.usage()
	if before[registry.LimitConnections] != 5 || before[registry.LimitSubscribers] != 1 || before[registry.LimitImages] != 1 || before[registry.LimitBytes] < longValue/2 {
		t.Fatalf("in use before: %v", before)
	}
	next := r.successor(Options{Loops: 3})
	r.handOver(next)
	r.wantUnused("c1")
	eventually(t, "as much is counted as before", func() bool { return next.usage() == before })
	for _, c := range all {
		_ = c.Close()
	}
	next.wantUnused("c1")
	next.wantNoFiles()
}

// TestHandOverAboveLimits: whoever is handed over stays, whatever the limits of the successor are; new ones are held to them.
func TestHandOverAboveLimits(t *testing.T) {
	r := newRig(t, Options{Loops: 2})
	r.container("c1", map[string]string{"user.a": "1"})
	var subs []*client
	for range 4 {
		c, _ := r.subscribe("c1", "")
		subs = append(subs, c)
	}
	next := r.successor(Options{Loops: 2, Limits: registry.Limits{registry.LimitConnections: 2, registry.LimitSubscribers: 1}})
	r.handOver(next)
	next.set("c1", "user.b", "1")
	for _, c := range subs {
		if e := c.event(); !strings.Contains(e, "user.b") {
			t.Errorf("event %s", e)
		}
	}
	if a := next.dial("c1").get("/1.0/config/user.a"); a.status != 500 {
		t.Errorf("one more: %q", a.raw())
	}
	for _, c := range subs {
		_ = c.Close()
	}
	eventually(t, "they are gone", func() bool { return next.srv.Connections() == 0 })
	if a := next.dial("c1").get("/1.0/config/user.a"); a.body != "1" {
		t.Errorf("when they are gone: %q", a.raw())
	}
}

// TestHandOverOfWaiting: a connection that waits for a quota is served by the successor, although its client sends nothing more.
func TestHandOverOfWaiting(t *testing.T) {
	request := getKey("user.a")
	wantAnswers := func(t *testing.T, c *client, n int) {
		t.Helper()
		for i := range n {
			if a := c.answer("GET"); a.body != "1" {
				t.Fatalf("answer %d: %q", i, a.raw())
			}
		}
	}
	for name, tt := range map[string]struct {
		limits registry.Limits
		loops  int
		before func(t *testing.T, r *rig) (after func(next *rig))
	}{
		"requests": {registry.Limits{registry.LimitRequests: 1}, 1, func(t *testing.T, r *rig) func(*rig) {
			c := r.dial("c1")
			c.send(strings.Repeat(request, 4))
			eventually(t, "it waits", func() bool { return r.quotaWaits(registry.LimitRequests) > 0 })
			return func(*rig) { wantAnswers(t, c, 4) }
		}},
		"images": {registry.Limits{registry.LimitImages: 1}, 1, func(t *testing.T, r *rig) func(*rig) {
			content := randomBytes(largeImage, 5)
			image := r.image(content, nil)
			first, _ := r.startDownload("c1", image)
			eventually(t, "the first one is under way", func() bool { return r.pending() == 1 })
			c := r.dial("c1")
			c.send("GET " + exportPath(image) + " HTTP/1.1\r\nHost: a\r\n\r\n" + request)
			eventually(t, "it waits", func() bool { return r.quotaWaits(registry.LimitImages) > 0 })
			return func(next *rig) {
				eventually(t, "it waits again", func() bool { return next.quotaWaits(registry.LimitImages) > 0 })
				_ = first.Close()
				if a := c.answer("GET"); a.status != 200 || a.body != string(content) {
					t.Errorf("status %d with %d bytes", a.status, len(a.body))
				}
				wantAnswers(t, c, 1)
			}
		}},
		"bytes": {registry.Limits{registry.LimitBytes: 1000}, 1, func(t *testing.T, r *rig) func(*rig) {
			other := r.dial("c1")
			other.send("GET /1.0 HTTP/1.1\r\nHost: " + strings.Repeat("a", 2000))
			r.settle("bytes are held", func(c *conn) bool { return len(c.in) > 2000 })
			other.send("a")
			r.settle("one is read from", func(c *conn) bool { return c.group.through == c })
			c := r.dial("c1")
			c.send(request)
			eventually(t, "it waits", func() bool { return r.quotaWaits(registry.LimitBytes) > 0 })
			return func(*rig) {
				_ = other.Close()
				wantAnswers(t, c, 1)
			}
		}},
		"room": {registry.Limits{registry.LimitConnections: 1}, 2, func(t *testing.T, r *rig) func(*rig) {
			r.subscribe("c1", "")
			c := r.dial("c1")
			eventually(t, "it is there", func() bool { return r.srv.Connections() == 2 })
			return func(*rig) {
				c.send(request)
				wantAnswers(t, c, 1)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{Loops: tt.loops, Limits: tt.limits})
			r.container("c1", map[string]string{"user.a": "1", "security.devlxd.images": "true"})
			after := tt.before(t, r)
			next := r.successor(Options{Loops: tt.loops, Limits: tt.limits, IdleTimeout: time.Minute, HeaderTimeout: time.Minute})
			r.handOver(next)
			after(next)
			r.wantUnused("c1")
		})
	}
}

// TestHandOverArmsDeadlines: a connection that waited without a deadline has one in the successor.
func TestHandOverArmsDeadlines(t *testing.T) {
	r := newRig(t, Options{Loops: 1, Limits: registry.Limits{registry.LimitRequests: 1}})
	r.container("c1", map[string]string{"user.a": "1"})
	c := r.dial("c1")
	c.send(strings.Repeat(getKey("user.a"), 2))
	eventually(t, "it waits", func() bool { return r.quotaWaits(registry.LimitRequests) > 0 })
	next := r.successor(Options{Loops: 1, IdleTimeout: 2 * tick})
	r.handOver(next)
	for range 2 {
		c.answer("GET")
	}
	c.wantEOF()
	next.wantClosed(CloseIdleTimeout, 1)
	next.wantUnused("c1")
}
