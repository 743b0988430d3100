package server

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/registry"
	"devlxd/ws"
)

const (
	// fanoutSlice is how many subscribers are served before the other
	// connections of the loop have their turn.
	fanoutSlice = 64
	// fanoutUnit is how many of them count as one unit of work.
	fanoutUnit = 4
	// fanoutBatch is how many events go to one subscriber in one writev(2).
	fanoutBatch = 8 // more would make writev(2) allocate, here and in the kernel
)

// subscriber is the event subscription of a connection: a cursor into the ring
// of its container. What it has not read yet is in the ring, not here.
type subscriber struct {
	ring     *registry.Ring
	cursor   registry.Cursor
	decoder  ws.Decoder
	since    time.Duration // registry clock at the subscription
	live     bool          // events are delivered; false once our close frame is gathered
	position bool          // events carry their position
	pings    uint8         // unanswered
}

// fanoutScratch is reused for every delivery of a loop.
type fanoutScratch struct {
	iov     [][]byte
	events  []*registry.Event // of each entry of iov
	cursors []registry.Cursor // the cursor after each entry of iov
}

// subscribe makes c a subscriber of its container's events from its cursor on.
func (l *loop) subscribe(c *conn, sub *subscriber) {
	g := c.group
	c.sub = sub
	sub.since = l.srv.reg.Clock()
	sub.live = true
	g.subs++
	g.account.subscribers.Add(1)
	l.stats.subscribers.Add(1)
	if g.watch != nil && g.ring != sub.ring {
		// The old one is revoked; the streams on it end with the task of Revoked.
		g.watch.Close()
		g.watch = nil
	}
	if g.watch == nil {
		g.ring = sub.ring
		wake := func() { l.wake(g) }
		g.watch = sub.ring.Watch(func() { l.post(wake) })
	}
}

// unsubscribe ends the delivery of events to c and counts those that it did not
// get. The decoder of a websocket stays: it finds the client's close frame.
func (l *loop) unsubscribe(c *conn, reason CloseReason) {
	if !c.subscribed() {
		return
	}
	c.sub.live = false
	missed := l.stats.miss(c.sub.ring, &c.sub.cursor, reason)
	l.stats.subscribers.Add(-1)
	if g := c.group; g != nil {
		l.countLost(g.account, missed, reason)
		g.account.subscribers.Add(-1)
		if g.subs--; g.subs == 0 {
			g.watch.Close()
			g.watch = nil
		}
	}
}

// wake has a fan-out pass follow the one under way, if any. The pass waits for
// the run queue: the watch is armed again when it begins and not here, so that
// a busy writer cannot keep the loop in its task queue.
func (l *loop) wake(g *group) {
	g.dirty = true
	l.later(g)
}

// drain serves one slice of the subscribers of g and queues the rest.
func (l *loop) drain(g *group) {
	for n := range fanoutSlice {
		if g.next == nil && !l.beginPass(g) {
			return
		}
		if n%fanoutUnit == fanoutUnit-1 {
			l.work++
		}
		c := g.next
		g.next = c.groupNext
		if !c.subscribed() {
			continue
		}
		l.guard(c, func() {
			if c.out == nil {
				l.pump(c)
			} else if c.sub.ring.Overrun(&c.sub.cursor) {
				l.lost(c, registry.ErrOverrun)
			}
		})
	}
	if g.next != nil || g.dirty {
		l.later(g)
	}
}

// beginPass starts a pass over the connections of g if events have come since
// the last one began.
func (l *loop) beginPass(g *group) bool {
	if !g.dirty || g.watch == nil {
		g.dirty = false
		return false
	}
	g.dirty = false
	// Before the ring is read: what is published from here on wakes again.
	g.watch.Rearm()
	g.next = g.first
	return g.next != nil
}

// pump writes to c what its cursor has not passed yet, until it has caught up,
// its socket is full or its turn is over.
func (l *loop) pump(c *conn) {
	for l.sent = 0; l.sent < turnBytes; {
		if err := l.gather(c); err != nil {
			l.lost(c, err)
			return
		}
		if len(l.frames.iov) == 0 {
			l.caughtUp(c)
			return
		}
		full, err := l.deliver(c)
		if err != nil {
			l.close(c, CloseSocketError)
			return
		}
		if full {
			l.watchLag(c.group)
			l.settle(c)
			return
		}
	}
	l.yieldTurn(c)
	l.settle(c)
}

