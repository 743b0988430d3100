package server

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"devlxd/registry"
)

// TestEvictionOrder: at the limit the connection that has been idle longest makes room; busy ones and those that never asked do not.
func TestEvictionOrder(t *testing.T) {
	r := withClock(t, Options{Loops: 1, HeaderTimeout: time.Minute, Limits: registry.Limits{registry.LimitConnections: 5}})
	r.container("c1", nil)
	other := r.dial(r.other("c2"))
	other.get("/1.0")
	events, _ := r.subscribe("c1", "")
	silent := r.dial("c1")
	r.step(time.Second)
	var idle []*client
	for range 3 {
		c := r.dial("c1")
		c.get("/1.0")
		r.step(time.Second)
		idle = append(idle, c)
	}
	silent.get("/1.0") // now idle since last
	r.step(time.Second)
	idle[0].get("/1.0") // and this one after it
	r.step(time.Second)
	for _, evicted := range []*client{idle[1], idle[2], silent, idle[0]} {
		next := r.dial("c1")
		if a := next.get("/1.0"); a.status != 200 {
			t.Fatalf("a new connection: %q", a.raw())
		}
		next.send("GET /1.0/events HTTP/1.1\r\nHost: a\r\n\r\n") // it is not idle any more
		next.answer("GET")
		evicted.wantEOF()
		r.step(time.Second)
	}
	r.wantClosed(CloseEvicted, 4)
	last := r.dial("c1")
	if a := last.get("/1.0"); a.status != 500 || a.body != textConnections+"\n" || !a.close {
		t.Errorf("when none is idle: %q", a.raw())
	}
	last.wantEOF()
	r.wantClosed(CloseQuota, 1)
	_ = events.Close()
	eventually(t, "one is gone", func() bool { return r.srv.Connections() == 5 })
	if a := r.dial("c1").get("/1.0"); a.status != 200 {
		t.Errorf("when one is gone: %q", a.raw())
	}
	other.wantOpen()
}

// other registers a container and returns its name.
func (r *rig) other(name string) string {
	r.container(name, nil)
	return name
}

// TestEvictionSparesUnread: a connection whose request is in the socket is not idle, although the loop does not know of it yet.
func TestEvictionSparesUnread(t *testing.T) {
	m := newManual(t, Options{Limits: registry.Limits{registry.LimitConnections: 2}})
	m.rig.container("c1", map[string]string{"user.a": "1"})
	ask := func(fd int) {
		if _, err := unix.Write(fd, []byte(getKey("user.a"))); err != nil {
			t.Fatal(err)
		}
	}
	first, second := m.connect("c1"), m.connect("c1")
	for _, fd := range []int{first, second} {
		ask(fd)
		if err := m.l.goAround(true); err != nil {
			t.Fatal(err)
		}
	}
	if m.drain(first) == 0 || m.drain(second) == 0 {
		t.Fatal("no answer")
	}
	ask(first)
	m.connect("c1")
	if n := m.l.stats.closed[CloseEvicted].Load(); n != 1 {
		t.Fatalf("%d were evicted; want 1", n)
	}
	if err := m.l.goAround(true); err != nil {
		t.Fatal(err)
	}
	if m.drain(first) == 0 {
		t.Error("the request that was under way is not answered")
	}
	var b [1]byte
	if n, err := unix.Read(second, b[:]); n != 0 || err != nil {
		t.Errorf("the idle one: %d, %v; want its end", n, err)
	}
}

// TestTurnedAwayAreFew: a container cannot hold connections beyond its limit by not asking on them.
func TestTurnedAwayAreFew(t *testing.T) {
	for _, loops := range []int{1, 3} {
		r := limited(t, loops, map[registry.Limit]int64{registry.LimitConnections: 2})
		r.container("c1", nil)
		r.subscribe("c1", "")
		r.subscribe("c1", "")
		var silent []*client
		for range maxTurnedAway + 10 {
			silent = append(silent, r.dial("c1"))
		}
		r.wantClosed(CloseQuota, 10) // the rest is answered at once
		eventually(t, "they are gone", func() bool { return r.srv.Connections() == 2+maxTurnedAway })
		said := 0
		for _, c := range silent {
			if c.ended() {
				t.Error("closed without a word")
			}
			_, _ = c.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")) // it may be over already
			if a := c.answer("GET"); a.status == 500 && a.close {
				said++
			}
		}
		if said != len(silent) {
			t.Errorf("%d of %d were told", said, len(silent))
		}
		if a := r.dial(r.other("c2")).get("/1.0"); a.status != 200 {
			t.Errorf("another container: %q", a.raw())
		}
	}
}

