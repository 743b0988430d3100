package server

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"devlxd/registry"
)

// TestBucket: whatever the calls, a bucket gives the tokens of one second at once and not more than its rate after that; and it gives those.
func TestBucket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Int64Range(1, 5000).Draw(t, "rate")
		var b bucket
		start := rapid.Int64Range(0, 1<<50).Draw(t, "start")
		now, granted := start, int64(0)
		for range rapid.IntRange(1, 50).Draw(t, "calls") {
			now += rapid.Int64Range(0, second/2).Draw(t, "pause")
			for range rapid.IntRange(0, 300).Draw(t, "burst") {
				there := b.holds(now, rate)
				if b.take(now, rate) != there {
					t.Fatal("holds and take disagree")
				}
				if !there {
					break
				}
				granted++
			}
		}
		elapsed := now - start
		if most := rate + elapsed/(second/rate) + 1; granted > most {
			t.Fatalf("%d tokens in %d ns at %d/s; want at most %d", granted, elapsed, rate, most)
		}
		later := now + 2*second
		for n := range rate {
			if !b.take(later, rate) {
				t.Fatalf("after a pause: %d tokens; want %d", n, rate)
			}
		}
		if b.take(later, rate) {
			t.Fatal("more than the tokens of a second at once")
		}
		if !b.take(later+second/rate, rate) {
			t.Fatal("no token after the time that one takes")
		}
	})
}

// TestRequestsWait: what is beyond the rate waits, is answered in order, and is not ended by a deadline.
func TestRequestsWait(t *testing.T) {
	r := newRig(t, Options{Loops: 1, Limits: registry.Limits{registry.LimitRequests: 5}, IdleTimeout: tick, HeaderTimeout: tick})
	config := make(map[string]string)
	for n := range 12 {
		config[numbered("user.k", n)] = strconv.Itoa(n)
	}
	r.container("c1", config)
	c := r.dial("c1")
	start := time.Now()
	for n := range 12 {
		c.send(getKey(numbered("user.k", n)))
	}
	for n := range 12 {
		if a := c.answer("GET"); a.status != 200 || a.body != strconv.Itoa(n) {
			t.Fatalf("answer %d: %q", n, a.raw())
		}
	}
	if took := time.Since(start); took < 1200*time.Millisecond {
		t.Errorf("12 requests of 5 a second took %v; want the time of the 7 that do not come at once", took)
	}
	if r.quotaWaits(registry.LimitRequests) == 0 {
		t.Error("no wait is counted")
	}
	r.wantClosed(CloseIdleTimeout, 1) // deadlines hold again
	r.wantUnused("c1")
}

// TestRequestsWaitUnread: while there is no token, requests wait in their sockets, where they cost the server nothing, and a client that has
// nothing to say any more is not kept waiting.
func TestRequestsWaitUnread(t *testing.T) {
	r := limited(t, 1, map[registry.Limit]int64{registry.LimitRequests: 1})
	r.container("c1", map[string]string{"user.a": "1"})
	clients := make([]*client, 20) // takes 20 seconds
	for i := range clients {
		clients[i] = r.dial("c1")
		clients[i].send(getKey("user.a"))
	}
	waiting, held := 0, 0
	l := r.srv.loops[0]
	look := func() {
		waiting, held = 0, 0
		for _, c := range l.conns {
			if c != nil && l.waits(c) == waitRequests {
				waiting++
				held += len(c.in)
			}
		}
	}
	eventually(t, "most of them wait", func() bool {
		return l.call(look) && waiting > len(clients)/2
	})
	if held != 0 {
		t.Errorf("%d bytes of them are held", held)
	}
	done := r.dial("c1")
	_ = done.Close()
	eventually(t, "one without a request has ended", func() bool { return r.closed(CloseClient) == 1 })
	if n := r.requests(routeConfigKey, 200); n > uint64(len(clients)/2) {
		t.Errorf("it has waited for the answers of %d others", n)
	}
	half := r.dial("c1") // says that nothing comes behind its request
	half.send(getKey("user.a"))
	if err := half.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	r.set("c1", "limits.devlxd.requests", "unlimited")
	for i, c := range append(clients, half) {
		if a := c.answer("GET"); a.status != 200 {
			t.Errorf("client %d: %q", i, a.raw())
		}
		_ = c.Close()
	}
	r.wantUnused("c1")
}

