package server

import (
	"errors"

	"golang.org/x/sys/unix"
)

const (
	// outLimit is how many answer bytes of pipelined requests are gathered
	// before they are written.
	outLimit = 32 << 10
	// copyLimit is the size up to which a rendered response is copied next to
	// the head of its answer; a larger one is written from where it is.
	copyLimit = 16 << 10
	// turnBytes is how many answer bytes are written for one connection before
	// the others of its loop have their turn.
	turnBytes = 512 << 10
	// fileSlice is how many bytes of a file go out before the other
	// connections of the loop have their turn.
	fileSlice = 512 << 10
	// readAhead is how far ahead of sendfile(2) the page cache is asked to be,
	// so that a cold file does not block the loop on the disk.
	readAhead = 4 << 20
)

// segment is a part of an answer body: immutable bytes, or a range of the file.
type segment struct {
	bytes  []byte
	file   *imageFile
	offset int64
	length int64
	ahead  int64 // how far the page cache was asked to be; 0: not at all
}

// pending is the output of one connection that the kernel has not taken. It
// references the answer (immutable rendered bytes, a frame of a ring, files)
// and copies at most one batch of it.
type pending struct {
	tail     []byte // to be written first
	segments []segment
	files    []*imageFile // closed at the end
}

// size is how many bytes are pending.
func (p *pending) size() int {
	n := int64(len(p.tail))
	for i := range p.segments {
		n += p.segments[i].length
	}
	return int(n)
}

// release closes the files of an answer; p may be nil.
func (p *pending) release() {
	if p == nil {
		return
	}
	for _, f := range p.files {
		_ = f.Close()
	}
	p.files, p.segments, p.tail = nil, nil, nil
}

// push writes the gathered answers as far as the socket takes them; the rest
// becomes pending. It returns false when c was closed.
func (l *loop) push(c *conn) bool {
	defer func() { l.out = l.out[:0] }()
	l.settleAnswers(c)
	if len(l.out) == 0 {
		return true
	}
	if c.out != nil {
		rest := append([]byte(nil), l.out...)
		c.out.segments = append(c.out.segments, segment{bytes: rest, length: int64(len(rest))})
		return true
	}
	n, err := write(int(c.fd), l.out)
	l.sent += n
	l.countSent(c.group.account, n)
	if err != nil {
		l.close(c, CloseSocketError)
		return false
	}
	if n < len(l.out) {
		c.out = &pending{tail: append([]byte(nil), l.out[n:]...)}
	}
	return true
}

// flush writes the gathered answers at the end of a turn. It returns false when
// c must not be worked on further: it was closed, or its socket is full.
func (l *loop) flush(c *conn) bool { return l.push(c) && l.settle(c) }

// yieldTurn ends the turn of c: it goes on when the poller reports its socket
// writable, after the other connections.
func (l *loop) yieldTurn(c *conn) {
	if l.push(c) && c.out == nil {
		c.out = &pending{}
	}
}

// settle brings poller interest and deadline in line with what is pending.
// It returns false when c was closed or waits for its socket.
func (l *loop) settle(c *conn) bool {
	l.recharge(c)
	switch {
	case c.out != nil:
		l.watch(c, interestWrite)
		l.arm(c, timerWrite)
		return false
	case c.ending && c.state == stateClosing && !c.eof:
		// The closing handshake: the client has a moment to answer.
		c.ending = false
		l.watch(c, interestRead)
		l.arm(c, timerClose)
		return true
	case c.ending:
		l.close(c, c.closing)
		return false
	case l.waits(c) != waitNone:
		l.hold(c)
		return false
	}
	l.watch(c, interestRead)
	return true
}

// write writes b and returns how much the kernel took; a full socket is not
// an error.
func write(fd int, b []byte) (int, error) {
	done := 0
	for done < len(b) {
		n, err := writeNow(fd, b[done:])
		if err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if errors.Is(err, unix.EAGAIN) {
				return done, nil
			}
			return done, err
		}
		done += n
	}
	return done, nil
}

// onWritable goes on with pending output where it stood.
func (l *loop) onWritable(c *conn) {
	if c.out == nil {
		l.settle(c)
		return
	}
	n, done, err := l.advance(c.out, int(c.fd))
	l.countSent(c.group.account, int(n))
	if err != nil {
		l.close(c, CloseSocketError)
		return
	}
	if !done {
		// Level-triggered EPOLLOUT brings the loop back, after the others.
		l.arm(c, timerWrite)
		return
	}
	c.out.release()
	c.out = nil
	l.recharge(c)
	if c.ending && !l.settle(c) {
		return
	}
	switch {
	case l.waits(c) != waitNone:
		l.settle(c)
	case len(c.in) > 0:
		// Requests or frames that came before the socket was full.
		l.feed(c, c.in)
	case c.subscribed():
		l.pump(c)
	case l.settle(c):
		l.rest(c)
	}
}

// advance writes as much of p as one turn and the socket allow, sent bytes.
func (l *loop) advance(p *pending, fd int) (sent int64, done bool, err error) {
	if len(p.tail) > 0 {
		n, err := write(fd, p.tail)
		sent += int64(n)
		if err != nil {
			return sent, false, err
		}
		if p.tail = p.tail[n:]; len(p.tail) > 0 {
			return sent, false, nil
		}
		p.tail = nil
	}
	budget := int64(fileSlice)
	for len(p.segments) > 0 {
		s := &p.segments[0]
		var n int64
		if s.file == nil {
			m, err := write(fd, s.bytes)
			n = int64(m)
			sent += n
			if err != nil {
				return sent, false, err
			}
			s.bytes = s.bytes[m:]
			s.length -= n
		} else {
			n, err = sendFile(fd, s, budget)
			if sent += n; err != nil {
				return sent, false, err
			}
		}
		budget -= n
		l.work += int(n / fileUnit)
		if s.length == 0 {
			p.segments = p.segments[1:]
		}
		if n == 0 || budget <= 0 {
			return sent, len(p.segments) == 0, nil
		}
	}
	return sent, true, nil
}

// sendFile sends up to budget bytes of a file segment; 0 means that the socket
// is full.
func sendFile(fd int, s *segment, budget int64) (int64, error) {
	want := min(budget, s.length)
	ffd := int(s.file.Fd())
	if end := s.offset + s.length; s.ahead < end && s.ahead-s.offset <= readAhead/2 {
		s.ahead = max(s.ahead, s.offset)
		length := min(readAhead, end-s.ahead)
		_ = unix.Fadvise(ffd, s.ahead, length, unix.FADV_WILLNEED)
		s.ahead += length
	}
	var sent int64
	for sent < want {
		n, err := unix.Sendfile(fd, ffd, &s.offset, int(want-sent))
		if n > 0 {
			sent += int64(n)
			s.length -= int64(n)
			continue
		}
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return sent, nil
		case err != nil:
			return sent, err
		default:
			return sent, errFileShrunk
		}
	}
	return sent, nil
}
