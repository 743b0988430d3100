package server

import (
	"sync/atomic"
	"time"

	"devlxd/registry"
)

const (
	// refusalTime is for how long a process is refused like its last connection was. It is short, so that a container is looked at again
	// soon, and so that no other process has the pid by then.
	refusalTime = 200 * time.Millisecond
	// refusalSlots is a power of two.
	refusalSlots = 1024
)

// refusals remembers the processes whose container was at its limit of connections a moment ago, so that a flood of connects is refused for less
// than it costs to make: who connects is asked for by SO_PEERCRED alone. A pid is no identity, and none is taken from it: what a wrong one
// can do is that a connection is answered 500. Safe for concurrent use.
type refusals struct {
	until  atomic.Int64 // after it none counts, on the clock of the server
	recent [refusalSlots]atomic.Pointer[refusal]
	peer   func(fd int) int32 // the pid of who connected, 0: not known
}

// refusal is immutable.
type refusal struct {
	pid      int32
	account  *account
	limit    int64 // of connections of the account
	rate     int64 // how many a second are told why
	stranger bool  // it belongs to no container
	until    time.Duration
}

// add remembers that process pid was refused at time now.
func (r *refusals) add(v refusal, now time.Duration) {
	v.until = now + refusalTime
	r.recent[v.pid&(refusalSlots-1)].Store(&v)
	r.until.Store(int64(v.until))
}

// refused tells how the connection before this one of the same process was refused, if this one is to be refused like it; else nil.
func (r *refusals) refused(fd int, now time.Duration) *refusal {
	if int64(now) >= r.until.Load() {
		return nil
	}
	pid := r.peer(fd)
	v := r.recent[pid&(refusalSlots-1)].Load()
	if v == nil || pid == 0 || v.pid != pid || now >= v.until || v.account.connections.Load() < v.limit {
		return nil
	}
	return v
}

// refuseAtOnce answers a new connection of process pid before it asks, because its container is at its limit, and remembers that.
func (l *loop) refuseAtOnce(c *conn, pid int32, limit int64) {
	a, rate, stranger := c.group.account, l.connectRate(c.group), c.group.binding == nil
	l.countRefusal(a, registry.LimitConnections)
	l.out = l.out[:0]
	l.answerTurnedAway(c, stranger, versionPolicy{})
	l.flush(c)
	if pid > 0 {
		l.srv.refusals.add(refusal{pid: pid, account: a, limit: limit, rate: rate, stranger: stranger}, l.mark)
	}
}

// shed closes a connection that nobody has looked at, like the one that was refused before it. As many a second as its container may make are
// answered before that. The others are a flood, which may not be made cheaper for who sends it than for who is flooded: a flood of connects keeps
// the backlog full, and everybody else waiting, once it takes longer to end them than to make them.
func (l *loop) shed(fd int, v *refusal) {
	defer closeNow(fd)
	l.countRefusal(v.account, registry.LimitConnections)
	l.stats.shed.Add(1)
	if v.rate != registry.Unlimited && !v.account.words.take(int64(l.mark), v.rate) {
		return
	}
	l.out = l.out[:0]
	l.refused = conn{fd: int32(fd)}
	l.answerTurnedAway(&l.refused, v.stranger, versionPolicy{})
	v.account.requests.Add(1)
	n, _ := writeNow(fd, l.out) // a new socket takes it, unless nobody is at its other end
	l.countSent(v.account, n)
}
