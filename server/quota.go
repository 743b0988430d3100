package server

import (
	"sync/atomic"
	"time"

	"devlxd/registry"
)

// DefaultLimits are the quotas of a container whose config and whose server say nothing else.
//
// cloud-init needs a few dozen requests on one connection at a time, so each of them is far above what a guest needs that means well. 1,000
// requests a second cost about 0.4 % of a core for each container that floods. A burst of one second's requests is answered without a
// wait. 8 MiB hold the largest configuration once.
func DefaultLimits() registry.Limits {
	return registry.Limits{
		registry.LimitConnections: 256,
		registry.LimitSubscribers: 64,
		registry.LimitRequests:    1000,
		registry.LimitBytes:       8 << 20,
		registry.LimitImages:      4,
	}
}

// filledLimits has the default of each quota that is not set. ErrLimit: one is negative.
func filledLimits(limits registry.Limits) (registry.Limits, error) {
	for i, n := range DefaultLimits() {
		if limits[i] < 0 {
			return limits, registry.ErrLimit
		}
		if limits[i] == 0 {
			limits[i] = n
		}
	}
	return limits, nil
}

// SetLimits replaces Options.Limits, at once and for all containers whose config says nothing else. A container that is beyond a
// lower quota keeps what it has, and gets no more. Safe for concurrent use.
func (s *Server) SetLimits(limits registry.Limits) error {
	filled, err := filledLimits(limits)
	if err != nil {
		return err
	}
	s.limits.Store(&filled)
	return nil
}

// account is what one life of a container uses of its quotas, over all loops, and what it has had; the peers that belong to no container share
// one. Safe for concurrent use. It fills two cache lines, which loops that serve other containers must not touch: what each request counts
// in is in the first, which its token has brought to the loop anyway.
type account struct {
	bucket      bucket
	connects    bucket
	bytes       atomic.Int64 // see held
	connections atomic.Int64
	subscribers atomic.Int64
	images      atomic.Int64 // downloads
	turnedAway  atomic.Int64 // connections that wait for their request to be answered 500; not among connections
	requests    atomic.Uint64

	events atomic.Uint64          // delivered
	sent   atomic.Uint64          // bytes
	excess atomic.Pointer[excess] // nil: it never went beyond its quotas or read too slowly
	look   *look                  // nil: nobody has looked at it; guarded by Server.looks
	words  bucket                 // answers to connections that are refused unseen
	_      [24]byte
}

// bucket is a token bucket as the time at which it is full again, on the clock of the server (the "generic cell rate algorithm" of
// ITU-T I.371). It holds the tokens of one second. Safe for concurrent use.
type bucket struct{ full atomic.Int64 }

const second = int64(1e9)

// retryTime is how long tokens gather, while there is other work, before those that wait for them are looked at again; a loop that sleeps is woken
// by the tick for it. Without it all of a tick's would be answered at once.
const retryTime = 5 * time.Millisecond

// Work is counted in units of a few microseconds: a request, a frame, or the like.
const (
	// turnWork is what is done for one connection before the others have their turn; less in a shorter pass.
	turnWork = 16
	// passWork is what is done at least for the groups of the run queue before the loop looks at the poller again (as much as there
	// were events, so that to look costs little of it), and the number of ready connections above which those of busy containers come
	// after the others.
	passWork = 16
	// crowd is the number of ready connections above which those of busy containers go to the run queue: between two looks at
	// the poller then comes a pass of it, not all of them. The line costs them time, which fewer are not made to pay.
	crowd = passWork
	// quietTicks is for how long after an event of a container that is not busy the busy ones make way: where all are, nobody gains by it.
	quietTicks = 2
	// busyWork is how many recent requests make a container a busy one.
	busyWork = 64
	// fileUnit is how many bytes of an answer that was not taken at once count as a unit.
	fileUnit = 16 << 10
	// acceptWork is how much is accepted in a turn, and adoptWork what it takes to accept and identify one connection; to refuse one unseen
	// is one unit.
	acceptWork = 16
	adoptWork  = 3
	// standingWork is how much is accepted in a turn while the backlog stands, and standingPass what is done for the run queue then, so that
	// most of the time goes to the backlog: whoever connects waits for all that are in it.
	standingWork = 32
	standingPass = 4
	// turnRequests is how many requests of a connection are answered when it is the first of those that wait for tokens.
	turnRequests = 4
	// workBytes is how many bytes of a request body count as a unit.
	workBytes = 1 << 10
)

