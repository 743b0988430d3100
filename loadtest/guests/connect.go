package guests

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxConns is the most connections of one command.
const maxConns = 1 << 20

// Conn is one connection that a guest was asked for.
type Conn struct {
	Guest int        // index
	FD    int        // non-blocking, close-on-exec, the receiver's to close; -1 when there is none
	Start int64      // when connect(2) began, as of [Now]; 0 with ECANCELED
	Err   unix.Errno // of socket(2) or connect(2) in the guest; EMFILE: no descriptor was left here; ECANCELED: the guest ended
}

// receiver is the state of the goroutine that connects.
type receiver struct {
	path string
	busy int // guests whose command is under way
	ends []end
	buf  []byte
	oob  []byte
	iov  unix.Iovec
	msg  unix.Msghdr
}

func (in *receiver) init() {
	in.buf = make([]byte, headSize+batchConns*connSize)
	in.oob = make([]byte, unix.CmsgSpace(4*batchConns))
	in.iov.Base = &in.buf[0]
	in.iov.SetLen(len(in.buf))
	in.msg.Iov, in.msg.Control = &in.iov, &in.oob[0]
	in.msg.SetIovlen(1)
}

// recvmsg is recvmsg(2) into buf and oob, without the allocations of unix.Recvmsg.
func (in *receiver) recvmsg(fd int) (n, oobn int, errno unix.Errno) {
	in.msg.SetControllen(len(in.oob))
	const flags = unix.MSG_DONTWAIT | unix.MSG_CMSG_CLOEXEC
	r, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&in.msg)), flags)
	return int(r), int(in.msg.Controllen), errno
}

// Now returns the time on the clock of [Conn]'s Start: CLOCK_MONOTONIC, in nanoseconds.
func Now() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // fails for an unknown clock or a wrong address only
	return t.Nano()
}

// SetSocket says which socket Connect connects to. The guests' root needs search permission on the path's directories and write
// permission on the socket.
//
// Errors: [ErrPath], and [ErrBusy] while any command is under way.
func (s *Set) SetSocket(path string) error {
	if s.closed.Load() {
		return ErrClosed
	}
	if !filepath.IsAbs(path) || len(path) > maxPath {
		return fmt.Errorf("%q: %w", path, ErrPath)
	}
	if s.in.busy > 0 {
		return ErrBusy
	}
	s.memory.setPath(path)
	s.in.path = path
	return nil
}

// Connect asks guest i for n connections, one after the other, and returns at once: Receive reports them. A guest does one command
// at a time. A connection waits for as long as the socket's backlog is full; those made before it are not held back by that.
//
// Errors: [ErrBusy], [ErrStopped], [ErrNoSocket], [ErrClosed], [ErrEnded].
func (s *Set) Connect(i, n int) error {
	switch {
	case s.closed.Load():
		return ErrClosed
	case n < 1 || n > maxConns:
		return fmt.Errorf("%d: %w", n, errNumber)
	case s.in.path == "":
		return ErrNoSocket
	}
	g := &s.guests[i]
	if g.left > 0 {
		return ErrBusy
	}
	// Under the lock, so that the guest which runs is the one that gets the command: the next one passes over what was there
	// before its start.
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.running {
		select {
		case <-s.lost:
			return ErrEnded
		default:
			return ErrStopped
		}
	}
	g.seq++
	g.left, g.ordered = n, g.life
	s.in.busy++
	return s.memory.command(i, g.seq, n)
}

// FD returns a descriptor that is readable while Receive has something to do, for the caller's epoll, level-triggered. It is
// closed by Close.
func (s *Set) FD() int { return s.epoll }

// Receive calls f for each connection that is there, and returns when there is none; it never waits. It allocates nothing. f may
// call Connect and SetSocket.
//
// Errors: [ErrClosed]; [ErrEnded] when the helper has ended, after all that was under way has been reported.
func (s *Set) Receive(f func(Conn)) error {
	if s.closed.Load() {
		return ErrClosed
	}
	// Before the messages are read: those of guests that have ended by now are there.
	over := false
	select {
	case <-s.lost:
		over = true
	default:
	}
	s.takeEnds()
	for {
		n, oobn, errno := s.in.recvmsg(s.helper.data)
		if errno == unix.EINTR {
			continue
		}
		if errno == unix.EAGAIN || errno == 0 && n == 0 {
			break
		}
		if errno != 0 {
			return fmt.Errorf("recvmsg: %w", errno)
		}
		s.take(s.in.buf[:n], rights(s.in.oob[:oobn]), f)
	}
	for _, e := range s.in.ends {
		s.cancel(e, f)
	}
	if over {
		return ErrEnded
	}
	return nil
}

// takeEnds moves what guestEnded has left to in.ends.
func (s *Set) takeEnds() {
	s.endsMu.Lock()
	defer s.endsMu.Unlock()
	s.in.ends, s.ends = s.ends, s.in.ends[:0]
	if len(s.in.ends) > 0 {
		var count [8]byte
		_, _ = unix.Read(s.wakeup, count[:])
	}
}

// take reports what one message of a guest says. fds has the descriptors of its connections without an error; where they ran out
// (unix(7), MSG_CTRUNC) the last ones are missing.
func (s *Set) take(b, fds []byte, f func(Conn)) {
	if len(b) < headSize {
		return
	}
	index, seq := binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[4:])
	if int(index) >= len(s.guests) {
		return
	}
	g := &s.guests[index]
	for b = b[headSize:]; len(b) >= connSize; b = b[connSize:] {
		c := Conn{
			Guest: int(index), FD: -1,
			Start: int64(binary.NativeEndian.Uint64(b)),
			Err:   unix.Errno(binary.NativeEndian.Uint32(b[8:])),
		}
		switch {
		case c.Err != 0:
		case len(fds) < 4:
			c.Err = unix.EMFILE
		default:
			c.FD, fds = int(int32(binary.NativeEndian.Uint32(fds))), fds[4:]
		}
		// A guest whose helper was killed may have spoken after its command was given up.
		if g.seq != seq || g.left == 0 {
			if c.FD >= 0 {
				unix.Close(c.FD)
			}
			continue
		}
		s.reported(g)
		f(c)
	}
}

// reported counts one connection of the guest's command. It comes before f, which may give the next command.
func (s *Set) reported(g *guest) {
	if g.left--; g.left == 0 {
		s.in.busy--
	}
}

// cancel reports what a guest that has ended will not do any more.
func (s *Set) cancel(e end, f func(Conn)) {
	g := &s.guests[e.index]
	if g.ordered != e.life {
		return
	}
	seq := g.seq
	for g.left > 0 && g.seq == seq {
		s.reported(g)
		f(Conn{Guest: e.index, FD: -1, Err: unix.ECANCELED})
	}
}
