package server

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/httpparse"
	"devlxd/internal/logging"
	"devlxd/registry"
)

// readBuffer is the loop's read buffer. It holds the largest request head with
// room for as much behind it. It also bounds what is held for a connection
// whose answers are not taken.
const readBuffer = 2 * httpparse.MaxHead

// loop is one event loop: an epoll instance, the connections it owns, their
// deadlines, and the buffers they share. Everything in it is touched by its
// own goroutine only, except where a field says otherwise.
type loop struct {
	srv    *Server
	id     int
	poller *poller
	stats  *loopStats // written by the loop, read by the metrics collector

	conns  []*conn // by file descriptor
	open   int
	groups map[*registry.Binding]*group

	buf      []byte            // bytes read
	out      []byte            // answers gathered in this turn
	sent     int               // bytes written in this turn of a connection
	answered uint64            // requests answered in this turn
	owed     uint64            // of them, those that are yet to be counted in the account, see settleAnswers
	req      httpparse.Request // the request being answered
	route    route             // its route
	code     int               // what it was answered with; 0: nothing yet
	param    []byte            // backs its decoded parameter
	date     httpparse.Date
	now      time.Time // as of the last tick or accept

	wheel   wheel
	timerfd int
	ticking bool
	started time.Time     // wheel tick 0
	made    time.Time     // zero of clock
	mark    time.Duration // of clock, when the work under way began

	// Work that goes on after the other connections had their turn: the poller
	// does not wait while there is any.
	runq    []*group
	served  int           // those at the beginning of runq that had their turn
	blocked []*group      // with connections that wait for more than their turn
	retried time.Duration // of clock, when they were looked at last
	lagging []*group      // with subscribers whose socket was full
	lagAt   uint32        // tick at which they were looked at last

	claims   claims
	work     int      // units of work in this pass: requests, frames and the like
	turnEnd  int      // of work, at which the turn of a connection is over
	quietAt  uint32   // tick of the last event of a container that is not busy
	pass     int      // how much is done for the run queue before the poller is looked at again
	crowded  bool     // so many connections are ready, or wait to be accepted, that those of busy containers come after the others
	turnOf   *conn    // the connection that is first in line
	turnKind waitKind // in which line
	turnLeft int      // requests
	paid     *conn    // the connection whose request has had its token
	refused  conn     // scratch, for one that is not looked at

	listener     int  // -1 unless this loop accepts
	backlog      bool // the last turn of accepting ended before it was known whether the backlog had
	acceptPaused bool
	nextLoop     int
	handoff      [][]int // accepted fds by target loop
	reserve      reserve

	frames fanoutScratch

	ended chan struct{} // closed when run returns; any goroutine may wait for it

	draining bool
	stopping bool
}

// newLoop opens the kernel objects of a loop.
func newLoop(s *Server, id int) (l *loop, err error) {
	l = &loop{
		srv: s, id: id, stats: newLoopStats(), listener: -1, timerfd: -1,
		buf: make([]byte, readBuffer), param: make([]byte, 0, httpparse.MaxTarget), groups: make(map[*registry.Binding]*group),
		now: s.opts.Now(), started: s.opts.Now(), made: s.made, ended: make(chan struct{}), pass: passWork,
	}
	defer func() {
		if err != nil {
			l.free()
		}
	}()
	if l.poller, err = newPoller(); err != nil {
		return nil, fmt.Errorf("cannot open a poller: %w", err)
	}
	if l.timerfd, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	if err = l.poller.add(l.timerfd, pollRead); err != nil {
		return nil, err
	}
	return l, l.reserve.fill()
}

// free closes the kernel objects of a loop that does not run.
func (l *loop) free() {
	if l.poller != nil {
		l.poller.close()
	}
	if l.timerfd >= 0 {
		_ = unix.Close(l.timerfd)
	}
	l.reserve.release()
}