// busy reports whether the container of g asks more than those that have a question now and then.
func (l *loop) busy(g *group) bool { return g.recent(l.wheel.now) > busyWork }

// recent is how much the container asked of late: what was before this tick counts half, a quarter and so on, so that one that floods stays a busy
// one over the ticks, and soon is none when it ends.
func (g *group) recent(now uint32) uint32 { return min(g.spent, 4*busyWork) >> (now - g.window) }

// ask counts a request that the container has answered or waits for, at tick now.
func (g *group) ask(now uint32) {
	if g.window != now {
		g.spent = g.recent(now)
		g.window = now
	}
	g.spent++
}

// take takes a token; false when there is none. now may be behind that of an earlier call.
func (b *bucket) take(now, rate int64) bool {
	interval := max(second/rate, 1)
	for {
		full := b.full.Load()
		next := max(full, now) + interval
		if next-now > interval*rate {
			return false
		}
		if b.full.CompareAndSwap(full, next) {
			return true
		}
	}
}

// holds reports whether take would succeed now.
func (b *bucket) holds(now, rate int64) bool {
	interval := max(second/rate, 1)
	return max(b.full.Load(), now)+interval-now <= interval*rate
}

// limit is a quota of the container of g, as it is configured now. Peers of no container together have what a container has by default.
func (l *loop) limit(g *group, quota registry.Limit) int64 {
	if g.binding != nil {
		if own := g.binding.Container().Snapshot().Limits(); own != nil && own[quota] != 0 {
			return own[quota]
		}
	}
	return l.srv.limits.Load()[quota]
}

// accountOf is the account of a binding, nil for peers of no container.
func (s *Server) accountOf(b *registry.Binding) *account {
	if b == nil {
		return &s.strangers
	}
	return b.Attachment(func() any { return new(account) }).(*account)
}

// connectShare is how many requests the quota of requests has for each new connection, which costs six times as much CPU time as one, and
// keeps others waiting in the backlog besides.
const connectShare = 16

// minConnects is how many connections a second a container may make with any quota of requests.
const minConnects = 16

// connectRate is how many connections a second the container of g may make.
func (l *loop) connectRate(g *group) int64 {
	rate := l.limit(g, registry.LimitRequests)
	if rate == registry.Unlimited {
		return rate
	}
	return max(rate/connectShare, minConnects)
}

// mayConnect reports whether the container of g has a token for a new connection.
func (l *loop) mayConnect(g *group) bool {
	rate := l.connectRate(g)
	return rate == registry.Unlimited || g.account.connects.holds(int64(l.mark), rate)
}

// connectNow takes a token for a new connection; false when there is none.
func (l *loop) connectNow(g *group) bool {
	rate := l.connectRate(g)
	return rate == registry.Unlimited || l.draining || g.account.connects.take(int64(l.mark), rate)
}

// takeConnect lets c, which is new, be served now, or makes it wait in line behind other new connections of its container.
func (l *loop) takeConnect(c *conn) bool {
	if l.mayGoFirst(c, waitConnect) && l.connectNow(c.group) {
		return true
	}
	l.wait(c, waitConnect, false)
	return false
}

// takeToken lets c have a request answered now, or makes it wait in line behind the other connections of its container.
func (l *loop) takeToken(c *conn) bool {
	g := c.group
	g.ask(l.wheel.now)
	rate := l.limit(g, registry.LimitRequests)
	if rate == registry.Unlimited || l.draining || l.paid == c {
		l.paid = nil
		return true
	}
	if l.mayGoFirst(c, waitRequests) && g.account.bucket.take(int64(l.mark), rate) {
		return true
	}
	l.wait(c, waitRequests, true)
	return false
}

// mayRead lets c be read from, or makes it wait. Event streams are read from in any case, because nothing of that stays.
func (l *loop) mayRead(c *conn) bool {
	return c.state > stateBody || l.draining || l.mayHold(c) && l.mayAsk(c)
}

