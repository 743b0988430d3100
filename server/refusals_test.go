package server

import (
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/registry"
)

// shedding is a server that knows the pids of its peers: 1 for the container flood, as identification says, and 2 for everybody else.
func shedding(t *testing.T, loops int, limits registry.Limits) *rig {
	return newRig(t, Options{Loops: loops, Limits: limits, peerPID: func(fd int) int32 {
		if sa, err := unix.Getpeername(fd); err == nil && strings.HasSuffix(sa.(*unix.SockaddrUnix).Name, "#flood") {
			return 1
		}
		return 2
	}})
}

func (r *rig) shed() (n uint64) {
	for _, l := range r.srv.loops {
		n += l.stats.shed.Load()
	}
	return n
}

// TestShed: a process whose container is at its limit of connections is refused unseen, with a word, and nobody else is. It is let in as soon as
// there is room.
func TestShed(t *testing.T) {
	for _, loops := range []int{1, 3} {
		r := shedding(t, loops, registry.Limits{registry.LimitConnections: 4, registry.LimitRequests: 50})
		r.container("flood", map[string]string{"user.a": "1"})
		r.container("quiet", map[string]string{"user.a": "2"})
		r.container("full", map[string]string{"user.a": "3", "limits.devlxd.connections": "1"})
		full, _ := r.subscribe("full", "")
		var held []*client
		for range 4 {
			c, _ := r.subscribe("flood", "")
			held = append(held, c)
		}
		asked := 0
		eventually(t, "one is refused unseen", func() bool {
			c := r.dial("flood")
			asked++
			_, _ = c.Write([]byte("GET /1.0 HTTP/1.1\r\nHost: lxd\r\n\r\n")) // the answer may be there already, and the connection over
			if a := c.answer("GET"); a.status != 500 || a.body != textConnections+"\n" || !a.close {
				t.Fatalf("%d loops: refused with %q", loops, a.raw())
			}
			c.wantEOF()
			return r.shed() > 0
		})
		if a := r.dial("quiet").get("/1.0/config/user.a"); a.body != "2" {
			t.Errorf("%d loops: another container is answered %q", loops, a.raw())
		}
		before := r.shed()
		if a := r.dial("full").get("/1.0"); a.status != 500 {
			t.Errorf("%d loops: one more of another full container: %q", loops, a.raw())
		}
		if n := r.shed(); n != before {
			t.Errorf("%d loops: %d of another process were refused unseen", loops, n-before)
		}
		_ = held[0].Close()
		eventually(t, "there is room", func() bool { return r.srv.Connections() <= 5 })
		c := r.dial("flood")
		c.send(getKey("user.a"))
		if a := c.answer("GET"); a.status != 200 {
			t.Errorf("%d loops: when there is room: %q", loops, a.raw())
		}
		if n := r.quotaRefused(registry.LimitConnections); n < uint64(asked) {
			t.Errorf("%d loops: %d are counted as refused; want %d", loops, n, asked)
		}
		for _, c := range append(held, full, c) {
			_ = c.Close()
		}
		r.wantUnused("flood")
	}
}

// TestShedWithoutAWord: of a flood that is refused unseen as many connections a second are answered as its container may make, and the others are
// closed at once. Each is counted.
func TestShedWithoutAWord(t *testing.T) {
	r := shedding(t, 1, registry.Limits{registry.LimitConnections: 1, registry.LimitRequests: 1})
	r.container("flood", nil)
	held, _ := r.subscribe("flood", "")
	var all, answered, silent int
	flood := func() (word bool) {
		before := r.shed()
		c := r.dial("flood")
		defer c.Close()
		_, _ = c.Write([]byte("GET /1.0 HTTP/1.1\r\nHost: lxd\r\n\r\n")) // the connection may be over already
		b, _ := io.ReadAll(c)
		all++
		if len(b) > 0 && !strings.HasPrefix(string(b), "HTTP/1.1 500 ") {
			t.Fatalf("answered %q", b)
		}
		switch unseen := r.shed() > before; {
		case unseen && len(b) > 0:
			answered++
		case unseen:
			silent++
		case len(b) == 0:
			t.Fatal("one that was looked at got no answer")
		}
		return len(b) > 0
	}
	start := time.Now()
	eventually(t, "one gets no answer", func() bool { return !flood() })
	if took := time.Since(start); answered < minConnects || float64(answered) > minConnects*(1+took.Seconds())+1 {
		t.Errorf("%d of those that were refused unseen in %v are answered; want %d a second", answered, took, minConnects)
	}
	eventually(t, "one is answered again", func() bool { before := answered; flood(); return answered > before })
	if n := r.quotaRefused(registry.LimitConnections); n != uint64(all) {
		t.Errorf("%d are counted as refused; want %d", n, all)
	}
	if silent == 0 || r.shed() != uint64(answered+silent) {
		t.Errorf("%d are counted as refused unseen; want %d that are answered and %d that are not", r.shed(), answered, silent)
	}
	_ = held.Close()
	r.wantUnused("flood")
}

