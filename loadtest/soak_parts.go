package loadtest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"devlxd/loadtest/target"
)

// listener is containers that subscribe to their events and must get every one of them, in order.
type listener struct {
	*soak
	guests    []int
	conns     map[int][]*conn // by guest
	published map[int]uint64  // the newest event of each; owned by the loop
	ready     int
	full      bool // the server keeps as many events of each as it ever does
	delivered uint64
}

const (
	// listening is how many subscriptions each container has.
	listening = 3

	// keptEvents is how many events of a container devlxd keeps at most (registry.DefaultRingEvents). While it has fewer, each event is memory that
	// it needs more, by design.
	keptEvents = 1024

	// firstFillers, of the first round of a stuck reader, are as many as fill the ring of its container (registry.DefaultRingBytes), so that it is told
	// that it lost events.
	firstFillers = 64
)

func newListener(s *soak, guests []int) *listener {
	return &listener{soak: s, guests: guests, conns: make(map[int][]*conn), published: make(map[int]uint64)}
}

var upgraded = want{status: 101}

func (l *listener) connected(c *conn) {
	l.conns[int(c.guest)] = append(l.conns[int(c.guest)], c)
	c.want, c.inflight, c.next, c.stride = &upgraded, 1, 1, 1
	l.loop.send(c, []byte(upgradeRequest))
}

func (l *listener) answered(*conn, int) { l.ready++ }
func (l *listener) event(_ *conn, number uint64) {
	if number > 0 { // no filler
		l.delivered++
	}
}
func (l *listener) ended(_ *conn, kind failure, detail string) {
	l.ready++ // nobody waits for it
	l.rec.fail(kind, "listening container: "+detail)
}

