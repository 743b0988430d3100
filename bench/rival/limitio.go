package rival

import (
	"bytes"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// turnBytes is how much of a file is sent before other connections have their turn.
const turnBytes = 1 << 20

// readable reads once and answers what is there.
func (s *limit) readable(fd int) {
	buf := s.buf
	kept := 0
	if w := s.conns[fd].work; w != nil {
		kept = copy(buf, w.in)
		s.conns[fd].work = nil // input is all that a connection that is read from can have
	}
	n, errno := rawRead(fd, buf[kept:])
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		if kept > 0 {
			s.keep(fd, buf[:kept])
		}
	case n <= 0:
		s.drop(fd)
	case s.conns[fd].group != nil:
		// Pongs and a close frame: the client will leave by itself.
	default:
		s.process(fd, buf[:kept+n])
	}
}

// process answers the requests in b and keeps what is behind the last one.
func (s *limit) process(fd int, b []byte) {
	owed := 0
	for {
		end := bytes.Index(b, headEnd)
		if end < 0 {
			break
		}
		head := b[:end+len(headEnd)]
		b = b[len(head):]
		switch r := routeOf(head); {
		case r == routeEvents && s.upgrade(fd, owed, head):
			return
		case r == routeImage && s.file != nil:
			s.conns[fd].work = &limitWork{owed: owed, head: fileHead(s.file.size), file: s.file.acquire(), in: bytes.Clone(b)}
			s.pump(fd)
			return
		default:
			owed += s.answerLen
		}
	}
	if len(b) > maxHead {
		s.drop(fd)
		return
	}
	if len(b) > 0 {
		s.keep(fd, b)
	}
	if owed > 0 {
		s.answerBytes(fd, owed)
	}
}

// keep stores input for later.
func (s *limit) keep(fd int, b []byte) {
	s.conns[fd].work = &limitWork{in: bytes.Clone(b)}
}

// answerBytes writes whole answers; it is the path of every request.
func (s *limit) answerBytes(fd, owed int) {
	if owed <= len(s.replies) {
		n, errno := rawWrite(fd, s.replies[:owed])
		if n == owed {
			return
		}
		if errno != 0 && errno != unix.EAGAIN && errno != unix.EINTR {
			s.drop(fd)
			return
		}
		owed -= max(n, 0)
	}
	c := &s.conns[fd]
	if c.work == nil {
		c.work = &limitWork{}
	}
	c.work.owed = owed
	s.pump(fd)
}

// pump writes what is owed. When nothing is left, it goes on with the input that waited.
func (s *limit) pump(fd int) {
	c := &s.conns[fd]
	full, err := s.flush(fd, c.work)
	if err != nil {
		s.drop(fd)
		return
	}
	if full != c.writes {
		events := uint32(unix.EPOLLIN)
		if full {
			events = unix.EPOLLOUT
		}
		if s.watch(unix.EPOLL_CTL_MOD, fd, events) != nil {
			s.drop(fd)
			return
		}
		c.writes = full
	}
	if full {
		return
	}
	in := c.work.in
	c.work = nil
	if len(in) > 0 {
		s.process(fd, in)
	}
}

// flush reports whether the socket is full, or the turn is over.
func (s *limit) flush(fd int, w *limitWork) (full bool, err error) {
	for w.owed > 0 {
		// The bytes owed end with an answer, so this is where they begin in the first of replies.
		at := (s.answerLen - w.owed%s.answerLen) % s.answerLen
		n, full, err := write(fd, s.replies[at:min(at+w.owed, len(s.replies))])
		if err != nil || full {
			return full, err
		}
		w.owed -= n
	}
	for len(w.head) > 0 {
		n, full, err := write(fd, w.head)
		if err != nil || full {
			return full, err
		}
		w.head = w.head[n:]
	}
	if w.file == nil {
		return false, nil
	}
	for sent := 0; w.at < w.file.size; {
		if sent >= turnBytes {
			return true, nil
		}
		n, err := unix.Sendfile(fd, int(w.file.Fd()), &w.at, int(min(w.file.size-w.at, turnBytes)))
		switch {
		case err == unix.EAGAIN:
			return true, nil
		case err == unix.EINTR:
		case err != nil:
			return false, err
		case n == 0:
			return false, unix.EIO // the file was cut
		}
		sent += max(n, 0)
	}
	w.file.release()
	w.file = nil
	return false, nil
}

// write is one write(2) with its two ordinary outcomes.
func write(fd int, b []byte) (n int, full bool, err error) {
	n, errno := rawWrite(fd, b)
	switch errno {
	case 0:
		return n, false, nil
	case unix.EINTR:
		return 0, false, nil
	case unix.EAGAIN:
		return 0, true, nil
	}
	return 0, false, errno
}

// upgrade answers a handshake and makes the connection a subscriber; false when the request is none. Events must not overtake the
// answer, so a client that has not read its earlier answers is dropped.
func (s *limit) upgrade(fd, owed int, head []byte) bool {
	answer := switching(head)
	if answer == nil {
		return false
	}
	full, err := s.flush(fd, &limitWork{owed: owed, head: answer})
	if full || err != nil {
		s.drop(fd)
		return true
	}
	c := &s.conns[fd]
	name := s.containers[c.pid]
	g := s.groups[name]
	if g == nil {
		g = &limitGroup{}
		s.groups[name] = g
	}
	c.group, c.member = g, int32(len(g.fds))
	g.fds = append(g.fds, int32(fd))
	return true
}

// publish writes a frame to every subscriber of a group. From the end, since dropping one moves the last into its place.
func (s *limit) publish(g *limitGroup, frame []byte) {
	if g == nil {
		return
	}
	for i := len(g.fds) - 1; i >= 0; i-- {
		if n, _ := rawWrite(int(g.fds[i]), frame); n != len(frame) {
			s.drop(int(g.fds[i]))
		}
	}
}

// rawRead and rawWrite do not tell Go's scheduler: on a socket that does not block they are as short as any other code, and it has
// no other work for this thread. n is -1 when errno is set.
func rawRead(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), errno
}

func rawWrite(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), errno
}

// exported is a file that is open as long as the server or a connection needs it. Owned by the loop.
type exported struct {
	*os.File
	size int64
	uses int
}

func (f *exported) acquire() *exported {
	f.uses++
	return f
}

func (f *exported) release() {
	if f.uses--; f.uses == 0 {
		_ = f.Close()
	}
}