// TestRequestsWaitTheirTurn: while a container waits for tokens its connections are served in turn, so that one of them cannot take all.
func TestRequestsWaitTheirTurn(t *testing.T) {
	r := limited(t, 1, map[registry.Limit]int64{registry.LimitRequests: 2})
	r.container("c1", map[string]string{"user.a": "1"})
	greedy, modest := r.dial("c1"), r.dial("c1")
	const flood = 20 // takes 9 seconds
	greedy.send(strings.Repeat(getKey("user.a"), flood))
	eventually(t, "it waits", func() bool { return r.quotaWaits(registry.LimitRequests) > 0 })
	if a := modest.get("/1.0/config/user.none"); a.status != 404 {
		t.Fatalf("answer %q", a.raw())
	}
	if n := r.requests(routeConfigKey, 200); n > flood/2 {
		t.Errorf("%d of %d requests were answered before one of another connection", n, flood)
	}
	r.set("c1", "limits.devlxd.requests", "unlimited") // at once, for those that wait too
	for n := range flood {
		if a := greedy.answer("GET"); a.status != 200 {
			t.Fatalf("answer %d: %q", n, a.raw())
		}
	}
}

// TestWaitingConnectionEnds: a connection that waits can go away in each way, and takes nothing along.
func TestWaitingConnectionEnds(t *testing.T) {
	for name, end := range map[string]func(r *rig, c *client){
		"client": func(_ *rig, c *client) { _ = c.Close() },
		"stop": func(r *rig, _ *client) {
			k, _ := r.reg.Container("c1")
			r.reg.Stop(k.Binding())
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := limited(t, 1, map[registry.Limit]int64{registry.LimitRequests: 1})
			b := r.container("c1", map[string]string{"user.a": "1"})
			many, one := r.dial("c1"), r.dial("c1")
			many.send(strings.Repeat(getKey("user.a"), 3))
			eventually(t, "what was read waits", func() bool { return r.quotaWaits(registry.LimitRequests) > 0 })
			one.send(getKey("user.a"))
			eventually(t, "what was not read waits", func() bool { return r.quotaWaits(registry.LimitRequests) > 1 })
			end(r, many)
			end(r, one)
			eventually(t, "it is gone", func() bool { return r.srv.Connections() == 0 })
			if a := r.srv.accountOf(b); a.bytes.Load() != 0 || a.connections.Load() != 0 {
				t.Errorf("left: %d bytes, %d connections", a.bytes.Load(), a.connections.Load())
			}
		})
	}
}

