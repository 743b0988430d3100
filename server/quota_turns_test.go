package server

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// flooded makes containers whose connections have as many requests in their sockets as fit, and goes around until they are known as busy.
func (m *manual) flooded(containers, connections int) (fds []int) {
	m.t.Helper()
	for n := range containers {
		name := numbered("flood", n)
		m.rig.container(name, map[string]string{"user.a": "1"})
		for range connections {
			fd := m.connect(name)
			m.fill(fd)
			fds = append(fds, fd)
		}
	}
	for m.answered() < uint64(containers*4*busyWork) {
		m.goAround(fds)
	}
	return fds
}

// goAround is one turn of the loop, after which the flooding clients have read their answers and asked as much again.
func (m *manual) goAround(fds []int) {
	m.t.Helper()
	if err := m.l.goAround(false); err != nil {
		m.t.Fatal(err)
	}
	m.refill(fds)
}

func (m *manual) refill(fds []int) {
	for _, fd := range fds {
		if n := m.drain(fd); n > 0 {
			m.got[fd] += n
			m.fill(fd)
		}
	}
}

// untilAnswered goes around until the client has its answer, and not further: what the loop does for others in the same turn comes after it.
// It returns how many requests were answered until then, that of the client included.
func (m *manual) untilAnswered(client int, floods []int) uint64 {
	m.t.Helper()
	before := m.answered()
	for range 1000 {
		events, err := m.l.poller.wait(false)
		if err != nil {
			m.t.Fatal(err)
		}
		m.l.planPass(len(events))
		if len(events) > passWork {
			m.l.dispatchQuiet(events)
		}
		if m.drain(client) > 0 {
			n := m.answered() - before
			m.l.dispatchAll(events)
			return n
		}
		m.l.dispatchAll(events)
		if m.drain(client) > 0 {
			return m.answered() - before
		}
		m.refill(floods)
	}
	m.t.Fatal("the quiet one is not answered")
	return 0
}

// TestQuietBesideFlood: while many containers flood, with one connection or with many, a request of a quiet one waits for a few requests of
// theirs, not for one of each of their connections, nor for what they have sent.
func TestQuietBesideFlood(t *testing.T) {
	for _, flood := range []struct {
		connections int
		one         bool
	}{{1, false}, {20, false}, {1, true}, {20, true}} {
		connections := flood.connections
		m := newManual(t, Options{})
		m.one = flood.one
		m.rig.container("quiet", map[string]string{"user.a": "1"})
		quiet := m.connect("quiet")
		floods := m.flooded(50, connections)
		for range 20 {
			for range 3 {
				m.goAround(floods)
			}
			if _, err := unix.Write(quiet, []byte(getKey("user.a"))); err != nil {
				t.Fatal(err)
			}
			first := m.untilAnswered(quiet, floods)
			most := uint64(passWork + turnWork + 1)
			if len(floods) > crowd { // a pass of the run queue, as long as what the poller told of, before its event is seen, and one meanwhile
				most = uint64(min(2*pollBatch, 2*len(floods)+turnWork+1))
			}
			if n := first - 1; n > most {
				t.Errorf("%d connections of each, one request at a time %v: %d of their requests were answered first; want at most %d", connections, flood.one, n, most)
			}
		}
	}
}

// TestBusyContainers: who floods is a busy one over the ticks, and soon is none when it has ended.
func TestBusyContainers(t *testing.T) {
	m := newManual(t, Options{})
	m.flooded(1, 1)
	c, _ := m.rig.reg.Container("flood0")
	g := m.l.groups[c.Binding()]
	for ticks, want := range []bool{true, true, false, false} {
		if got := m.l.busy(g); got != want {
			t.Errorf("%d ticks after its last request: busy %v; want %v", ticks, got, want)
		}
		m.l.wheel.now++
	}
	m.l.wheel.now += 1 << 20
	if m.l.busy(g) {
		t.Error("busy after a long time")
	}
	g.window, g.spent = m.l.wheel.now, busyWork
	if m.l.busy(g) {
		t.Errorf("busy after %d requests", busyWork)
	}
}

// TestFloodsAreServedInTurn: containers that flood get the same, however many connections they have.
func TestFloodsAreServedInTurn(t *testing.T) {
	m := newManual(t, Options{})
	fds := m.flooded(20, 1)
	m.rig.container("wide", map[string]string{"user.a": "1"})
	narrow := fds[7]
	var wide []int
	for range 40 {
		fd := m.connect("wide")
		m.fill(fd)
		wide = append(wide, fd)
	}
	fds = append(fds, wide...)
	for range 100 {
		m.goAround(fds)
	}
	clear(m.got)
	for range 400 {
		m.goAround(fds)
	}
	wideGot := 0
	for _, fd := range wide {
		wideGot += m.got[fd]
	}
	if got := m.got[narrow]; got == 0 || wideGot > 2*got || got > 2*wideGot {
		t.Errorf("40 connections of one container got %d bytes, the one of another %d", wideGot, got)
	}
}

