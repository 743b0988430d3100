package server

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/peer"
	"devlxd/registry"
)

// limited is a server whose quotas are those, and far away otherwise.
func limited(t testing.TB, loops int, limits map[registry.Limit]int64) *rig {
	o := Options{Loops: loops}
	for l, n := range limits {
		o.Limits[l] = n
	}
	return newRig(t, o)
}

// quotaWaits and quotaRefused are counters of all loops.
func (r *rig) quotaWaits(q registry.Limit) (n uint64) {
	for _, l := range r.srv.loops {
		n += l.stats.quotaWaits[q].Load()
	}
	return n
}

func (r *rig) quotaRefused(q registry.Limit) (n uint64) {
	for _, l := range r.srv.loops {
		n += l.stats.quotaRefused[q].Load()
	}
	return n
}

// synced waits until the loops have done what they had to do.
func (r *rig) synced() {
	for range 2 {
		for _, l := range r.srv.loops {
			l.call(func() {})
		}
	}
}

// ended reports whether the server has closed the connection.
func (c *client) ended() (ended bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		c.t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		ended = n == 0 && err == nil || errors.Is(err, unix.ECONNRESET)
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return ended
}

// wantUnused fails unless nothing is counted for a container: each way in which a connection ends gives back what it took.
func (r *rig) wantUnused(name string) {
	r.t.Helper()
	c, _ := r.reg.Container(name)
	var used registry.Limits
	eventually(r.t, "nothing is counted for "+name, func() bool {
		used = r.srv.Usage(c).InUse
		used[registry.LimitRequests] = 0
		return used == registry.Limits{}
	})
	if a := r.srv.accountOf(c.Binding()); a.turnedAway.Load() != 0 || a.bytes.Load() != 0 || a.connections.Load() != 0 {
		r.t.Errorf("left: %d turned away, %d bytes, %d connections", a.turnedAway.Load(), a.bytes.Load(), a.connections.Load())
	}
	for _, l := range r.srv.loops {
		l.call(func() {
			used := 0
			for i := range l.claims.list {
				if l.claims.list[i].c != nil {
					used++
				}
			}
			if used != 0 {
				r.t.Errorf("loop %d: %d claims are left", l.id, used)
			}
		})
	}
}

// manual is a server of one loop that the test makes go around. Its containers are named by who connects.
type manual struct {
	t   *testing.T
	rig *rig
	l   *loop
	as  string
	one bool        // fill sends a single request
	got map[int]int // bytes of answers that goAround has read, by client

	requests, answers []byte // of fill and drain, which are called for each client after each turn
}

func newManual(t *testing.T, o Options) *manual {
	m := &manual{t: t, got: make(map[int]int), requests: []byte(strings.Repeat(getKey("user.a"), 500)), answers: make([]byte, 64<<10)}
	o.Loops, o.HeaderTimeout, o.IdleTimeout = 1, time.Hour, time.Hour
	o.Now = newFakeClock().Now // ticks come when the test says so, however slow the machine is
	m.rig = newIdleRig(t, o)
	m.l = m.rig.srv.loops[0]
	m.rig.srv.opts.identify = func(reg *registry.Registry, _ int) (*registry.Binding, peer.Peer, peer.Reject) {
		c, _ := reg.Container(m.as)
		return c.Binding(), peer.Peer{}, peer.RejectNone
	}
	return m
}

// connect returns the client's end of a new connection of a container.
func (m *manual) connect(name string) int {
	m.t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = unix.Close(fds[1]) })
	m.rig.srv.open.Add(1)
	m.as = name
	m.l.adopt(fds[0])
	return fds[1]
}

// fill sends as many requests as the socket takes, or one.
func (m *manual) fill(fd int) {
	if m.one {
		_, _ = unix.Write(fd, []byte(getKey("user.a")))
		return
	}
	for {
		if _, err := unix.Write(fd, m.requests); err != nil {
			return
		}
	}
}

// drain reads what has come, and returns how many bytes it was.
func (m *manual) drain(fd int) (total int) {
	for {
		n, err := unix.Read(fd, m.answers)
		if err != nil || n == 0 {
			return total
		}
		total += n
	}
}

func (m *manual) answered() (n uint64) {
	for i := range m.l.stats.requests {
		for j := range m.l.stats.requests[i] {
			n += m.l.stats.requests[i][j].Load()
		}
	}
	return n
}

func numbered(prefix string, n int) string { return prefix + strconv.Itoa(n) }
