package server

import "time"

// timerKind is what the one deadline of a connection is about.
type timerKind uint8

const (
	timerNone  timerKind = iota
	timerHead            // the request head must be complete
	timerBody            // the request body must be complete
	timerIdle            // the next request must begin
	timerWrite           // the reader must take something of a pending answer
	timerPing            // a websocket is pinged
	timerClose           // the client must answer our close frame
)

// arm sets the deadline of c.
func (l *loop) arm(c *conn, kind timerKind) {
	o := &l.srv.opts
	var d time.Duration
	switch kind {
	case timerHead:
		d = o.HeaderTimeout
	case timerBody:
		d = o.BodyTimeout
	case timerIdle:
		d = o.IdleTimeout
		c.group.noneIdle = 0
	case timerWrite:
		d = o.WriteTimeout
	case timerPing:
		d = o.PingInterval
	case timerClose:
		d = o.CloseTimeout
	case timerNone:
		c.timer = timerNone
		l.wheel.unlink(c)
		return
	}
	c.timer = kind
	l.wheel.set(c, d)
}

// deadlineAfter gives c the deadline of what it waits for now. A deadline that
// runs already for the same head or body goes on: dripping bytes gains no time.
func (l *loop) deadlineAfter(c *conn) {
	if c.out != nil || l.waits(c) != waitNone {
		return // timerWrite runs, or none while it waits for us
	}
	want := timerNone
	switch c.state {
	case stateHead:
		if want = timerIdle; len(c.in) > 0 {
			want = timerHead
		} else if c.timer == timerHead {
			return // silent since accept
		}
	case stateBody:
		want = timerBody
	case stateWS:
		want = timerPing
	case stateClosing:
		want = timerClose
	case stateClosed:
		return
	}
	if want != c.timer {
		l.arm(c, want)
	}
}

// due is called by the wheel when the deadline of c has come.
func (l *loop) due(c *conn) {
	switch c.timer {
	case timerHead:
		l.close(c, CloseHeaderTimeout)
	case timerBody:
		l.close(c, CloseBodyTimeout)
	case timerIdle:
		if l.waits(c) == waitTurn { // its next request has come, and it is we who keep it waiting
			c.timer = timerNone
			return
		}
		l.close(c, CloseIdleTimeout)
	case timerWrite:
		if c.state == stateClosing { // what it does not take is our close frame
			l.close(c, c.closing)
		} else {
			l.close(c, CloseWriteTimeout)
		}
	case timerClose:
		l.close(c, c.closing)
	case timerPing:
		l.ping(c)
	case timerNone:
	}
}