// mayAsk lets the next request of c be read if there is a token for it. Otherwise it stays in the socket, where it costs the server nothing. The end
// of what the client sends is for nobody to wait for.
func (l *loop) mayAsk(c *conn) bool {
	g := c.group
	if c.state != stateHead || c.in != nil || l.turnedAway(c) {
		return true
	}
	if l.isFirst(c, waitRequests) && l.available(g, waitRequests) || !unreadNow(int(c.fd)) {
		return true
	}
	g.ask(l.wheel.now)
	l.wait(c, waitRequests, false)
	l.hold(c)
	return false
}

// mayHold lets c have more bytes held for it. While its container is at its limit of bytes, one connection at a time is read from, so that
// what is incomplete gets complete.
func (l *loop) mayHold(c *conn) bool {
	g := c.group
	if g.account.bytes.Load() < l.limit(g, registry.LimitBytes) {
		return true
	}
	if g.through == nil {
		g.through = c
	}
	if g.through == c {
		return true
	}
	l.wait(c, waitBytes, false)
	l.hold(c)
	return false
}

// takeSubscriber keeps a place for one more event subscription, false when there are enough.
func (l *loop) takeSubscriber(g *group) bool {
	if g.account.subscribers.Add(1) > l.limit(g, registry.LimitSubscribers) {
		g.account.subscribers.Add(-1)
		l.countRefusal(g.account, registry.LimitSubscribers)
		return false
	}
	return true
}

// takeDownload counts one more image download in. Otherwise c waits in line with its request, which is handled again when it is its turn.
func (l *loop) takeDownload(c *conn) *account {
	a := c.group.account
	if l.mayGoFirst(c, waitImages) {
		if a.images.Add(1) <= l.limit(c.group, registry.LimitImages) || l.draining {
			return a
		}
		a.images.Add(-1)
	}
	l.wait(c, waitImages, true)
	return nil
}

// endDownload gives the place of a download back; a may be nil.
func (a *account) endDownload() {
	if a != nil {
		a.images.Add(-1)
	}
}

// held is how many bytes c makes the server hold: of a request that is incomplete or waits, and of answers that are not taken. Files are
// sent from the page cache and hold none.
func (c *conn) held() int64 {
	n := int64(len(c.in))
	if c.body != nil {
		n += int64(len(c.body.data))
	}
	if c.out != nil {
		n += int64(len(c.out.tail))
		for i := range c.out.segments {
			if c.out.segments[i].file == nil {
				n += c.out.segments[i].length
			}
		}
	}
	return n
}

// recharge brings the bytes that are counted for c in line with what it holds.
func (l *loop) recharge(c *conn) {
	g := c.group
	if g.through == c && (c.out != nil || c.in == nil && c.body == nil) {
		g.through = nil
	}
	if c.claim != 0 || c.in != nil || c.out != nil || c.body != nil {
		l.charge(c, c.held())
	}
	if g.hasWaiting() {
		l.later(g) // for what c may have given back
	}
}

// charge counts n bytes for c.
func (l *loop) charge(c *conn, n int64) {
	if n == 0 && c.claim == 0 {
		return
	}
	k := l.claims.of(c)
	c.group.account.bytes.Add(n - k.charged)
	k.charged = n
	l.claims.settle(c)
}

// Usage is what a container uses of its quotas, and what it may.
type Usage struct {
	Limits registry.Limits // effective; registry.Unlimited: not bounded
	InUse  registry.Limits // of requests: those of the last second that still count
}

// Usage tells what a container uses. Safe for concurrent use; the numbers are read one after the other.
func (s *Server) Usage(c *registry.Container) (u Usage) {
	u.Limits = *s.limits.Load()
	if own := c.Snapshot().Limits(); own != nil {
		for i, n := range own {
			if n != 0 {
				u.Limits[i] = n
			}
		}
	}
	a := existingAccount(c.Binding())
	if a == nil {
		return u
	}
	u.InUse[registry.LimitConnections] = max(a.connections.Load(), 0)
	u.InUse[registry.LimitSubscribers] = max(a.subscribers.Load(), 0)
	u.InUse[registry.LimitBytes] = max(a.bytes.Load(), 0)
	u.InUse[registry.LimitImages] = max(a.images.Load(), 0)
	if rate := u.Limits[registry.LimitRequests]; rate != registry.Unlimited {
		ahead := a.bucket.full.Load() - int64(s.clock())
		u.InUse[registry.LimitRequests] = max(ahead, 0) / max(second/rate, 1)
	}
	return u
}
