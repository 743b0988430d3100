package server

import (
	"sync/atomic"

	"devlxd/registry"
)

// excess is what an account has of containers that go beyond their quotas or read too slowly, which few do. Safe for concurrent use.
type excess struct {
	waits   [registry.NumLimits]atomic.Uint64
	refused [registry.NumLimits]atomic.Uint64
	lost    atomic.Uint64   // events
	lag     []atomic.Uint64 // by loop, see measureLag
}

// lagTicks is how often it is looked at how far subscribers are behind, in ticks.
const lagTicks = 10

// excessOf returns the excess of an account, which is made by the first call.
func (l *loop) excessOf(a *account) *excess {
	if e := a.excess.Load(); e != nil {
		return e
	}
	a.excess.CompareAndSwap(nil, &excess{lag: make([]atomic.Uint64, len(l.srv.loops))})
	return a.excess.Load()
}

// countAnswer counts an answered request of c. One that is refused unseen has no container here: see shed.
func (l *loop) countAnswer(c *conn, r route, status int) {
	l.stats.requests[r][statusIndex(status)].Add(1)
	l.code = status
	if c.group != nil {
		l.owed++
	}
}

// settleAnswers counts the answers that were gathered for c in its account: at once, as pipelined requests are many.
func (l *loop) settleAnswers(c *conn) {
	if l.owed > 0 {
		c.group.account.requests.Add(l.owed)
		l.owed = 0
	}
}

// countSent counts n bytes that were written for a.
func (l *loop) countSent(a *account, n int) {
	if n > 0 {
		l.stats.sent.Add(uint64(n))
		a.sent.Add(uint64(n))
	}
}

// countWait counts a connection of a that begins to wait for a quota.
func (l *loop) countWait(a *account, q registry.Limit) {
	l.stats.quotaWaits[q].Add(1)
	l.stats.quotaWaiting[q].Add(1)
	l.excessOf(a).waits[q].Add(1)
}

// countRefusal counts what was answered 500 because of a quota.
func (l *loop) countRefusal(a *account, q registry.Limit) {
	l.stats.quotaRefused[q].Add(1)
	l.excessOf(a).refused[q].Add(1)
}

// countLost counts the events that a subscriber of a did not get, if it is because it was too slow.
func (l *loop) countLost(a *account, events uint64, reason CloseReason) {
	if events > 0 && (reason == CloseOverrun || reason == CloseWriteTimeout) {
		l.excessOf(a).lost.Add(events)
	}
}

// watchLag has it looked at from now on how far the subscribers of g are behind, as one of them has a full socket.
func (l *loop) watchLag(g *group) {
	if !g.lagging {
		g.lagging = true
		l.lagging = append(l.lagging, g)
	}
}

// setLag stores how far the slowest subscriber of a on this loop is behind.
func (l *loop) setLag(a *account, lag uint64) { l.excessOf(a).lag[l.id].Store(lag) }

// measureLag looks at the subscribers of the containers that have slow ones, once a second. Those of the others have caught up, or do with
// the next pass of their group.
func (l *loop) measureLag() {
	if len(l.lagging) == 0 || l.wheel.now-l.lagAt < lagTicks {
		return
	}
	l.lagAt = l.wheel.now
	kept := l.lagging[:0]
	for _, g := range l.lagging {
		if g.first == nil {
			continue // it is no group any more
		}
		lag, slow := g.greatestLag()
		l.setLag(g.account, lag)
		if g.lagging = slow; slow {
			kept = append(kept, g)
		}
	}
	clear(l.lagging[len(kept):])
	l.lagging = kept
}

// greatestLag is how many events the slowest subscriber of g with a full socket is behind the head of its ring.
func (g *group) greatestLag() (lag uint64, slow bool) {
	for c := g.first; c != nil; c = c.groupNext {
		if !c.subscribed() || c.out == nil {
			continue
		}
		slow = true
		// The head is read last: a cursor is never ahead of it.
		offset := c.sub.cursor.Offset()
		lag = max(lag, c.sub.ring.Position().Offset-offset)
	}
	return lag, slow
}
