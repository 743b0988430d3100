package server

import (
	"errors"
	"math/bits"

	"golang.org/x/sys/unix"

	"devlxd/httpparse"
	"devlxd/peer"
	"devlxd/registry"
)

// connState is what the next bytes of a connection mean.
type connState uint8

const (
	stateHead    connState = iota // a request head, or nothing yet
	stateBody                     // the body of a request
	stateWS                       // websocket frames of a subscriber
	stateStream                   // a JSON stream: any byte ends it
	stateClosing                  // our last word is said: bytes are discarded until the client closes
	stateClosed                   // the fd is closed; the struct must not be used
)

// conn is one guest connection. It is owned by its loop.
//
// An idle connection is this struct and nothing else: buffers belong to the
// loop, and the pointers below are nil unless a request is incomplete, an
// answer is pending or the connection subscribed to events.
type conn struct {
	fd       int32
	state    connState
	reject   peer.Reject
	interest interest
	closing  CloseReason // why the connection ends once its output is written
	ending   bool        // close when the output is written
	eof      bool        // nothing that the client may still send counts
	inWheel  bool
	timer    timerKind

	deadline uint32 // wheel tick at which something is due
	slotAt   uint32 // wheel tick whose slot holds the connection
	claim    uint32 // number in loop.claims; 0: none

	binding *registry.Binding
	group   *group

	groupPrev, groupNext *conn
	timerPrev, timerNext *conn

	parser httpparse.Parser
	in     []byte      // bytes of an incomplete request
	body   *bodyState  // the request whose body is being read
	out    *pending    // what the kernel has not taken yet
	sub    *subscriber // event subscription
}

// subscribed reports whether events are still to be delivered to c.
func (c *conn) subscribed() bool { return c.sub != nil && c.sub.live }

// interest is what the poller watches a connection for. There is no "both": a
// client that does not take what it asked for is not listened to either, so
// nothing piles up for it.
type interest uint8

const (
	interestRead interest = iota
	interestWrite
	interestNone // while it waits for its container's quota
	unwatched    // the poller does not know it yet
)

// events is what the poller is asked for.
func (i interest) events() uint32 {
	switch i {
	case interestRead:
		return pollRead
	case interestWrite:
		return pollWrite
	}
	return pollNone
}

// maxPatch bounds the body of PATCH /1.0, which is held in memory.
const maxPatch = 16 << 10

// bodyState is a request waiting for its body.
type bodyState struct {
	decoder httpparse.Body
	patch   bool   // PATCH /1.0 waits for data; any other body is skipped
	data    []byte // at most maxPatch bytes
	policy  versionPolicy
}

// onReadable reads once and works through what came. The poller is
// level-triggered: what is left in the socket brings the loop back here after
// the other connections had their turn.
func (l *loop) onReadable(c *conn) {
	if !l.mayRead(c) {
		return
	}
	held := copy(l.buf, c.in)
	n, err := readNow(int(c.fd), l.buf[held:])
	switch {
	case err == nil && n > 0:
	case err == nil:
		l.onEOF(c)
		return
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		l.recharge(c)
		return
	default:
		l.close(c, CloseSocketError)
		return
	}
	l.feed(c, l.buf[:held+n:held+n])
}

// feed processes data, the held and the new bytes of c, and measures the
// requests that were answered.
func (l *loop) feed(c *conn, data []byte) {
	l.answered = 0
	l.turn(c, data)
	if l.answered > 0 {
		now := l.clock()
		l.stats.duration.observe(now-l.mark, l.answered)
		l.mark = now
	}
}

// turn works through data, writes the answers and keeps what is incomplete.
func (l *loop) turn(c *conn, data []byte) {
	l.out, l.sent, l.turnEnd = l.out[:0], 0, l.work+min(turnWork, l.pass)
	used := l.process(c, data)
	if c.state == stateClosed {
		return
	}
	c.keep(data[used:])
	if !l.flush(c) {
		return
	}
	if c.subscribed() {
		l.pump(c)
	}
	if c.state != stateClosed && c.out == nil {
		l.rest(c)
	}
}

// keep holds on to the bytes that are not done with, which may be the end of
// those that are held: then they stay where they are, until they are half as many
// or less. A large buffer is not kept for a few bytes.
func (c *conn) keep(rest []byte) {
	switch {
	case len(rest) == 0:
		c.in = nil
	case bits.Len(uint(len(rest))) == bits.Len(uint(len(c.in))) && len(c.in) >= len(rest) && &c.in[len(c.in)-len(rest)] == &rest[0]:
		c.in = c.in[len(c.in)-len(rest):]
	case cap(c.in) > 2*len(rest)+1024 || len(c.in) > len(rest):
		c.in = append([]byte(nil), rest...)
	default:
		c.in = append(c.in[:0], rest...)
	}
}

