package server

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"devlxd/peer"
)

// reserve keeps descriptors back so that a peer can still be identified when
// accept has used up the last one: identification needs a pidfd and, for a
// leaf cgroup, one more.
type reserve [3]int // 0: none, for that number is standard input's

// fill opens the descriptors that are missing. Where all are there it costs
// nothing to ask again.
func (r *reserve) fill() error {
	for i := range r {
		if r[i] > 0 {
			continue
		}
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("open", err)
		}
		r[i] = fd
	}
	return nil
}

func (r *reserve) release() {
	for i, fd := range r {
		if fd > 0 {
			_ = unix.Close(fd)
		}
		r[i] = 0
	}
}

// accept takes connections off the backlog and deals them out to the loops in
// turn, as far as a turn goes; the rest waits in the backlog. It is called on the
// loop that owns the listener. It reports whether the backlog may hold more.
func (l *loop) accept() (more bool) {
	s := l.srv
	defer l.deal()
	defer func() {
		if l.backlog = more; more {
			l.setTicking(true) // where that was just its end, nothing else wakes a loop without connections to find out
		}
	}()
	limit := s.maxConnections()
	turn := acceptWork
	if l.backlog {
		turn = standingWork
	}
	for end := l.work + turn; l.work < end; {
		if s.open.Load() >= limit {
			l.pauseAccept(nil)
			return false
		}
		fd, err := acceptNow(l.listener)
		if err != nil {
			if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ECONNABORTED) {
				continue
			}
			if errors.Is(err, unix.EAGAIN) {
				l.srv.faults.Leave(acceptFaults[:]...) // whoever waited is served
			} else {
				l.pauseAccept(err)
			}
			return false
		}
		l.stats.accepted.Add(1)
		if v := s.refusals.refused(fd, l.mark); v != nil {
			l.work++
			l.shed(fd, v)
			continue
		}
		l.work += adoptWork
		s.open.Add(1)
		target := l.nextLoop
		l.nextLoop = (target + 1) % len(s.loops)
		if target == l.id {
			l.adopt(fd)
		} else {
			l.handoff[target] = append(l.handoff[target], fd)
		}
	}
	return true
}

// deal hands the accepted connections of other loops to them.
func (l *loop) deal() {
	for target, fds := range l.handoff {
		if len(fds) == 0 {
			continue
		}
		l.handoff[target] = nil
		owner := l.srv.loops[target]
		owner.post(func() {
			for _, fd := range fds {
				owner.adopt(fd)
			}
		})
	}
}

// pauseAccept leaves the backlog alone until the next tick: descriptors or
// memory have run out (err), or the connection limit is reached (nil). The
// connections wait in the backlog; nobody is refused.
func (l *loop) pauseAccept(err error) {
	l.stats.acceptPauses.Add(1)
	l.srv.cannotAccept(err)
	if !l.acceptPaused {
		if err := l.poller.remove(l.listener); err != nil {
			l.srv.log.Error("cannot pause accepting", "error", err)
			return
		}
	}
	l.acceptPaused = true
	l.setTicking(true)
}

// resumeAccept is called a tick after a pause.
func (l *loop) resumeAccept() {
	if l.listener < 0 {
		l.acceptPaused = false
		return
	}
	if l.srv.open.Load() >= l.srv.maxConnections() {
		return
	}
	if err := l.poller.add(l.listener, pollRead); err != nil {
		l.srv.log.Error("cannot resume accepting", "error", err)
		return
	}
	l.acceptPaused = false
	l.accept() // if nobody waits, the poller does not tell that all is well again
}

// adopt makes the loop the owner of an accepted connection and identifies its
// peer, once and for all.
func (l *loop) adopt(fd int) {
	c := &conn{fd: int32(fd), interest: unwatched}
	l.own(c)
	defer l.recoverConn(c)
	l.setTicking(true)
	pid := l.identify(c)
	if !l.admit(c, pid, l.join(c)) {
		return // not served, or later
	}
	l.watch(c, interestRead)
	l.arm(c, timerHead)
	if l.draining {
		l.drainConn(c)
	}
}

// own puts c into the table of the loop.
func (l *loop) own(c *conn) {
	fd := int(c.fd)
	if fd >= len(l.conns) {
		l.conns = append(l.conns, make([]*conn, fd+1-len(l.conns)+fd/4)...)
	}
	l.conns[fd] = c
	l.open++
}

// identify sets the container of c, or the reason why it has none. It returns the
// pid that the peer had when it connected.
func (l *loop) identify(c *conn) (pid int32) {
	var p peer.Peer
	c.binding, p, c.reject = l.srv.identify(int(c.fd))
	if c.reject == peer.RejectResources {
		l.reserve.release()
		c.binding, p, c.reject = l.srv.identify(int(c.fd))
	}
	if err := l.reserve.fill(); err != nil {
		l.srv.throttled.log("no descriptors in reserve: raise LimitNOFILE", "error", err)
	}
	l.stats.identified[p.Path][c.reject].Add(1)
	if c.reject != peer.RejectNone {
		l.srv.logRefused(c.binding, p, c.reject)
		// Also where its container is known, and it is answered 401: nothing of
		// the container is ever read for it.
		c.binding = nil
	}
	return p.PID
}
