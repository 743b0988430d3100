package loadtest

import (
	"strings"

	"devlxd/loadtest/report"
)

// requester keeps requests under way on keep-alive connections. In a closed loop each connection asks again when it was answered; in an
// open loop requests are due at a fixed rate, and wait for a connection that is free while their latency grows.
type requester struct {
	*run
	batch  []byte // what is sent at once
	depth  int32  // requests in it
	conns  []*conn
	active bool

	open    bool
	free    []*conn // without a request, in an open loop
	waiting []int64 // when the requests without a connection were due
	pacer   pacer
}

func newRequester(r *run) *requester {
	q := &requester{run: r, depth: int32(r.opt.Pipeline), open: r.opt.Rate > 0}
	if q.open {
		q.depth = 1
	}
	q.batch = []byte(strings.Repeat(keyRequest, int(q.depth)))
	return q
}

func (q *requester) connected(c *conn) {
	c.want = q.fleet.want(c.guest)
	q.conns = append(q.conns, c)
}

func (q *requester) event(*conn, uint64) {}

func (q *requester) ended(c *conn, kind failure, detail string) { q.rec.fail(kind, detail) }

func (q *requester) answered(c *conn, _ int) {
	q.rec.latency(c.due, q.loop.now)
	switch {
	case c.inflight > 0 || !q.active:
	case !q.open:
		q.ask(c, q.loop.now)
	case len(q.waiting) > 0:
		due := q.waiting[0]
		q.waiting = q.waiting[1:]
		q.ask(c, due)
	default:
		q.free = append(q.free, c)
	}
}

// ask sends a batch that was due at a time.
func (q *requester) ask(c *conn, due int64) {
	c.due, c.inflight = due, q.depth
	q.loop.send(c, q.batch)
}

// start begins to ask on all connections that are left.
func (q *requester) start() {
	q.active = true
	q.loop.clockRead()
	if !q.open {
		for _, c := range q.conns {
			if c.state != stateClosed {
				q.ask(c, q.loop.now)
			}
		}
		return
	}
	q.free = append(q.free[:0], q.conns...)
	q.pacer = pacer{loop: q.loop, interval: 1e9 / q.opt.Rate, arrive: q.arrive}
	q.pacer.start()
}

// arrive is a request of an open loop.
func (q *requester) arrive(due int64) {
	for len(q.free) > 0 {
		c := q.free[0]
		q.free = q.free[1:]
		if c.state != stateClosed {
			q.ask(c, due)
			return
		}
	}
	q.waiting = append(q.waiting, due)
}

// stop waits for the answers that are still to come.
func (q *requester) stop() error {
	q.pacer.stop()
	outstanding := func() (n int) {
		for _, c := range q.conns {
			if c.state != stateClosed {
				n += int(c.inflight)
			}
		}
		return n
	}
	// Those that are waiting are answered before the connections rest.
	err := q.loop.wait("the last answers", q.opt.drain, func() bool {
		q.active = len(q.waiting) > 0
		return outstanding() == 0 && len(q.waiting) == 0
	})
	for range outstanding() + len(q.waiting) {
		q.rec.fail(failUnanswered, "")
	}
	q.active = false
	return ignoreTimeout(err)
}

// pacer calls arrive at a fixed rate, for each arrival with the time at which it was due, however late the loop is.
type pacer struct {
	loop     *loop
	interval float64 // nanoseconds
	arrive   func(due int64)
	began    int64
	count    float64
	timer    *timer
}

func (p *pacer) start() {
	p.began = p.loop.now
	p.step()
}

func (p *pacer) step() {
	due := p.began + int64(p.count*p.interval)
	for ; due <= p.loop.now; due = p.began + int64(p.count*p.interval) {
		p.arrive(due)
		p.count++
	}
	p.timer = p.loop.at(due, p.step)
}

func (p *pacer) stop() {
	if p.timer != nil {
		p.loop.cancel(p.timer)
	}
}

// runRequest reads a configuration value over and over.
func runRequest(r *run) ([]report.Result, error) {
	r.begin("requests", "")
	r.result.Pipeline, r.result.ValueSize, r.result.Rate = r.opt.Pipeline, r.opt.ValueSize, r.opt.Rate
	rss, err := r.rss()
	if err != nil {
		return nil, err
	}
	q := newRequester(r)
	if err := r.connect(r.opt.Connections, q, -1); err != nil {
		return nil, err
	}
	if err := r.requests(q, rss); err != nil {
		return nil, err
	}
	return []report.Result{r.finish()}, nil
}

// requests measures a requester whose connections are there.
func (r *run) requests(q *requester, rss uint64) error {
	q.start()
	if err := r.measure(); err != nil {
		return err
	}
	// The server is looked at before the drain, so that the window is all that it is charged with.
	if err := r.endServer(rss); err != nil {
		return err
	}
	return q.stop()
}
