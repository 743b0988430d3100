package loadtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// connState is what the next bytes of a connection are.
type connState uint8

const (
	stateAnswers connState = iota // HTTP responses
	stateEvents                   // websocket frames
	stateStuck                    // a subscriber that does not read
	stateClosed
)

// want is the answer that is expected to a request.
type want struct {
	status int
	body   []byte                  // compared as it comes in; nil: check
	check  func(body []byte) error // nil: any body
}

// conn is a connection of a guest that the load generator holds. Owned by its loop.
type conn struct {
	fd    int32
	guest int32
	state connState
	write bool // the poller watches for room to write

	due      int64 // when the requests under way were due, or the connect
	inflight int32 // requests without an answer
	want     *want
	left     int64  // bytes of the current body that are still to come
	in       []byte // incomplete head, body to be checked, or frame
	out      []byte // not written yet

	next   uint64 // number of the event that has to come next
	stride uint64 // from each of its events to the following one
	user   any    // of the scenario
}

// handler is what a scenario does with what happens. Its methods are called by the loop's goroutine.
type handler interface {
	// connected: a guest has connected and the connection is in the loop.
	connected(c *conn)
	// answered: a response has come in, as it was wanted. status is that of the response.
	answered(c *conn, status int)
	// event: an event has come in, with the number that was wanted; 0 for one that only fills sockets.
	event(c *conn, number uint64)
	// ended: the server has closed the connection, or it failed. It is closed.
	ended(c *conn, kind failure, detail string)
}

// send writes bytes, or keeps what the socket does not take.
func (l *loop) send(c *conn, b []byte) {
	if len(c.out) > 0 {
		c.out = append(c.out, b...)
		return
	}
	n, err := unix.Write(int(c.fd), b)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		l.fail(c, failClosed, fmt.Sprintf("write: %v", err))
		return
	}
	if n = max(n, 0); n < len(b) {
		c.out = append(c.out, b[n:]...)
		l.watch(c, true)
	}
}

// flush goes on with what could not be written.
func (l *loop) flush(c *conn) {
	rest := c.out
	c.out = nil
	l.watch(c, false)
	l.send(c, rest)
}

// read takes what has come in. Level-triggered: what is left is reported again.
func (l *loop) read(c *conn) {
	held := copy(l.buf, c.in)
	n, err := unix.Read(int(c.fd), l.buf[held:])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return
	case err != nil:
		l.fail(c, failClosed, fmt.Sprintf("read: %v", err))
		return
	case n == 0:
		l.fail(c, failClosed, io.EOF.Error())
		return
	}
	l.clockRead()
	data := l.buf[:held+n]
	used := 0
	for used < len(data) && c.state != stateClosed {
		var m int
		if c.state == stateAnswers {
			m = l.readAnswer(c, data[used:])
		} else {
			m = l.readFrame(c, data[used:])
		}
		if m == 0 {
			break
		}
		used += m
	}
	if c.state == stateClosed {
		return
	}
	if rest := data[used:]; len(rest) == 0 {
		c.in = nil
	} else if len(rest) < len(l.buf)-minRead {
		c.in = append(c.in[:0], rest...)
	} else {
		l.fail(c, failProtocol, "message does not fit into the buffer")
	}
}

// readAnswer takes a part of a response at the start of b and returns how much, 0 when more is needed.
func (l *loop) readAnswer(c *conn, b []byte) int {
	if c.left > 0 {
		return l.readBody(c, b)
	}
	h, n, err := parseHead(b)
	switch {
	case err != nil:
		l.fail(c, failProtocol, err.Error())
		return len(b)
	case n == 0:
		return 0
	case c.inflight == 0:
		l.fail(c, failProtocol, "answer without a request")
		return len(b)
	}
	w := c.want
	if h.status != w.status {
		l.fail(c, failStatus, fmt.Sprintf("%d %.100q", h.status, b[n:min(len(b), n+100)]))
		return len(b)
	}
	if h.status == 101 && !bytes.Contains(b[:n], acceptField) {
		l.fail(c, failProtocol, "the upgrade lacks the right Sec-WebSocket-Accept")
		return len(b)
	}
	if w.body == nil {
		return l.readWhole(c, h, b, n)
	}
	if h.chunked || h.length != int64(len(w.body)) {
		l.fail(c, failContent, fmt.Sprintf("%d bytes instead of %d", h.length, len(w.body)))
		return len(b)
	}
	if c.left = h.length; c.left == 0 {
		l.complete(c, h.status)
	}
	return n
}

// readBody compares a part of a body.
func (l *loop) readBody(c *conn, b []byte) int {
	n := int(min(c.left, int64(len(b))))
	at := int64(len(c.want.body)) - c.left
	if string(b[:n]) != string(c.want.body[at:at+int64(n)]) {
		l.fail(c, failContent, fmt.Sprintf("%.100q", b[:n]))
		return len(b)
	}
	if c.left -= int64(n); c.left == 0 {
		l.complete(c, c.want.status)
	}
	return n
}

// readWhole waits for the whole response and checks its body.
func (l *loop) readWhole(c *conn, h answerHead, b []byte, n int) int {
	body := b[n:]
	switch {
	case h.chunked:
		joined, m, err := chunkedBody(body)
		if err != nil {
			l.fail(c, failProtocol, err.Error())
			return len(b)
		}
		if m == 0 {
			return 0
		}
		body, n = joined, n+m
	case int64(len(body)) < h.length:
		return 0
	default:
		body, n = body[:h.length], n+int(h.length)
	}
	if c.want.check != nil {
		if err := c.want.check(body); err != nil {
			l.fail(c, failContent, err.Error())
			return len(b)
		}
	}
	l.complete(c, h.status)
	return n
}

func (l *loop) complete(c *conn, status int) {
	c.inflight--
	l.answers++
	if status == 101 {
		c.state = stateEvents
	}
	l.handler.answered(c, status)
}

// readFrame takes a websocket frame at the start of b.
func (l *loop) readFrame(c *conn, b []byte) int {
	op, payload, n, err := parseFrame(b)
	if err != nil {
		l.fail(c, failProtocol, err.Error())
		return len(b)
	}
	if n == 0 {
		return 0
	}
	switch op {
	case opText:
		l.events++
		number, ok := eventNumber(payload)
		switch {
		case bytes.Contains(payload, fillerMember):
			l.handler.event(c, 0)
		case !ok:
			l.fail(c, failContent, fmt.Sprintf("%.200q", payload))
		case number != c.next:
			l.rec.lost++
			l.fail(c, failContent, fmt.Sprintf("event %d instead of %d", number, c.next))
		default:
			c.next += c.stride
			l.handler.event(c, number)
		}
	case opPing:
		l.send(c, appendMasked(l.pong[:0], opPong, payload))
	case opPong:
	case opClose:
		code, reason := closeText(payload)
		kind := failClosed
		if code == 1013 {
			kind = failOverrun
		}
		l.fail(c, kind, fmt.Sprintf("close %d %s", code, reason))
	default:
		l.fail(c, failProtocol, fmt.Sprintf("frame of type %d", op))
	}
	return n
}

// fail closes a connection and tells the scenario.
func (l *loop) fail(c *conn, kind failure, detail string) {
	if c.state == stateClosed {
		return
	}
	l.close(c)
	l.handler.ended(c, kind, detail)
}

// close closes a connection. The scenario is not told.
func (l *loop) close(c *conn) {
	if c.state == stateClosed {
		return
	}
	c.state = stateClosed
	l.conns[c.fd] = nil
	l.open--
	c.in, c.out = nil, nil
	_ = unix.Close(int(c.fd))
}