// TestShutdownLiftsQuotas: requests that wait are answered before the server ends.
func TestShutdownLiftsQuotas(t *testing.T) {
	r := limited(t, 2, map[registry.Limit]int64{registry.LimitRequests: 1})
	r.container("c1", map[string]string{"user.a": "1"})
	c := r.dial("c1")
	c.send(strings.Repeat(getKey("user.a"), 50))
	eventually(t, "it waits", func() bool { return r.quotaWaits(registry.LimitRequests) > 0 })
	done := make(chan error, 1)
	go func() { done <- r.shutdown(patience) }()
	for n := 0; ; n++ {
		a, err := c.read("GET")
		if err != nil {
			t.Fatalf("after %d answers: %v", n, err)
		}
		if a.status != 200 {
			t.Fatalf("answer %d: %q", n, a.raw())
		}
		if a.close {
			break
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestSubscribersQuota: the subscription beyond the limit is answered 500 on a connection that stays, and the limit follows the config.
func TestSubscribersQuota(t *testing.T) {
	r := limited(t, 2, map[registry.Limit]int64{registry.LimitSubscribers: 2})
	r.container("c1", nil)
	r.container("c2", nil)
	first, _ := r.subscribe("c1", "")
	r.subscribe("c1", "")
	extra := r.dial("c1")
	extra.send(upgradeRequest("/1.0/events"))
	if a := extra.answer("GET"); a.status != 500 || a.body != textSubscribers+"\n" || a.close {
		t.Fatalf("beyond the limit: %q", a.raw())
	}
	if n := r.quotaRefused(registry.LimitSubscribers); n != 1 {
		t.Errorf("%d are counted as refused; want 1", n)
	}
	r.subscribe("c2", "") // another container is not concerned
	_ = first.Close()
	eventually(t, "one is gone", func() bool { return r.srv.Subscribers() == 2 })
	extra.send("GET /1.0/events HTTP/1.1\r\nHost: a\r\n\r\n")
	if a := extra.answer("GET"); a.status != 200 {
		t.Fatalf("when one is gone: %q", a.raw())
	}
	r.set("c1", "limits.devlxd.subscribers", "3")
	r.subscribe("c1", "")
}

// TestBytesQuota: while a container holds as many bytes as it may, one of its connections at a time is read from. The others wait, are not ended by
// their deadlines, and go on as soon as there is room.
func TestBytesQuota(t *testing.T) {
	r := withClock(t, Options{Loops: 1, Limits: registry.Limits{registry.LimitBytes: 1 << 20}})
	r.container("c1", map[string]string{"user.big": strings.Repeat("x", 3<<20), "user.a": "1"})
	r.container("c2", map[string]string{"user.a": "1"})
	slow := r.dial("c1")
	slow.send(getKey("user.big"))
	eventually(t, "an answer is not taken", func() bool { return r.pending() == 1 })
	partial := r.dial("c1")
	partial.send("GET /1.0 HTT")
	b, _ := r.reg.Container("c1")
	eventually(t, "it is read", func() bool { return r.srv.Usage(b).InUse[registry.LimitBytes]%1000 != 0 && r.through("c1") })
	waiting := r.dial("c1")
	waiting.send(getKey("user.a"))
	eventually(t, "another one waits", func() bool { return r.quotaWaits(registry.LimitBytes) == 1 })
	if a := r.dial("c2").get("/1.0/config/user.a"); a.status != 200 {
		t.Errorf("another container: %q", a.raw())
	}
	r.step(2 * time.Second)
	r.step(2 * time.Second) // the head that is incomplete is given up
	r.wantClosed(CloseHeaderTimeout, 1)
	partial.wantEOF()
	if a := waiting.answer("GET"); a.status != 200 {
		t.Errorf("who waited: %q", a.raw())
	}
	if a := slow.answer("GET"); len(a.body) != 3<<20 {
		t.Errorf("the slow one got %d bytes", len(a.body))
	}
	for _, c := range []*client{slow, waiting} {
		_ = c.Close()
	}
	r.wantUnused("c1")
}

// through reports whether a connection of the container is let through although the limit of bytes is reached.
func (r *rig) through(name string) (found bool) {
	k, _ := r.reg.Container(name)
	for _, l := range r.srv.loops {
		l.call(func() {
			g := l.groups[k.Binding()]
			found = found || g != nil && g.through != nil
		})
	}
	return found
}

// TestImagesQuota: downloads beyond the limit wait in order; every way in which one ends lets the next begin.
func TestImagesQuota(t *testing.T) {
	r := newRig(t, Options{Loops: 1, Limits: registry.Limits{registry.LimitImages: 1}})
	r.log.expect("cannot serve an image") // one that is not there
	r.withImages("c1")
	image := r.image(randomBytes(4<<20, 3), nil)
	absent := r.image([]byte("absent"), func(i *registry.Image) { i.Path += ".none" })
	get := "GET " + exportPath(image) + " HTTP/1.1\r\nHost: a\r\n\r\n"
	slow := r.dial("c1")
	slow.send(get)
	eventually(t, "a download is under way", func() bool { return r.pending() == 1 })
	var line []*client
	for n := range 3 {
		c := r.dial("c1")
		c.send(get + getKey("user.none"))
		eventually(t, "it waits", func() bool { return r.quotaWaits(registry.LimitImages) == uint64(n+1) })
		line = append(line, c)
	}
	if a := r.dial("c1").get("/1.0"); a.status != 200 {
		t.Errorf("another request meanwhile: %q", a.raw())
	}
	gone := r.dial("c1")
	gone.send("GET " + exportPath(absent) + " HTTP/1.1\r\nHost: a\r\n\r\n")
	_ = slow.Close()
	for n, c := range line {
		// While this one is not read to its end, those behind it have got nothing.
		if _, err := c.r.Peek(1); err != nil {
			t.Fatal(err)
		}
		for _, behind := range line[n+1:] {
			if behind.r.Buffered() > 0 || r.requests(routeImage, 200) != uint64(n+2) {
				t.Fatalf("download %d began before %d had ended: %d of them", n+1, n, r.requests(routeImage, 200))
			}
		}
		if a := c.answer("GET"); a.status != 200 || len(a.body) != 4<<20 {
			t.Fatalf("download %d: %d with %d bytes", n, a.status, len(a.body))
		}
		if a := c.answer("GET"); a.status != 404 {
			t.Errorf("the request behind download %d: %q", n, a.raw())
		}
	}
	if a := gone.answer("GET"); a.status != 404 {
		t.Errorf("an image whose file is gone: %q", a.raw())
	}
	head := r.dial("c1")
	head.send("HEAD" + get[3:])
	head.answer("HEAD")
	if a := head.get(exportPath(image)); a.status != 200 {
		t.Errorf("after HEAD: %d", a.status)
	}
	r.set("c1", "security.devlxd.images", "false")
	for _, c := range append(line, gone, head) {
		_ = c.Close()
	}
}

// TestUsage: what is shown of a container follows its config and its connections.
func TestUsage(t *testing.T) {
	r := newRig(t, Options{Loops: 2, Limits: registry.Limits{registry.LimitConnections: 7}})
	r.container("c1", map[string]string{"limits.devlxd.images": "2", "limits.devlxd.bytes": "nonsense"})
	r.subscribe("c1", "")
	r.dial("c1").get("/1.0")
	k, _ := r.reg.Container("c1")
	u := r.srv.Usage(k)
	if u.Limits[registry.LimitConnections] != 7 || u.Limits[registry.LimitImages] != 2 || u.Limits[registry.LimitBytes] != registry.MaxLimit {
		t.Errorf("limits %v", u.Limits)
	}
	if u.InUse[registry.LimitConnections] != 2 || u.InUse[registry.LimitSubscribers] != 1 {
		t.Errorf("in use %v", u.InUse)
	}
	r.set("c1", "limits.devlxd.connections", "unlimited")
	if n := r.srv.Usage(k).Limits[registry.LimitConnections]; n != registry.Unlimited {
		t.Errorf("connections %d after the change", n)
	}
	r.reg.Stop(k.Binding())
	if u := r.srv.Usage(k); u.InUse != (registry.Limits{}) {
		t.Errorf("in use %v after the stop", u.InUse)
	}
}

// TestLimitsOfServer: a negative quota is refused.
func TestLimitsOfServer(t *testing.T) {
	if _, err := New(Options{Limits: registry.Limits{registry.LimitBytes: -1}}); err == nil {
		t.Error("a negative limit is accepted")
	}
	if _, err := fmt.Sscan(registry.FormatLimit(DefaultLimits()[registry.LimitConnections]), new(int)); err != nil {
		t.Error(err)
	}
}