// caughtUp goes back to reading after the socket had been full.
func (l *loop) caughtUp(c *conn) {
	l.watch(c, interestRead)
	if c.timer == timerWrite {
		l.rest(c)
	}
}

// gather collects the next events of c. An overrun counts only when nothing is
// left to deliver before it; without access nothing is delivered any more.
func (l *loop) gather(c *conn) error {
	f, ring := &l.frames, c.sub.ring
	f.iov, f.events, f.cursors = f.iov[:0], f.events[:0], f.cursors[:0]
	cursor := c.sub.cursor
	for len(f.iov) < fanoutBatch {
		ev, err := ring.Next(&cursor)
		if err != nil {
			if len(f.iov) > 0 && errors.Is(err, registry.ErrOverrun) {
				return nil
			}
			f.clear()
			return err
		}
		if ev == nil {
			break
		}
		b := ev.Frame(c.sub.position)
		if c.state == stateStream {
			b = ev.Payload(c.sub.position)
		}
		f.iov = append(f.iov, b)
		f.events = append(f.events, ev)
		f.cursors = append(f.cursors, cursor)
	}
	if len(f.iov) == 0 {
		c.sub.cursor = cursor // past the events of other types
	}
	return nil
}

// deliver writes the gathered frames. Of a frame that the kernel took in part
// the rest is kept by reference; those after it stay in the ring.
func (l *loop) deliver(c *conn) (full bool, err error) {
	f := &l.frames
	n, err := writev(int(c.fd), f.iov)
	defer f.clear()
	if err != nil {
		return false, err
	}
	l.sent += n
	l.countSent(c.group.account, n)
	now, events := l.srv.reg.Clock(), uint64(0)
	for i, b := range f.iov {
		if n == 0 {
			c.out = &pending{}
			break
		}
		events++
		l.countDelivery(f.events[i], c.sub.since, now)
		c.sub.cursor = f.cursors[i]
		if n < len(b) {
			c.out = &pending{tail: b[n:]}
			break
		}
		n -= len(b)
	}
	c.group.account.events.Add(events)
	return c.out != nil, nil
}

// clear lets go of the events, which may leave their ring at any time.
func (f *fanoutScratch) clear() {
	clear(f.iov)
	clear(f.events)
}

// countDelivery counts an event that was written. What was published before the
// subscription, and asked for by its position, was not late.
func (l *loop) countDelivery(e *registry.Event, since, now time.Duration) {
	l.stats.delivered[eventIndex(e.Type())].Add(1)
	if e.Published() >= since {
		l.stats.delay.observe(max(0, now-e.Published()), 1)
	}
}

// writev is write(2) for one frame and writev(2) for several.
func writev(fd int, iov [][]byte) (int, error) {
	if len(iov) == 1 {
		return write(fd, iov[0])
	}
	for {
		n, err := unix.Writev(fd, iov)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return 0, nil
		default:
			return n, err
		}
	}
}

// lost tells a subscriber whose cursor fell out of the ring that it missed
// events, or one that lost access so. A frame under way is finished first, so
// that the close frame is one.
func (l *loop) lost(c *conn, err error) {
	if errors.Is(err, registry.ErrRevoked) {
		l.goodbye(c, CloseRevoked)
		return
	}
	l.stats.lost.Add(1)
	l.goodbye(c, CloseOverrun)
}

// ping sends a ping to a websocket, or gives it up after three unanswered ones.
func (l *loop) ping(c *conn) {
	if c.sub.pings >= maxMissedPings {
		l.close(c, ClosePingTimeout)
		return
	}
	c.sub.pings++
	l.out = append(l.out[:0], l.srv.pingFrame...)
	if l.flush(c) {
		l.arm(c, timerPing)
	}
}

// maxMissedPings is how many pings in a row may stay unanswered (LXD: two
// pending ones, about 30 s).
const maxMissedPings = 3