// publish subscribes, and changes the containers' configuration one after another.
func (l *listener) publish(ctx context.Context) error {
	if err := l.on(ctx, func() error {
		for _, i := range l.guests {
			if err := l.fleet.Set.Connect(i, listening); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if err := l.until(ctx, setupTime, "subscriptions", func() bool { return l.ready >= listening*len(l.guests) }); err != nil {
		return err
	}
	if err := l.fill(ctx); err != nil {
		return err
	}
	pause := time.Duration(1e9 / l.opt.EventRate)
	for n := 0; rest(ctx, pause); n++ {
		i := l.guests[n%len(l.guests)]
		var number uint64
		if err := l.on(ctx, func() error {
			l.published[i]++
			number = l.published[i]
			return nil
		}); err != nil {
			return err
		}
		// One that has begun is done to its end: it was counted.
		if err := l.target.Set(context.WithoutCancel(ctx), l.fleet.names[i], eventKey, strconv.FormatUint(number, 10)); err != nil {
			return err
		}
	}
	return nil
}

// fill has the server keep as many events of each container as it ever does, where many keys can be changed at once.
func (l *listener) fill(ctx context.Context) error {
	const keys = keptEvents / 4
	set, unset := make(map[string]string, keys), make([]string, keys)
	for n := range keys {
		unset[n] = fmt.Sprintf("%s.%d", fillerKey, n)
		set[unset[n]] = strconv.Itoa(n)
	}
	changer, ok := l.target.(target.Changer)
	for _, i := range l.guests {
		for range keptEvents / (2 * keys) {
			if !ok {
				break
			}
			if err := errors.Join(changer.Change(ctx, l.fleet.names[i], set, nil), changer.Change(ctx, l.fleet.names[i], nil, unset)); err != nil {
				return err
			}
		}
	}
	return l.on(ctx, func() error { l.full = true; return nil })
}

// until waits in a script until something is the case in the loop.
func (s *soak) until(ctx context.Context, limit time.Duration, what string, done func() bool) error {
	for deadline := time.Now().Add(limit); ; {
		var is bool
		if err := s.on(ctx, func() error { is = done(); return nil }); err != nil {
			return err
		}
		switch {
		case is:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%w: %s took longer than %v", ErrTimeout, what, limit)
		case !rest(ctx, 5*time.Millisecond):
			return context.Cause(ctx)
		}
	}
}

// settle waits for the last events, and counts those that do not come as lost.
func (l *listener) settle() error {
	missing := func() (n uint64) {
		for i, conns := range l.conns {
			for _, c := range conns {
				n += l.published[i] + 1 - c.next
			}
		}
		return n
	}
	err := l.loop.wait("the last events", l.opt.drain, func() bool { return missing() == 0 })
	l.rec.lost += missing()
	return ignoreTimeout(err)
}

// storm is containers that boot all at once, again and again.
type storm struct {
	*booter
	soak   *soak
	guests []int
	timer  *timer
	over   bool
}

// stormEvery is how long the containers of a storm rest.
const stormEvery = 8 * time.Second

func newStorm(s *soak, guests []int) *storm {
	n := s.fleet.Set.Len()
	b := &booter{run: s.run, at: make([]int, n), steps: make([][]step, n), boots: newHistogram()}
	for _, i := range guests {
		b.steps[i] = s.fleet.boot(i)
	}
	return &storm{booter: b, soak: s, guests: guests}
}

func (t *storm) start() {
	t.soak.counts.storms++
	t.left, t.began = len(t.guests), t.loop.now
	for _, i := range t.guests {
		t.at[i] = 0
		t.booter.connect(i)
	}
	t.next()
}

// next begins the following storm when it is time for it and the last one is over.
func (t *storm) next() {
	t.timer = t.loop.at(t.loop.now+int64(stormEvery), func() {
		switch {
		case t.over:
		case t.left > 0:
			t.next()
		default:
			t.start()
		}
	})
}

func (t *storm) stop() error {
	t.over = true
	t.loop.cancel(t.timer)
	err := t.loop.wait("the last storm", t.opt.drain, func() bool { return t.left == 0 || t.failed != nil })
	for range t.left {
		t.rec.fail(failUnanswered, "booting container")
	}
	if t.failed != nil {
		return t.failed
	}
	return ignoreTimeout(err)
}

// fetcher is a container that downloads an image over and over.
type fetcher struct {
	*soak
	guest   int
	image   want
	request []byte
}

func newFetcher(s *soak, guest int, fingerprint string, content []byte) *fetcher {
	f := &fetcher{soak: s, guest: guest, image: want{status: 200, body: content}}
	f.request = []byte("GET /1.0/images/" + fingerprint + "/export HTTP/1.1\r\nHost: lxd\r\nUser-Agent: Go-http-client/1.1\r\n\r\n")
	s.script("downloads", func(ctx context.Context) error {
		return s.on(ctx, func() error { return s.fleet.Set.Connect(guest, 1) })
	})
	return f
}

func (f *fetcher) connected(c *conn) {
	c.want, c.inflight = &f.image, 1
	f.loop.send(c, f.request)
}

func (f *fetcher) answered(c *conn, _ int) {
	f.counts.images++
	f.loop.after(500*time.Millisecond, func() {
		if c.state != stateClosed && f.scripts.ctx.Err() == nil {
			f.connected(c)
		}
	})
}

func (f *fetcher) event(*conn, uint64) {}
func (f *fetcher) ended(_ *conn, kind failure, detail string) {
	f.rec.fail(kind, "downloading container: "+detail)
}

// stucker is a container whose subscribers stop reading for a while: each must get its events later, in order, or be told that it lost some.
type stucker struct {
	*soak
	guest  int
	conns  []*conn
	ready  int
	fillup uint64
}

func newStucker(s *soak, guest int) *stucker { return &stucker{soak: s, guest: guest} }

func (k *stucker) connected(c *conn) {
	k.conns = append(k.conns, c)
	c.want, c.inflight, c.user = &upgraded, 1, k
	c.next, c.stride = k.fleet.event+1, 1
	k.loop.send(c, []byte(upgradeRequest))
}

func (k *stucker) answered(*conn, int) { k.ready++ }
func (k *stucker) event(*conn, uint64) {}
func (k *stucker) ended(c *conn, kind failure, detail string) {
	if c.inflight == 0 && c.user != nil && (kind == failOverrun || kind == failClosed) {
		k.counts.told++
		return
	}
	k.ready++
	k.rec.fail(kind, "stuck container: "+detail)
}

// play has its subscribers stick, over and over.
func (k *stucker) play(ctx context.Context) error {
	const subscribers, events, stuckTime = 4, 10, 3 * time.Second
	name := k.fleet.names[k.guest]
	for {
		if err := k.on(ctx, func() error {
			k.conns, k.ready = nil, 0
			return k.fleet.Set.Connect(k.guest, subscribers)
		}); err != nil {
			return err
		}
		if err := k.until(ctx, setupTime, "subscriptions", func() bool { return k.ready >= subscribers }); err != nil {
			return err
		}
		if err := k.on(ctx, func() error { k.stickAll(true); return nil }); err != nil {
			return err
		}
		count := fillers
		if k.fillup == 0 {
			count = firstFillers
		}
		for i := range count {
			k.fillup++
			if err := k.target.Set(ctx, name, fillerKey, strings.Repeat(string(alphabet[i%len(alphabet)]), fillerSize)+fmt.Sprint(k.fillup)); err != nil {
				return err
			}
		}
		for range events {
			k.fleet.event++ // the loop reads it only before the next connections are asked for
			if err := k.target.Set(ctx, name, eventKey, strconv.FormatUint(k.fleet.event, 10)); err != nil {
				return err
			}
		}
		if !rest(ctx, stuckTime) {
			return nil
		}
		if err := k.release(ctx); err != nil {
			return err
		}
		if !rest(ctx, stuckTime) {
			return nil
		}
	}
}

func (k *stucker) stickAll(stuck bool) {
	for _, c := range k.conns {
		if c.state != stateClosed {
			if k.loop.stick(c, stuck); stuck {
				k.counts.stuck++
			}
		}
	}
}

// release has them read, and counts what neither comes nor is told of as lost.
func (k *stucker) release(ctx context.Context) error {
	if err := k.on(ctx, func() error { k.stickAll(false); return nil }); err != nil {
		return err
	}
	behind := func() (n uint64) {
		for _, c := range k.conns {
			if c.state != stateClosed {
				n += k.fleet.event + 1 - c.next
			}
		}
		return n
	}
	err := k.until(ctx, k.opt.drain, "the slow readers", func() bool { return behind() == 0 })
	if err != nil && ctx.Err() != nil {
		return err
	}
	return k.on(ctx, func() error {
		k.rec.lost += behind()
		for _, c := range k.conns {
			k.loop.close(c)
		}
		return nil
	})
}
