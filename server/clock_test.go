package server

import (
	"sync/atomic"
	"testing"
	"time"
)

// withClock makes a server whose time stands still until the test moves it.
func withClock(t testing.TB, o Options) *rig {
	clock := newFakeClock()
	o.Now = clock.Now
	r := newRig(t, o)
	r.clock = clock
	return r
}

// fakeClock is a time that stands still until it is moved. Safe for concurrent use.
type fakeClock struct{ ns atomic.Int64 }

func newFakeClock() *fakeClock {
	c := &fakeClock{}
	c.ns.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *fakeClock) Now() time.Time          { return time.Unix(0, c.ns.Load()).UTC() }
func (c *fakeClock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// step moves the time, and waits until the loops have seen it.
func (r *rig) step(d time.Duration) {
	r.t.Helper()
	r.clock.advance(d)
	for _, l := range r.srv.loops {
		l.call(l.onTick)
	}
}

// settle waits until the only connection of the server is as it should be.
func (r *rig) settle(what string, ok func(c *conn) bool) {
	r.t.Helper()
	eventually(r.t, what, func() (found bool) {
		for _, l := range r.srv.loops {
			l.call(func() {
				for _, c := range l.conns {
					found = found || c != nil && ok(c)
				}
			})
		}
		return found
	})
}
