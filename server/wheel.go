package server

import "time"

const (
	// tick is the resolution of deadlines.
	tick = 100 * time.Millisecond
	// wheelSlots is a power of two; a deadline further away than the wheel
	// turns (51.2 s) is looked at once a turn and put back.
	wheelSlots = 512
)

// wheel holds one deadline per connection in slots of one tick. Setting a
// deadline later than the current one only writes a field; the connection is
// put into its new slot when the old one comes up, so a busy keep-alive
// connection costs the wheel nothing per request. Owned by its loop.
type wheel struct {
	now   uint32
	slots [wheelSlots]*conn
}

// ticksOf rounds d up to whole ticks, and adds one for the part of the current
// tick that has passed: a deadline is never early.
func ticksOf(d time.Duration) uint32 { return uint32((d+tick-1)/tick) + 1 }

// set makes c due after d. The wheel takes c in if it is not there yet or if
// the deadline moved nearer.
func (w *wheel) set(c *conn, d time.Duration) {
	c.deadline = w.now + ticksOf(d)
	if c.inWheel {
		if int32(c.deadline-c.slotAt) >= 0 {
			return
		}
		w.unlink(c)
	}
	w.link(c)
}

// link puts c into the slot of its deadline, or into the furthest slot when
// the deadline is beyond one turn.
func (w *wheel) link(c *conn) {
	at := c.deadline
	if int32(at-w.now) < 1 {
		at = w.now + 1
	} else if at-w.now >= wheelSlots {
		at = w.now + wheelSlots - 1
	}
	c.slotAt, c.inWheel = at, true
	head := &w.slots[at%wheelSlots]
	c.timerPrev, c.timerNext = nil, *head
	if *head != nil {
		(*head).timerPrev = c
	}
	*head = c
}

// unlink takes c out; it is a no-op for a connection that is not in.
func (w *wheel) unlink(c *conn) {
	if !c.inWheel {
		return
	}
	if c.timerPrev != nil {
		c.timerPrev.timerNext = c.timerNext
	} else {
		w.slots[c.slotAt%wheelSlots] = c.timerNext
	}
	if c.timerNext != nil {
		c.timerNext.timerPrev = c.timerPrev
	}
	c.timerPrev, c.timerNext, c.inWheel = nil, nil, false
}

// advance moves the wheel n ticks on and calls due for each connection whose
// deadline has come. due may set, unlink or close any connection.
func (w *wheel) advance(n uint32, due func(*conn)) {
	for ; n > 0; n-- {
		w.now++
		head := &w.slots[w.now%wheelSlots]
		for c := *head; c != nil; c = *head {
			w.unlink(c)
			if int32(c.deadline-w.now) > 0 {
				w.link(c)
				continue
			}
			due(c)
		}
	}
}