// TestTurnIsBounded: what is pipelined on one connection is answered in turns of bounded work, all of it and in order, although nothing more comes
// from the poller.
func TestTurnIsBounded(t *testing.T) {
	m := newManual(t, Options{})
	m.rig.container("c1", map[string]string{"user.a": "1"})
	fd := m.connect("c1")
	const requests = 10 * turnWork
	request := getKey("user.a")
	for range requests {
		if _, err := unix.Write(fd, []byte(request)); err != nil {
			t.Fatal(err)
		}
	}
	for total := uint64(0); total < requests; {
		before := m.answered()
		if err := m.l.goAround(false); err != nil {
			t.Fatal(err)
		}
		total = m.answered()
		if n := total - before; n > passWork+turnWork {
			t.Fatalf("%d requests in one turn; want at most %d", n, passWork+turnWork)
		}
		if total == before {
			t.Fatalf("stopped after %d of %d requests", total, requests)
		}
	}
	if m.drain(fd) == 0 {
		t.Error("no answers")
	}
}

// TestTurnBytes: a client whose socket is never full does not keep the loop for itself with large answers.
func TestTurnBytes(t *testing.T) {
	m := newManual(t, Options{})
	const value, requests, most = 100 << 10, 32, 1 << 20
	m.rig.container("c1", map[string]string{"user.a": strings.Repeat("a", value)})
	fd := m.connect("c1")
	for _, c := range m.l.conns {
		if c == nil {
			continue
		}
		if err := unix.SetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 4*requests*value); err != nil {
			t.Skipf("SO_SNDBUFFORCE: %v; it needs CAP_NET_ADMIN", err)
		}
	}
	if _, err := unix.Write(fd, []byte(strings.Repeat(getKey("user.a"), requests))); err != nil {
		t.Fatal(err)
	}
	for total := 0; total < requests*value; {
		if err := m.l.goAround(false); err != nil {
			t.Fatal(err)
		}
		n := m.drain(fd)
		if n == 0 || n > most {
			t.Fatalf("%d bytes after %d in one turn; want at most %d", n, total, most)
		}
		total += n
	}
	if n := m.answered(); n != requests {
		t.Errorf("%d answers; want %d", n, requests)
	}
}

// TestBacklogBeforeFloods: while the backlog stands, most of each pass goes to it, however many connections of busy containers are ready; those go
// on, little at a time, and as before when it is empty.
func TestBacklogBeforeFloods(t *testing.T) {
	m := newManual(t, Options{})
	for n := range 2 {
		m.rig.container(numbered("quiet", n), nil)
	}
	floods := m.flooded(50, 8)
	l := m.rig.accepting()
	const connects = 200
	var clients []*client
	for n := range connects {
		clients = append(clients, m.rig.dial(numbered("quiet", n/(connects/2))))
	}
	open, began := l.open, m.answered()
	for passes := 1; l.open < open+connects; passes++ {
		m.as = numbered("quiet", (l.open-open)/(connects/2))
		before, had, stood := m.answered(), l.open, l.backlog
		m.goAround(floods)
		if !stood {
			continue // it was found out in this pass
		}
		if n := m.answered() - before; n > 2*standingPass {
			t.Fatalf("%d requests of floods were answered in a pass; want at most %d", n, 2*standingPass)
		}
		if n := l.open - had; n < standingWork/adoptWork && l.open < open+connects {
			t.Fatalf("%d connections were accepted in a pass; want at least %d", n, standingWork/adoptWork)
		}
		if passes > connects {
			t.Fatalf("%d of %d connections were accepted in %d passes", l.open-open, connects, passes)
		}
	}
	if m.answered() == began {
		t.Error("the floods stood still")
	}
	m.goAround(floods)
	if l.backlog {
		t.Error("the backlog stands when it is empty")
	}
	clear(m.got)
	for range 400 {
		m.goAround(floods)
	}
	for _, fd := range floods {
		if m.got[fd] == 0 {
			t.Fatal("a connection is forgotten after the backlog stood")
		}
	}
	for _, c := range clients {
		_ = c.Close()
	}
}

// TestTurnBesideDeadline: a connection whose next request waits for its turn when its time to be idle is over is answered, and has that time again.
func TestTurnBesideDeadline(t *testing.T) {
	m := newManual(t, Options{})
	m.rig.container("c1", map[string]string{"user.a": "1"})
	fd := m.connect("c1")
	c, _ := m.rig.reg.Container("c1")
	conn := m.l.groups[c.Binding()].first
	ask := func() {
		if _, err := unix.Write(fd, []byte(getKey("user.a"))); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	m.settle()
	if m.drain(fd) == 0 || conn.timer != timerIdle {
		t.Fatalf("deadline %v after an answer; want that of an idle connection", conn.timer)
	}
	ask()
	m.l.wait(conn, waitTurn, false)
	m.l.watch(conn, interestNone)
	m.l.due(conn)
	m.settle()
	if m.drain(fd) == 0 || conn.timer != timerIdle {
		t.Errorf("deadline %v; want an answer, and to be idle again", conn.timer)
	}
	m.l.due(conn)
	if conn.state != stateClosed {
		t.Error("an idle connection is not closed when its time is over")
	}
}
