package server

import (
	"time"

	"devlxd/registry"
)

// group is the connections of one life of a container on one loop, and their
// shared interest in its events. Owned by the loop.
type group struct {
	binding *registry.Binding // nil: of the peers that belong to no container
	account *account
	first   *conn // all connections, subscribers or not

	ring    *registry.Ring  // of the watch; a revoked one of older subscribers is their own
	watch   *registry.Watch // nil without subscribers
	subs    int
	next    *conn // where the fan-out pass goes on in its next turn
	dirty   bool  // events came after the fan-out pass began
	queued  bool  // in the loop's run queue
	lagging bool  // in loop.lagging

	window   uint32        // wheel tick of its last request
	spent    uint32        // recent requests as of then
	through  *conn         // the one that is read from although the limit of bytes is reached
	waiting  *waiting      // nil: nobody has waited yet
	noneIdle time.Duration // of the loop's clock: until then none of its connections is idle, unless one becomes it
}

// join counts c and puts it among the connections of its container. A container that stops
// is dead before the loops are told: a connection that is identified before
// this loop's task runs is found by it, and a later one is refused.
// It returns how many connections the container has with it.
func (l *loop) join(c *conn) int64 {
	g := l.groups[c.binding]
	if g == nil {
		g = &group{binding: c.binding, account: l.srv.accountOf(c.binding)}
		l.groups[c.binding] = g
	}
	c.group = g
	if c.groupNext = g.first; g.first != nil {
		g.first.groupPrev = c
	}
	g.first = c
	return g.account.connections.Add(1)
}

// leave takes c out of its group; the last one takes the group along.
func (l *loop) leave(c *conn) {
	g := c.group
	if g == nil {
		return
	}
	if g.next == c {
		g.next = c.groupNext
	}
	if c.groupPrev != nil {
		c.groupPrev.groupNext = c.groupNext
	} else {
		g.first = c.groupNext
	}
	if c.groupNext != nil {
		c.groupNext.groupPrev = c.groupPrev
	}
	c.group, c.groupPrev, c.groupNext = nil, nil, nil
	if g.first == nil {
		delete(l.groups, g.binding)
		if g.lagging {
			l.setLag(g.account, 0) // the tick may end with it
		}
	}
}

// Stopped implements registry.Observer: the connections of a container that
// stopped are closed on every loop.
func (s *Server) Stopped(b *registry.Binding) {
	for _, l := range s.loops {
		l.post(func() { l.closeGroup(b) })
	}
}

// Revoked implements registry.Observer: the event streams that are open on a
// container that may no longer use the API end, also if it may again when a loop
// comes to it. Its other connections get 403 as long as it may not.
func (s *Server) Revoked(c *registry.Container) {
	b := c.Binding()
	if b == nil {
		return
	}
	for _, l := range s.loops {
		l.post(func() { l.revokeGroup(b) })
	}
}

func (l *loop) closeGroup(b *registry.Binding) {
	g := l.groups[b]
	if g == nil {
		return
	}
	for c := g.first; c != nil; {
		next := c.groupNext
		if c.state == stateWS {
			l.goodbye(c, CloseStopped)
		} else {
			l.close(c, CloseStopped)
		}
		c = next
	}
}

func (l *loop) revokeGroup(b *registry.Binding) {
	g := l.groups[b]
	if g == nil {
		return
	}
	for c := g.first; c != nil; {
		next := c.groupNext
		// The ring says which streams are meant: one that began after access
		// was opened again has another.
		if c.subscribed() && c.sub.ring.Revoked() {
			l.goodbye(c, CloseRevoked)
		}
		c = next
	}
}
