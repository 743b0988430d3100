package server

import (
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
	for m.answered() < uint64(containers*2*busyWork) {
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
	for _, fd := range fds {
		if n := m.drain(fd); n > 0 {
			m.got[fd] += n
			m.fill(fd)
		}
	}
}

// TestQuietBesideFlood: while many containers flood, with one connection or with many, a request of a quiet one waits for a few requests of
// theirs, not for one of each of their connections, nor for what they have sent.
func TestQuietBesideFlood(t *testing.T) {
	for _, connections := range []int{1, 20} {
		m := newManual(t, Options{})
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
			before, rounds := m.answered(), 0
			for m.drain(quiet) == 0 {
				m.goAround(floods)
				if rounds++; rounds > 1000 {
					t.Fatal("the quiet one is not answered")
				}
			}
			// A pass of the run queue for each look at the poller, which tells of 256 connections.
			most := uint64((1 + len(floods)/pollBatch) * (passWork + turnWork + 1))
			if n := m.answered() - before - 1; n > most {
				t.Errorf("%d connections of each: %d of their requests were answered first; want at most %d", connections, n, most)
			}
		}
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
	for range 300 {
		m.goAround(fds)
	}
	clear(m.got)
	for range 2000 {
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
