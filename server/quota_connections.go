package server

import (
	"time"

	"golang.org/x/sys/unix"

	"devlxd/registry"
)

const (
	// maxTurnedAway is how many connections beyond its limit a container may have for the time that a request head takes, so that they are
	// answered after they asked, as clients expect. Those beyond that are answered at once.
	maxTurnedAway = 16
	// evictScan is how many connections of a container are looked at for the one that has been idle longest.
	evictScan = 1024
	// evictBatch is how many connections make room for one at most: several where the limit was lowered.
	evictBatch = 4
	// noneIdleTime is for how long none is looked for when there was none, so that a flood does not have all of them looked at for each connect.
	noneIdleTime = 10 * time.Millisecond
)

// What is answered beyond a limit.
const (
	textConnections = "too many connections: close some, or have the host raise limits.devlxd.connections"
	textSubscribers = "too many event subscriptions: close some, or have the host raise limits.devlxd.subscribers"
)

// admit decides about a new connection of a process, with which its container has n. At the limit of its container an idle one makes room,
// of this loop or else of another one; then c waits for the answer of the other loops, as they have no lock in common: c counts already, but
// is not served. Where none is idle, c is turned away. It reports whether c may be served now.
func (l *loop) admit(c *conn, pid int32, n int64) bool {
	g := c.group
	limit := l.limit(g, registry.LimitConnections)
	switch {
	case n <= limit || l.draining || l.makeRoom(g, limit):
		return l.takeConnect(c)
	case !l.mayConnect(g):
		l.refuseAtOnce(c, pid, limit)
		return false
	case len(l.srv.loops) == 1:
		return l.turnAway(c, pid, limit)
	}
	l.wait(c, waitRoom, false)
	l.askRoom(c, 1)
	return false
}

// makeRoom closes connections of g that are idle. It reports whether it did.
func (l *loop) makeRoom(g *group, limit int64) (made bool) {
	if l.mark < g.noneIdle {
		return false
	}
	for range evictBatch {
		idle := longestIdle(g)
		if idle == nil {
			if !made {
				g.noneIdle = l.mark + noneIdleTime
			}
			return made
		}
		l.close(idle, CloseEvicted)
		made = true
		if g.account.connections.Load() <= limit {
			return true
		}
	}
	return made
}

// longestIdle finds the keep-alive connection of g that has waited longest for its next request, nil if there is none. All have the same
// time until their deadline, so the next one due is it. One whose request waits in the socket is not idle.
func longestIdle(g *group) (idle *conn) {
	n := 0
	for c := g.first; c != nil && n < evictScan; c = c.groupNext {
		n++
		if c.state != stateHead || c.timer != timerIdle || c.ending || c.claim != 0 || c.in != nil || c.out != nil {
			continue
		}
		if idle != nil && int32(c.deadline-idle.deadline) >= 0 {
			continue
		}
		if unread, err := unix.IoctlGetInt(int(c.fd), unix.SIOCINQ); err != nil || unread > 0 {
			continue
		}
		idle = c
	}
	return idle
}

// askRoom asks the loop that is ahead of this one by that many to make room for c, and the one after it if it cannot. It is called on the
// loop of c.
func (l *loop) askRoom(c *conn, ahead int) {
	loops := l.srv.loops
	other := loops[(l.id+ahead)%len(loops)]
	binding := c.group.binding
	other.post(func() {
		made := false
		if g := other.groups[binding]; g != nil {
			made = other.makeRoom(g, other.limit(g, registry.LimitConnections))
		}
		l.post(func() { l.guard(c, func() { l.roomAnswer(c, made, ahead+1) }) })
	})
}

// roomAnswer goes on with c when a loop has answered; c may have been closed
// meanwhile, or been let in by the end of the server.
func (l *loop) roomAnswer(c *conn, made bool, next int) {
	if c.state == stateClosed || l.waits(c) != waitRoom {
		return
	}
	limit := l.limit(c.group, registry.LimitConnections)
	made = made || c.group.account.connections.Load() <= limit || l.makeRoom(c.group, limit)
	if !made && next < len(l.srv.loops) {
		l.askRoom(c, next)
		return
	}
	l.unwait(c)
	if made && l.takeConnect(c) || !made && l.turnAway(c, 0, limit) {
		l.arm(c, timerHead)
		l.watch(c, interestRead)
	}
}

// turnAway makes c one that is answered 500 when it asks, or at once. It reports whether c is still open.
func (l *loop) turnAway(c *conn, pid int32, limit int64) bool {
	a := c.group.account
	if a.turnedAway.Add(1) > maxTurnedAway || !l.connectNow(c.group) {
		a.turnedAway.Add(-1)
		l.refuseAtOnce(c, pid, limit)
		return false
	}
	l.countRefusal(a, registry.LimitConnections)
	a.connections.Add(-1)
	l.claims.of(c).turnedAway = true
	return true
}

// answerTurnedAway says why c is not served. 500 is what cloud-init tries again on.
func (l *loop) answerTurnedAway(c *conn, stranger bool, v versionPolicy) {
	l.route = routeOther
	v.close = true
	l.end(c, CloseQuota)
	text := textConnections
	if stranger {
		text = l.srv.texts.unidentified // and nothing else
	}
	l.respondText(c, 500, text, v)
}