// run polls until the loop is told to stop.
func (l *loop) run() error {
	defer close(l.ended)
	for !l.stopping {
		if err := l.goAround(len(l.runq) == 0); err != nil {
			return err
		}
	}
	return nil
}

// goAround serves what is ready, and then a pass of the run queue; with block it
// waits until something is ready.
//
// What the containers share is served first: the backlog of the listener, which
// is one for all and first come, first served, and the list of what is ready. Those
// of busy containers are taken out of that list while they wait for their turn, so
// that the poller tells of the others however many they are.
func (l *loop) goAround(block bool) error {
	events, err := l.poller.wait(block)
	if err != nil {
		return err
	}
	l.mark = l.clock()
	if len(l.blocked) > 0 && l.mark-l.retried >= retryTime {
		l.retryBlocked()
	}
	l.planPass(len(events))
	if l.backlog || len(events) > passWork {
		l.dispatchQuiet(events)
	}
	if l.backlog {
		l.dispatch(l.listener) // also where the backlog was just empty, and the poller tells nothing of it
	}
	l.dispatchAll(events)
	return nil
}

// planPass decides how much is done for busy containers before the poller, which
// tells of that many connections now, is looked at again.
func (l *loop) planPass(ready int) {
	l.work = 0
	if l.backlog {
		l.crowded, l.pass = true, standingPass
		return
	}
	l.crowded, l.pass = ready > crowd && l.wheel.now-l.quietAt <= quietTicks, max(passWork, ready)
}

// dispatchAll serves the events that are left, and then a pass of the run queue.
func (l *loop) dispatchAll(events []unix.EpollEvent) {
	for i := range events {
		if fd := int(events[i].Fd); fd >= 0 {
			l.dispatch(fd)
		}
	}
	if len(l.runq) > 0 {
		l.runQueue()
	}
}

// dispatch serves one event. It acts on what read(2) and write(2) return, not
// on the event's flags: a flag may belong to a connection that was closed
// earlier in the same batch and whose number is in use again.
func (l *loop) dispatch(fd int) {
	switch fd {
	case l.listener:
		l.guard(nil, func() { l.accept() })
		l.mark = l.clock()
		return
	case l.timerfd:
		l.guard(nil, l.onTick)
		l.mark = l.clock()
		return
	case l.poller.wakefd:
		for _, f := range l.poller.take() {
			l.guard(nil, f)
		}
		l.mark = l.clock()
		return
	}
	if fd >= len(l.conns) || l.conns[fd] == nil {
		return
	}
	c := l.conns[fd]
	defer l.recoverConn(c)
	switch {
	case c.interest == interestWrite:
		l.writable(c)
	case c.claim != 0 && l.waits(c) != waitNone:
		l.ignore(c)
	case !l.busy(c.group):
		l.quietAt = l.wheel.now
		l.onReadable(c)
	case l.crowded:
		l.wait(c, waitTurn, false)
		l.watch(c, interestNone)
	default:
		l.onReadable(c)
	}
}

// recoverConn keeps a failing handler from ending the loop and every other
// guest with it.
func (l *loop) recoverConn(c *conn) {
	if r := recover(); r != nil {
		l.srv.opts.Lines.Log(l.srv.quotaOfLines(c.binding), slog.LevelError, "handler failed; the connection is closed", "loop", l.id, "panic", logging.Guest(fmt.Sprint(r)), "stack", string(debug.Stack()))
		l.close(c, CloseInternal)
	}
}

// guard runs f for c (nil: for no connection) and recovers.
func (l *loop) guard(c *conn, f func()) {
	defer func() {
		if r := recover(); r != nil {
			l.srv.log.Error("loop task failed", "loop", l.id, "panic", logging.Guest(fmt.Sprint(r)), "stack", string(debug.Stack()))
			if c != nil {
				l.close(c, CloseInternal)
			}
		}
	}()
	f()
}

// post runs f on the loop's goroutine; after the loop's end it does nothing. It
// may be called from any goroutine. A task that f posts to its own loop runs
// after a poll.
func (l *loop) post(f func()) { l.poller.post(f) }