// TestStrangersShareQuota: peers of no container have together what one has, and are told nothing of it.
func TestStrangersShareQuota(t *testing.T) {
	r := limited(t, 2, map[registry.Limit]int64{registry.LimitConnections: 2})
	r.container("c1", nil)
	held := []*client{r.dial(stranger), r.dial(nonRoot)}
	eventually(t, "both are there", func() bool { return r.srv.strangers.connections.Load() == 2 })
	if a := r.dial(nonRoot).get("/1.0"); a.status != 500 || a.body != r.srv.texts.unidentified+"\n" {
		t.Errorf("one more: %q", a.raw())
	}
	if a := r.dial("c1").get("/1.0"); a.status != 200 {
		t.Errorf("a container: %q", a.raw())
	}
	if a := held[1].get("/1.0"); a.status != 401 {
		t.Errorf("one within the limit: %q", a.raw())
	}
	r.synced()
	if a := r.dial(stranger).get("/1.0"); a.status != 500 { // the one of before is idle now
		t.Errorf("instead of an idle one: %q", a.raw())
	}
	r.wantClosed(CloseEvicted, 1)
}

// TestLoweredLimit: connections beyond a limit that was lowered go as new ones come.
func TestLoweredLimit(t *testing.T) {
	r := limited(t, 1, map[registry.Limit]int64{registry.LimitConnections: 10})
	b := r.container("c1", nil)
	for range 10 {
		r.dial("c1").get("/1.0")
	}
	r.set("c1", "limits.devlxd.connections", "3")
	for range 4 {
		r.dial("c1").get("/1.0")
		r.synced()
	}
	if n := r.srv.accountOf(b).connections.Load(); n != 3 {
		t.Errorf("%d connections; want 3", n)
	}
	r.set("c1", "limits.devlxd.connections", "unlimited")
	for range 20 {
		r.dial("c1").get("/1.0")
	}
	if n := r.srv.accountOf(b).connections.Load(); n != 23 {
		t.Errorf("%d connections; want 23", n)
	}
}

// connectionModel is what a container's connections must be, whatever loops they are on.
type connectionModel struct {
	r      *rig
	limit  int
	idle   []*client
	busy   []*client
	closed uint64 // evicted
}

// open makes one more connection and checks what became of it and of the others.
func (m *connectionModel) open(t *rapid.T) {
	m.r.synced()
	c := m.r.dial("c1")
	a := c.get("/1.0")
	full := len(m.idle)+len(m.busy) >= m.limit
	if full && len(m.idle) == 0 {
		if a.status != 500 || !a.close {
			t.Fatalf("with %d busy ones: %q; want 500", len(m.busy), a.raw())
		}
		return
	}
	if a.status != 200 {
		t.Fatalf("refused with %d idle and %d busy ones of %d", len(m.idle), len(m.busy), m.limit)
	}
	if full {
		m.closed++
		m.r.synced()
		var left []*client
		for _, i := range m.idle {
			if !i.ended() {
				left = append(left, i)
			}
		}
		if len(left) != len(m.idle)-1 || m.r.closed(CloseEvicted) != m.closed {
			t.Fatalf("%d of %d idle ones are left, %d evicted in all; want one less, %d", len(left), len(m.idle), m.r.closed(CloseEvicted), m.closed)
		}
		m.idle = left
	}
	m.idle = append(m.idle, c)
}

// pick takes a connection out of a list.
func pick(t *rapid.T, list *[]*client) *client {
	n := rapid.IntRange(0, len(*list)-1).Draw(t, "which")
	c := (*list)[n]
	*list = append((*list)[:n:n], (*list)[n+1:]...)
	return c
}

// TestConnectionsModel: a new connection is never refused while one is idle, on whichever loop; exactly one makes room then; and it is refused when
// none is.
func TestConnectionsModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.IntRange(1, 5).Draw(rt, "limit")
		loops := rapid.IntRange(1, 3).Draw(rt, "loops")
		r := limited(t, loops, map[registry.Limit]int64{registry.LimitConnections: int64(limit)})
		r.container("c1", nil)
		m := &connectionModel{r: r, limit: limit}
		gone := func(before int64) {
			eventually(t, "it is gone", func() bool { return r.srv.Connections() < before })
		}
		rt.Repeat(map[string]func(*rapid.T){
			"open": m.open,
			"subscribe": func(t *rapid.T) {
				if len(m.idle) == 0 {
					t.Skip("none is idle")
				}
				c := pick(t, &m.idle)
				c.send("GET /1.0/events HTTP/1.1\r\nHost: a\r\n\r\n")
				c.answer("GET")
				m.busy = append(m.busy, c)
			},
			"ask": func(t *rapid.T) {
				if len(m.idle) == 0 {
					t.Skip("none is idle")
				}
				c := pick(t, &m.idle)
				c.get("/1.0")
				m.idle = append(m.idle, c)
			},
			"close idle": func(t *rapid.T) {
				if len(m.idle) == 0 {
					t.Skip("none is idle")
				}
				before := r.srv.Connections()
				_ = pick(t, &m.idle).Close()
				gone(before)
			},
			"close busy": func(t *rapid.T) {
				if len(m.busy) == 0 {
					t.Skip("none is busy")
				}
				before := r.srv.Connections()
				_ = pick(t, &m.busy).Close()
				gone(before)
			},
		})
		for _, c := range append(m.idle, m.busy...) {
			_ = c.Close()
		}
		r.wantUnused("c1")
		if err := r.shutdown(patience); err != nil {
			rt.Fatal(err)
		}
	})
}
