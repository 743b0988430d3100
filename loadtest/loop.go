package loadtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/loadtest/guests"
)

const (
	// readBuffer is the loop's buffer; an answer that is checked as a whole, and an event, have to fit into it.
	readBuffer = 1 << 20
	// minRead is how much of it must stay free for more bytes.
	minRead = 16 << 10
	// maxEvents is how many events are taken from the poller at once.
	maxEvents = 512
)

// loop drives all connections of a run with one epoll instance. Everything in it belongs to the goroutine that calls wait, except post.
type loop struct {
	ctx     context.Context
	clock   clock
	set     *guests.Set
	handler handler
	rec     *recorder

	epfd, timerfd, wakefd int
	conns                 []*conn // by descriptor
	open                  int
	buf                   []byte
	pong                  [256]byte
	now                   int64
	events                uint64 // that have come in
	answers               uint64 // that have come in
	accepted              uint64 // connections that guests have made
	timers                []*timer
	armed                 int64 // what timerfd is set to; 0: nothing

	mu     sync.Mutex
	posted []func() // by other goroutines

	detach func() bool // from ctx
}

// timer is something to be done at a time.
type timer struct {
	at int64
	do func()
}

func newLoop(ctx context.Context, clock clock, set *guests.Set) (l *loop, err error) {
	l = &loop{ctx: ctx, clock: clock, set: set, rec: newRecorder(), epfd: -1, timerfd: -1, wakefd: -1, buf: make([]byte, readBuffer)}
	defer func() {
		if err != nil {
			l.free()
		}
	}()
	if l.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if l.timerfd, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	if l.wakefd, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	for _, fd := range [...]int{l.timerfd, l.wakefd, set.FD()} {
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
		if err = unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
			return nil, os.NewSyscallError("epoll_ctl", err)
		}
	}
	// A run that is interrupted must not wait for its next event.
	l.detach = context.AfterFunc(ctx, l.wake)
	l.clockRead()
	return l, nil
}

// free closes all connections and the poller.
func (l *loop) free() {
	if l.detach != nil {
		l.detach()
	}
	l.closeAll()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, fd := range [...]*int{&l.epfd, &l.timerfd, &l.wakefd} {
		if *fd >= 0 {
			_ = unix.Close(*fd)
			*fd = -1
		}
	}
}

func (l *loop) closeAll() {
	for _, c := range l.conns {
		if c != nil {
			l.close(c)
		}
	}
}

func (l *loop) clockRead() { l.now = l.clock.now() }

// post has the loop run f. Safe for concurrent use.
func (l *loop) post(f func()) {
	l.mu.Lock()
	l.posted = append(l.posted, f)
	l.mu.Unlock()
	l.wake()
}

func (l *loop) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wakefd >= 0 {
		one := [8]byte{1}
		_, _ = unix.Write(l.wakefd, one[:])
	}
}

// at has the loop run f at a time.
func (l *loop) at(when int64, f func()) *timer {
	t := &timer{when, f}
	l.timers = append(l.timers, t)
	return t
}

// after has the loop run f in a while.
func (l *loop) after(d time.Duration, f func()) { l.at(l.now+int64(d), f) }

// wait drives the connections until done reports true. It fails when that takes longer than limit, and when the run is interrupted.
func (l *loop) wait(what string, limit time.Duration, done func() bool) error {
	l.clockRead()
	expired := false
	deadline := l.at(l.now+int64(limit), func() { expired = true })
	defer l.cancel(deadline)
	var events [maxEvents]unix.EpollEvent
	for !done() {
		if err := l.ctx.Err(); err != nil {
			return context.Cause(l.ctx)
		}
		if expired {
			return fmt.Errorf("%w: %s took longer than %v", ErrTimeout, what, limit)
		}
		if err := l.arm(); err != nil {
			return err
		}
		n, err := unix.EpollWait(l.epfd, events[:], -1)
		if err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			return os.NewSyscallError("epoll_wait", err)
		}
		l.clockRead()
		for i := range n {
			if err := l.dispatch(&events[i]); err != nil {
				return err
			}
		}
		l.runTimers()
	}
	return nil
}

