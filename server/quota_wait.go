package server

import (
	"golang.org/x/sys/unix"

	"devlxd/registry"
)

// waitKind is what a connection waits for on our account. Nothing is read from it meanwhile, and no deadline runs.
type waitKind uint8

const (
	waitNone     waitKind = iota
	waitTurn              // its next turn, after the other connections
	waitConnect           // a token for a new connection; nothing was read from it, and the poller does not know it yet
	waitRequests          // a token of its container's bucket
	waitBytes             // its container to hold fewer bytes
	waitImages            // the end of another download of its container
	waitRoom              // the other loops to look for an idle connection in whose place it comes

	numQueues = waitRoom // kinds whose connections stand in line
)

// quotas gives the metric label of each kind that is a quota.
var quotas = [...]registry.Limit{
	waitConnect: registry.LimitRequests, waitRequests: registry.LimitRequests, waitBytes: registry.LimitBytes, waitImages: registry.LimitImages, waitRoom: registry.LimitConnections,
}

// claim is what a few connections need beside their conn: those that hold bytes, wait, or were turned away.
type claim struct {
	c          *conn
	charged    int64 // bytes counted in the account
	kind       waitKind
	again      bool // conn.in is to be worked on before more is read
	turnedAway bool // beyond the limit of connections; its request is answered 500
	prev, next uint32
}

// claims are those of one loop, by number from 1 on, so that a connection without one pays four bytes for it. Owned by the loop.
type claims struct {
	list []claim
	free uint32 // list of free ones by next
}

// of returns the claim of c, and makes one if it has none. It is valid until the next one is made.
func (s *claims) of(c *conn) *claim {
	if c.claim != 0 {
		return &s.list[c.claim]
	}
	if len(s.list) == 0 {
		s.list = append(s.list, claim{})
	}
	n := s.free
	if n == 0 {
		n = uint32(len(s.list))
		s.list = append(s.list, claim{})
	} else {
		s.free = s.list[n].next
	}
	s.list[n] = claim{c: c}
	c.claim = n
	return &s.list[n]
}

// settle takes the claim of c back if it says nothing any more.
func (s *claims) settle(c *conn) {
	k := &s.list[c.claim]
	if k.charged != 0 || k.kind != waitNone || k.turnedAway {
		return
	}
	*k = claim{next: s.free}
	s.free, c.claim = c.claim, 0
}

// waits tells what c waits for.
func (l *loop) waits(c *conn) waitKind {
	if c.claim == 0 {
		return waitNone
	}
	return l.claims.list[c.claim].kind
}

// line is a queue of claims, first come, first served.
type line struct{ first, last uint32 }

// waiting are the connections of a group that wait, by kind.
type waiting struct {
	lines   [numQueues]line
	n       int
	blocked bool // in loop.blocked: looked at again with the next tick
}

// hasWaiting reports whether connections of g stand in line.
func (g *group) hasWaiting() bool { return g.waiting != nil && g.waiting.n > 0 }

func (l *loop) enqueue(g *group, n uint32) {
	if g.waiting == nil {
		g.waiting = &waiting{}
	}
	k := &l.claims.list[n]
	q := &g.waiting.lines[k.kind]
	k.prev, k.next = q.last, 0
	if q.last != 0 {
		l.claims.list[q.last].next = n
	} else {
		q.first = n
	}
	q.last = n
	g.waiting.n++
}

func (l *loop) dequeue(g *group, n uint32) {
	k := &l.claims.list[n]
	q := &g.waiting.lines[k.kind]
	if k.prev != 0 {
		l.claims.list[k.prev].next = k.next
	} else {
		q.first = k.next
	}
	if k.next != 0 {
		l.claims.list[k.next].prev = k.prev
	} else {
		q.last = k.prev
	}
	g.waiting.n--
}

// turnedAway reports whether c is beyond the limit of connections, and its request is to be answered 500.
func (l *loop) turnedAway(c *conn) bool { return c.claim != 0 && l.claims.list[c.claim].turnedAway }

// wait puts c in line. With again, what it holds is worked on before more is read.
func (l *loop) wait(c *conn, kind waitKind, again bool) {
	k := l.claims.of(c)
	k.kind, k.again = kind, again
	if kind != waitTurn {
		l.countWait(c.group.account, quotas[kind])
	}
	if kind == waitRoom {
		return
	}
	l.enqueue(c.group, c.claim)
	l.later(c.group)
}

// unwait takes c out of its line. It reports whether what it holds is to be worked on.
func (l *loop) unwait(c *conn) (again bool) {
	k := &l.claims.list[c.claim]
	if k.kind == waitNone {
		return false
	}
	if k.kind != waitRoom {
		l.dequeue(c.group, c.claim)
	}
	if k.kind != waitTurn {
		l.stats.quotaWaiting[quotas[k.kind]].Add(-1)
	}
	again = k.again
	k.kind, k.again, k.prev, k.next = waitNone, false, 0, 0
	l.claims.settle(c)
	return again
}

// hold stops reading from a connection that waits, and its deadline: it is we who keep it waiting.
func (l *loop) hold(c *conn) {
	l.arm(c, timerNone)
	if l.waits(c) != waitTurn {
		l.watch(c, interestNone)
	}
}