// TestRefusalsAreForgotten: who was refused is looked at again after a moment, and a pid that is not known matches nobody.
func TestRefusalsAreForgotten(t *testing.T) {
	pid := int32(7)
	r := refusals{peer: func(int) int32 { return pid }}
	a := &account{}
	a.connections.Store(3)
	r.add(refusal{pid: 7, account: a, limit: 3, stranger: true}, time.Second)
	for _, c := range []struct {
		name string
		pid  int32
		open int64
		now  time.Duration
		want bool
	}{
		{"at once", 7, 3, time.Second, true},
		{"above the limit", 7, 4, time.Second, true},
		{"with room", 7, 2, time.Second, false},
		{"another process", 8, 3, time.Second, false},
		{"another process of the same place", 7 + refusalSlots, 3, time.Second, false},
		{"no pid", 0, 3, time.Second, false},
		{"just before the end", 7, 3, time.Second + refusalTime - 1, true},
		{"after the end", 7, 3, time.Second + refusalTime, false},
	} {
		pid = c.pid
		a.connections.Store(c.open)
		if got := r.refused(0, c.now); (got != nil) != c.want || got != nil && !got.stranger {
			t.Errorf("%s: refused like %+v; want %v", c.name, got, c.want)
		}
	}
	// The time of another refusal does not lengthen that of the first.
	r.add(refusal{pid: 9, account: a, limit: 3}, time.Second+refusalTime/2)
	pid = 7
	a.connections.Store(3)
	if r.refused(0, time.Second+refusalTime) != nil {
		t.Error("refused for as long as a later one")
	}
}

// TestConnectsWait: connections beyond the rate wait in line and are served in it; nobody is refused, and none is ended by a deadline meanwhile.
func TestConnectsWait(t *testing.T) {
	for _, loops := range []int{1, 2} {
		r := newRig(t, Options{Loops: loops, Limits: registry.Limits{registry.LimitRequests: 40}, HeaderTimeout: tick})
		r.container("c1", map[string]string{"user.a": "1"})
		r.container("c2", map[string]string{"user.a": "2"})
		start := time.Now()
		var all []*client
		for range 2 * minConnects {
			c := r.dial("c1")
			c.send("GET /1.0/config/user.a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			all = append(all, c)
		}
		other := r.dial("c2")
		if a := other.get("/1.0/config/user.a"); a.body != "2" {
			t.Errorf("another container is answered %q", a.raw())
		}
		var answered uint64
		eventually(t, "each is answered or waits", func() bool {
			answered = r.requests(routeConfigKey, 200)
			return float64(answered)+r.sum("devlxd_quota_waiting", "quota", "requests") >= 2*minConnects+1
		})
		looked := time.Since(start)
		atOnce := minConnects*(1+looked.Seconds()) + 2
		if float64(answered) > atOnce {
			t.Errorf("%d are answered after %v; want at most %.0f", answered, looked, atOnce)
		}
		for i, c := range all {
			if a := c.answer("GET"); a.status != 200 || a.body != "1" {
				t.Fatalf("connection %d: %q", i, a.raw())
			}
		}
		if took := time.Since(start); took < 900*time.Millisecond {
			t.Errorf("%d connections of %d a second took %v; want the time of those that do not come at once", len(all), minConnects, took)
		}
		if n := r.quotaWaits(registry.LimitRequests); float64(n) < 2*minConnects+1-atOnce {
			t.Errorf("%d waits are counted; want those of all but %.0f", n, atOnce)
		}
		_ = other.Close()
		r.wantUnused("c1")
	}
}

// TestWaitingConnectEnds: one that waits to be served ends with its container, and with the server, which serves it first.
func TestWaitingConnectEnds(t *testing.T) {
	waiting := func(r *rig) (last *client) {
		for range minConnects + 4 {
			last = r.dial("c1")
		}
		eventually(t, "some wait", func() bool { return r.quotaWaits(registry.LimitRequests) > 2 })
		return last
	}
	limits := registry.Limits{registry.LimitRequests: 1}
	t.Run("stop", func(t *testing.T) {
		r := newRig(t, Options{Loops: 2, Limits: limits})
		b := r.container("c1", nil)
		last := waiting(r)
		r.reg.Stop(b)
		last.wantEOF()
		eventually(t, "all are gone", func() bool { return r.srv.Connections() == 0 })
		if n := r.srv.accountOf(b).connections.Load(); n != 0 {
			t.Errorf("%d are counted", n)
		}
	})
	t.Run("shutdown", func(t *testing.T) {
		r := newRig(t, Options{Loops: 2, Limits: limits})
		r.container("c1", map[string]string{"user.a": "1"})
		last := waiting(r)
		last.send(getKey("user.a"))
		done := make(chan error, 1)
		go func() { done <- r.shutdown(patience) }()
		if a := last.answer("GET"); a.status != 200 || a.body != "1" {
			t.Errorf("answer %q", a.raw())
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Run("handover", func(t *testing.T) {
		r := newRig(t, Options{Loops: 2, Limits: limits})
		r.container("c1", map[string]string{"user.a": "1"})
		last := waiting(r)
		next := r.successor(Options{Loops: 2})
		r.handOver(next)
		if a := last.get("/1.0/config/user.a"); a.status != 200 || a.body != "1" {
			t.Errorf("answer %q", a.raw())
		}
	})
}

// TestAcceptTurnIsBounded: a turn accepts a few connections, and the backlog is not forgotten.
func TestAcceptTurnIsBounded(t *testing.T) {
	r := newIdleRig(t, Options{Loops: 1, HeaderTimeout: time.Hour})
	r.container("c1", nil)
	l := r.accepting()
	const n = 5 * acceptWork
	for range n {
		r.dial("c1")
	}
	for open := 0; open < n; {
		if err := l.goAround(false); err != nil {
			t.Fatal(err)
		}
		if l.open == open {
			t.Fatalf("stopped after %d of %d", open, n)
		}
		most := (acceptWork + adoptWork - 1) / adoptWork
		if open > 0 { // more while it stands
			most = (standingWork + adoptWork - 1) / adoptWork
		}
		if came := l.open - open; came > most {
			t.Fatalf("%d in one turn; want at most %d", came, most)
		}
		open = l.open
		if l.backlog != (open < n) {
			t.Fatalf("the backlog stands after %d of %d: %v", open, n, l.backlog)
		}
	}
}