// process works through data until it is used up or incomplete, an answer does
// not fit into the socket, or the turn of c is over. It returns how many bytes
// are done with.
func (l *loop) process(c *conn, data []byte) (used int) {
	for used < len(data) && !c.ending && c.out == nil {
		var n int
		l.work++
		switch c.state {
		case stateHead:
			n = l.processHead(c, data[used:])
		case stateBody:
			n = l.processBody(c, data[used:])
		case stateWS:
			n = l.processFrames(c, data[used:])
		case stateClosing:
			n = l.processClosing(c, data[used:])
		case stateStream:
			l.endStream(c)
			return len(data)
		default:
			return len(data)
		}
		if c.state == stateClosed {
			return len(data)
		}
		if n == 0 {
			break
		}
		used += n
		if len(l.out) >= outLimit && !l.push(c) {
			return len(data)
		}
		if used == len(data) || c.out != nil || c.ending {
			continue
		}
		if l.sent >= turnBytes {
			l.yieldTurn(c)
		} else if l.work >= l.turnEnd {
			l.wait(c, waitTurn, true)
			break
		}
	}
	if c.ending {
		return len(data)
	}
	return used
}

// processHead parses one request head and answers it. It returns 0 when more
// bytes are needed.
func (l *loop) processHead(c *conn, data []byte) int {
	req := &l.req
	n, err := c.parser.Head(data, req)
	if err != nil {
		if errors.Is(err, httpparse.ErrPartial) {
			return 0
		}
		l.refuse(c, err)
		return len(data)
	}
	c.parser.Reset()
	c.timer = timerNone
	if l.turnedAway(c) {
		l.answerTurnedAway(c, c.group.binding == nil, policyOf(req))
		return n
	}
	if !l.takeToken(c) {
		return 0
	}
	l.code = 0
	l.handle(c, req)
	if c.claim != 0 && l.waits(c) != waitNone {
		return 0 // handled again in its turn
	}
	if l.srv.debugging() {
		l.logRequest(c, req)
	}
	return n
}

// processBody consumes body bytes, and answers a request that waited for them.
func (l *loop) processBody(c *conn, data []byte) int {
	b := c.body
	used := 0
	for !b.decoder.Done() && used < len(data) {
		chunk, n, err := b.decoder.Next(data[used:])
		if err != nil {
			if errors.Is(err, httpparse.ErrPartial) {
				return used
			}
			l.refuseBody(c, err)
			return len(data)
		}
		if b.patch {
			if len(b.data)+len(chunk) > maxPatch {
				l.refuseBody(c, errPatchTooLarge)
				return len(data)
			}
			b.data = append(b.data, chunk...)
		}
		used += n
	}
	if b.decoder.Done() {
		l.bodyDone(c)
	}
	return used
}

// bodyDone ends the body state and answers the route that wanted the body.
func (l *loop) bodyDone(c *conn) {
	b := c.body
	c.body, c.state = nil, stateHead
	if b.patch {
		l.patchState(c, b)
		if l.srv.debugging() {
			l.logPatch(c)
		}
	}
}

// onEOF handles the client's last byte. It is not read while an answer is
// pending, so a client that shuts down its side after the request still gets
// the whole answer.
func (l *loop) onEOF(c *conn) {
	reason := CloseClient
	switch {
	case c.state == stateClosing:
		reason = c.closing
	case c.state == stateBody || c.in != nil:
		reason = CloseTruncated
	}
	l.close(c, reason)
}

// refuse answers a request that the parser refused and ends the connection:
// after a doubtful message nothing on it can be trusted to be a request.
func (l *loop) refuse(c *conn, err error) {
	status, text := 400, "bad request"
	var perr *httpparse.Error
	if errors.As(err, &perr) {
		status, text = perr.Status, perr.Text
	}
	l.route = routeMalformed
	c.body = nil
	l.end(c, CloseBadRequest)
	l.respondText(c, status, text, versionPolicy{close: true})
	if l.srv.debugging() {
		l.logMalformed(c, err)
	}
}

// refuseBody ends the connection after a faulty body. A request that was
// answered before its body came must not get a second answer: the client would
// take it for that of its next request.
func (l *loop) refuseBody(c *conn, err error) {
	if c.body.patch {
		l.refuse(c, err)
		return
	}
	c.body = nil
	l.end(c, CloseBadRequest)
}

// end makes c close with reason once its output is written.
func (l *loop) end(c *conn, reason CloseReason) {
	if c.ending {
		return
	}
	c.ending, c.closing = true, reason
}

// close ends c at once and forgets it.
func (l *loop) close(c *conn, reason CloseReason) {
	if c.state == stateClosed {
		return
	}
	c.state = stateClosed
	l.settleAnswers(c)
	l.stats.closed[reason].Add(1)
	if l.srv.debugging() {
		l.logClosed(c, reason)
	}
	l.wheel.unlink(c)
	l.unsubscribe(c, reason)
	l.release(c)
	l.leave(c)
	c.out.release()
	c.out, c.in, c.body, c.sub = nil, nil, nil, nil
	l.conns[c.fd] = nil
	l.open--
	l.srv.open.Add(-1)
	// Closing the fd takes it out of the epoll set: the loop holds the only
	// reference to this open file description.
	closeNow(int(c.fd))
}