// dispatchQuiet serves the events that are not of busy containers, and takes
// them out of the list. A backlog that stands comes after them.
func (l *loop) dispatchQuiet(events []unix.EpollEvent) {
	for i := range events {
		fd := int(events[i].Fd)
		if fd < len(l.conns) && l.conns[fd] != nil && l.busy(l.conns[fd].group) {
			continue
		}
		if fd != l.listener || !l.backlog {
			l.dispatch(fd)
		}
		events[i].Fd = -1
	}
}

// ignore leaves alone what the poller tells of c while it waits. The poller is
// asked again when c goes on, unless it is read from then in any case.
func (l *loop) ignore(c *conn) {
	if k := &l.claims.list[c.claim]; k.kind != waitTurn || k.again {
		l.watch(c, interestNone)
	}
}

// writable gives c a turn to write. One that sends a file comes after the others when much was done already: a slice of a file takes
// as long as dozens of requests.
func (l *loop) writable(c *conn) {
	switch {
	case l.waits(c) == waitTurn: // it comes in its line
	case l.work >= passWork && c.out != nil && len(c.out.files) > 0 && l.waits(c) == waitNone:
		l.wait(c, waitTurn, false)
	default:
		l.onWritable(c)
	}
}

// stands reports whether connections of g stand in the line for kind.
func (g *group) stands(kind waitKind) bool {
	return g.waiting != nil && g.waiting.lines[kind].first != 0
}

// isFirst reports whether nobody of the container is before c in the line for kind, or c is the one whose turn it is.
func (l *loop) isFirst(c *conn, kind waitKind) bool {
	return !c.group.stands(kind) || l.turnOf == c && l.turnKind == kind
}

// mayGoFirst is isFirst for one that goes then, which takes one of the requests of its turn.
func (l *loop) mayGoFirst(c *conn, kind waitKind) bool {
	if !l.isFirst(c, kind) {
		return false
	}
	if c.group.stands(kind) {
		if l.turnLeft--; l.turnLeft <= 0 {
			l.turnOf = nil // then the next in line
		}
	}
	return true
}

// serveWaiting goes on with the connections of g that wait, as far as their quotas and the pass allow.
func (l *loop) serveWaiting(g *group) {
	w := g.waiting
	if first := w.lines[waitTurn].first; first != 0 { // one turn in a pass, in each that g comes to
		l.resume(l.claims.list[first].c)
	}
	for more := true; more; { // one of each line in turn
		more = false
		for kind := waitTurn + 1; kind < numQueues; kind++ {
			first := w.lines[kind].first
			if first == 0 || !l.available(g, kind) {
				continue
			}
			if l.work >= l.pass {
				l.later(g)
				return
			}
			l.resume(l.claims.list[first].c)
			more = true
		}
	}
	switch {
	case w.n == 0:
	case w.lines[waitTurn].first != 0:
		l.later(g)
	case !w.blocked:
		w.blocked = true
		l.blocked = append(l.blocked, g)
	}
}

// available reports whether the first in the line for kind can go on.
func (l *loop) available(g *group, kind waitKind) bool {
	if l.draining {
		return true
	}
	switch a := g.account; kind {
	case waitRequests:
		rate := l.limit(g, registry.LimitRequests)
		return rate == registry.Unlimited || a.bucket.holds(int64(l.mark), rate)
	case waitConnect:
		return l.mayConnect(g)
	case waitBytes:
		return g.through == nil || a.bytes.Load() < l.limit(g, registry.LimitBytes)
	case waitImages:
		return a.images.Load() < l.limit(g, registry.LimitImages)
	}
	return true
}

// resume goes on with a connection that waited.
func (l *loop) resume(c *conn) {
	defer l.recoverConn(c)
	kind := l.waits(c)
	again := l.unwait(c)
	if c.out != nil { // the rest when that is written
		if kind == waitTurn {
			l.onWritable(c)
		}
		return
	}
	l.turnOf, l.turnKind, l.turnLeft = c, kind, turnRequests
	switch kind {
	case waitConnect:
		if !l.takeConnect(c) {
			return // another loop was first
		}
		l.arm(c, timerHead)
	case waitImages:
		l.paid = c // its request has had its token
	}
	if again && len(c.in) > 0 {
		l.feed(c, c.in)
	} else {
		l.onReadable(c)
	}
	l.turnOf, l.paid = nil, nil
	if c.state == stateClosed || c.out != nil || l.waits(c) != waitNone {
		return
	}
	// What came meanwhile was not looked at: the poller is asked.
	l.watch(c, interestRead)
	l.deadlineAfter(c)
}

// retryBlocked looks again at the connections that wait: tokens have come, and other loops may have given something back.
func (l *loop) retryBlocked() {
	for _, g := range l.blocked {
		g.waiting.blocked = false
		if g.waiting.n > 0 {
			l.later(g)
		}
	}
	clear(l.blocked)
	l.blocked, l.retried = l.blocked[:0], l.mark
}

// release gives back what c has of its container's quotas.
func (l *loop) release(c *conn) {
	g := c.group
	turnedAway := false
	if c.claim != 0 {
		l.unwait(c)
	}
	if c.claim != 0 {
		k := &l.claims.list[c.claim]
		turnedAway = k.turnedAway
		g.account.bytes.Add(-k.charged)
		k.charged, k.turnedAway = 0, false
		l.claims.settle(c)
	}
	if turnedAway {
		g.account.turnedAway.Add(-1)
	} else {
		g.account.connections.Add(-1)
	}
	if g.through == c {
		g.through = nil
	}
	if g.hasWaiting() {
		l.later(g)
	}
}
