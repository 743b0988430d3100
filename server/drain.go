package server

import "golang.org/x/sys/unix"

// stopAccepting takes what waits in the backlog and closes the listener: those
// clients were told that they are connected. The clients beyond the connection
// limit, and those for which there are no descriptors, are cut off.
func (l *loop) stopAccepting() {
	if l.listener < 0 {
		return
	}
	for !l.acceptPaused && l.accept() {
	}
	l.closeListener()
}

// closeListener has the loop accept no more. The loop has a listener.
func (l *loop) closeListener() {
	if !l.acceptPaused {
		_ = l.poller.remove(l.listener)
	}
	_ = unix.Close(l.listener)
	l.listener, l.backlog, l.acceptPaused = -1, false, false
}

// drainAll gives every connection its last turn.
func (l *loop) drainAll() {
	l.draining = true
	for _, c := range l.conns {
		if c != nil {
			l.guard(c, func() { l.drainConn(c) })
		}
	}
}

// drainConn ends a connection that waits for nothing. A request that is
// already in the socket is answered first.
func (l *loop) drainConn(c *conn) {
	switch {
	case l.waits(c) != waitNone:
		l.resume(c) // no quota holds any more
	case c.state == stateHead && c.interest == interestRead:
		l.onReadable(c)
	}
	l.endDrained(c)
}

// endDrained ends c if nothing is under way on it. A client that has not sent
// anything since it connected is about to: it has the time that a request head
// has.
func (l *loop) endDrained(c *conn) {
	switch c.state {
	case stateWS, stateStream:
		l.goodbye(c, CloseShutdown)
	case stateHead:
		if c.out == nil && len(c.in) == 0 && c.timer != timerHead {
			l.close(c, CloseShutdown)
		}
	}
}

// rest ends a turn that left c with nothing to write.
func (l *loop) rest(c *conn) {
	if l.draining {
		l.endDrained(c)
	}
	l.deadlineAfter(c)
}

// closeAll closes what is left.
func (l *loop) closeAll() {
	for _, c := range l.conns {
		if c != nil {
			l.close(c, CloseShutdown)
		}
	}
}