// cancel takes back a timer that may have run.
func (l *loop) cancel(t *timer) {
	if i := slices.Index(l.timers, t); i >= 0 {
		l.timers = slices.Delete(l.timers, i, i+1)
	}
}

// arm sets the timer for whatever is due first.
func (l *loop) arm() error {
	var first int64
	for _, t := range l.timers {
		if first == 0 || t.at < first {
			first = t.at
		}
	}
	if first == l.armed {
		return nil
	}
	l.armed = first
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(first)}
	return os.NewSyscallError("timerfd_settime", unix.TimerfdSettime(l.timerfd, unix.TFD_TIMER_ABSTIME, &spec, nil))
}

// runTimers runs what is due.
func (l *loop) runTimers() {
	for i := 0; i < len(l.timers); {
		t := l.timers[i]
		if t.at > l.now {
			i++
			continue
		}
		l.timers = slices.Delete(l.timers, i, i+1)
		t.do()
	}
}

func (l *loop) dispatch(event *unix.EpollEvent) error {
	var drain [8]byte
	switch fd := int(event.Fd); fd {
	case l.timerfd:
		_, _ = unix.Read(fd, drain[:])
		l.armed = -1
	case l.wakefd:
		_, _ = unix.Read(fd, drain[:])
		l.runPosted()
	case l.set.FD():
		return l.set.Receive(l.received)
	default:
		c := l.conns[fd]
		if c == nil {
			return nil // closed earlier in this batch
		}
		if event.Events&unix.EPOLLOUT != 0 && len(c.out) > 0 {
			l.flush(c)
		}
		if event.Events&^unix.EPOLLOUT != 0 && c.state != stateClosed {
			l.read(c)
		}
	}
	return nil
}

func (l *loop) runPosted() {
	l.mu.Lock()
	posted := l.posted
	l.posted = nil
	l.mu.Unlock()
	for _, f := range posted {
		f()
	}
}

// received takes a connection that a guest has made.
func (l *loop) received(r guests.Conn) {
	l.clockRead()
	c := &conn{fd: int32(r.FD), guest: int32(r.Guest), due: r.Start}
	if r.FD < 0 {
		c.state = stateClosed
		l.handler.ended(c, failConnect, r.Err.Error())
		return
	}
	l.accepted++
	if r.FD >= len(l.conns) {
		l.conns = append(l.conns, make([]*conn, r.FD+1-len(l.conns)+r.FD/4)...)
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: c.fd}
	if err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, r.FD, &event); err != nil {
		_ = unix.Close(r.FD)
		c.state = stateClosed
		l.handler.ended(c, failConnect, fmt.Sprintf("epoll_ctl: %v", err))
		return
	}
	l.conns[r.FD] = c
	l.open++
	l.handler.connected(c)
}

// watch says whether the poller reports room to write too. A stuck reader is not watched at all.
func (l *loop) watch(c *conn, write bool) {
	if c.write == write {
		return
	}
	c.write = write
	l.modify(c)
}

// stick makes a connection stop reading, or go on.
func (l *loop) stick(c *conn, stuck bool) {
	if c.state = stateEvents; stuck {
		c.state = stateStuck
	}
	l.modify(c)
}

func (l *loop) modify(c *conn) {
	event := unix.EpollEvent{Fd: c.fd}
	if c.state != stateStuck {
		event.Events |= unix.EPOLLIN
	}
	if c.write {
		event.Events |= unix.EPOLLOUT
	}
	if err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_MOD, int(c.fd), &event); err != nil {
		l.fail(c, failClosed, fmt.Sprintf("epoll_ctl: %v", err))
	}
}