// call is post that waits until f has run. It reports false when the loop ended
// before.
func (l *loop) call(f func()) bool {
	ran := make(chan struct{})
	l.post(func() {
		defer close(ran)
		f()
	})
	select {
	case <-ran:
		return true
	case <-l.ended:
		return false
	}
}

// later puts g into the run queue: it goes on after a poll.
func (l *loop) later(g *group) {
	if g.queued {
		return
	}
	g.queued = true
	l.runq = append(l.runq, g)
}

// runQueue gives queued groups a turn each, until as much is done as goes
// between two looks at the poller.
func (l *loop) runQueue() {
	l.work = 0
	for end := len(l.runq); l.served < end && l.work < l.pass; {
		g := l.runq[l.served]
		l.runq[l.served] = nil
		l.served++
		g.queued = false
		l.work++
		l.guard(nil, func() { l.drain(g) })
		if g.hasWaiting() {
			l.guard(nil, func() { l.serveWaiting(g) })
		}
	}
	if 2*l.served >= len(l.runq) {
		n := copy(l.runq, l.runq[l.served:])
		clear(l.runq[n:])
		l.runq, l.served = l.runq[:n], 0
	}
}

// watch makes the poller watch c for what.
func (l *loop) watch(c *conn, what interest) {
	if c.interest == what || c.state == stateClosed {
		return
	}
	change := l.poller.modify
	if c.interest == unwatched {
		change = l.poller.add
	}
	c.interest = what
	if err := change(int(c.fd), what.events()); err != nil {
		l.srv.throttled.log("cannot watch a connection: raise fs.epoll.max_user_watches or the memory limit", "error", err)
		l.close(c, CloseInternal)
	}
}

// clock is the monotonic time for measurements, which is not the time of the
// deadlines where a test moves that one.
func (l *loop) clock() time.Duration { return time.Since(l.made) }

// onTick moves the deadlines on and resumes accepting after a pause.
func (l *loop) onTick() {
	l.observeLag()
	l.now = l.srv.opts.Now()
	passed := uint32(l.now.Sub(l.started) / tick)
	if n := int32(passed - l.wheel.now); n > 0 {
		l.wheel.advance(uint32(n), func(c *conn) { l.guard(c, func() { l.due(c) }) })
	}
	l.retryBlocked()
	l.measureLag()
	if l.acceptPaused {
		l.resumeAccept()
	}
	if l.open == 0 && !l.acceptPaused && !l.backlog {
		l.setTicking(false)
	}
}

// observeLag measures how long ago the tick was due: the time for which the loop
// had no turn for it.
func (l *loop) observeLag() {
	var expirations [8]byte
	if n, err := unix.Read(l.timerfd, expirations[:]); n != len(expirations) || err != nil {
		return
	}
	var next unix.ItimerSpec
	if err := unix.TimerfdGettime(l.timerfd, &next); err != nil {
		return
	}
	missed := time.Duration(binary.NativeEndian.Uint64(expirations[:])-1) * tick
	l.stats.lag.observe(missed+tick-time.Duration(next.Value.Nano()), 1)
}

// setTicking starts or stops the tick; an idle server sleeps.
func (l *loop) setTicking(on bool) {
	if l.ticking == on {
		return
	}
	l.ticking = on
	var spec unix.ItimerSpec
	if on {
		// The wheel stood still: no connection waited meanwhile.
		l.now = l.srv.opts.Now()
		l.wheel.now = uint32(l.now.Sub(l.started) / tick)
		spec.Value = unix.NsecToTimespec(tick.Nanoseconds())
		spec.Interval = spec.Value
	}
	if err := unix.TimerfdSettime(l.timerfd, 0, &spec, nil); err != nil {
		l.srv.log.Error("cannot set the loop's timer", "error", os.NewSyscallError("timerfd_settime", err))
	}
}
