package loadtest

import (
	"errors"
	"fmt"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// latencies are a histogram of nanoseconds.
type latencies struct{ *hdrhistogram.Histogram }

// at is a percentile in microseconds.
func (l *latencies) at(percentile float64) float64 {
	return float64(l.ValueAtQuantile(percentile)) / 1e3
}

// asker is one quiet container: it asks on a connection that it keeps and on one that it makes for the request, in turn, and does one of
// each at a time. A request that was due while the one before it was under way waits, and counts from when it was due.
type asker struct {
	kept    *conn
	turn    int
	asked   []int64 // on the kept connection, when due; the first is under way
	dialled []int64 // on new ones
}

// quiet are containers that ask now and then, in turn: an open loop. They are the first n of the fleet, and each must be answered.
type quiet struct {
	*run
	askers  []asker
	next    int
	keeping int // connections that are kept and still to come
	pacer   pacer
	all     *latencies
	onKept  *latencies
	onNew   *latencies
	late    *latencies // of the pacer: what the load generator itself is late by
	failed  error
}

func newQuiet(r *run, n int) *quiet {
	return &quiet{
		run: r, askers: make([]asker, n), all: &latencies{r.rec.all},
		onKept: &latencies{newHistogram()}, onNew: &latencies{newHistogram()}, late: &latencies{newHistogram()},
	}
}

// keep makes the connections that are kept. h becomes the handler of the loop: this, or one that passes on to it.
func (q *quiet) keep(h handler) error {
	q.loop.handler = h
	q.keeping = len(q.askers)
	for i := range q.askers {
		if err := q.fleet.Set.Connect(i, 1); err != nil {
			return err
		}
	}
	return q.loop.wait("connecting", setupTime, func() bool { return q.keeping == 0 })
}

func (q *quiet) connected(c *conn) {
	c.want = q.fleet.want(c.guest)
	a := &q.askers[c.guest]
	if q.keeping > 0 {
		q.keeping--
		a.kept = c
		return
	}
	c.inflight = 1
	q.loop.send(c, []byte(keyRequest))
}

func (q *quiet) answered(c *conn, _ int) {
	a := &q.askers[c.guest]
	if c == a.kept {
		q.record(q.onKept, a.asked[0])
		q.nextAsked(a)
		return
	}
	q.record(q.onNew, a.dialled[0])
	q.loop.close(c)
	q.nextDialled(int(c.guest))
}

func (q *quiet) record(h *latencies, due int64) {
	q.rec.latency(due, q.loop.now)
	if q.rec.inside(due) {
		_ = h.RecordValue(min(q.loop.now-due, maxLatency))
	}
}

func (q *quiet) event(*conn, uint64) {}

func (q *quiet) ended(c *conn, kind failure, detail string) {
	q.rec.fail(kind, "quiet container: "+detail)
	a := &q.askers[c.guest]
	if q.keeping > 0 {
		q.keeping--
	}
	if c == a.kept {
		a.kept = nil // from here on it makes a connection for each request
		a.asked = nil
		return
	}
	if len(a.dialled) > 0 {
		q.nextDialled(int(c.guest))
	}
}

// nextAsked asks what waits for the kept connection.
func (q *quiet) nextAsked(a *asker) {
	if a.asked = a.asked[1:]; len(a.asked) > 0 {
		q.ask(a)
	}
}

func (q *quiet) ask(a *asker) {
	a.kept.inflight = 1
	q.loop.send(a.kept, []byte(keyRequest))
}

// nextDialled makes the connection that waits for the one before.
func (q *quiet) nextDialled(guest int) {
	a := &q.askers[guest]
	if a.dialled = a.dialled[1:]; len(a.dialled) > 0 {
		q.dial(guest)
	}
}

func (q *quiet) dial(guest int) {
	if err := q.fleet.Set.Connect(guest, 1); err != nil {
		q.failed = errors.Join(q.failed, fmt.Errorf("%w: %w", errQuiet, err))
	}
}

// start has the containers ask at a rate of all together.
func (q *quiet) start(rate float64) {
	q.loop.clockRead()
	q.pacer = pacer{loop: q.loop, interval: 1e9 / rate, arrive: q.arrive}
	q.pacer.start()
}

func (q *quiet) arrive(due int64) {
	if q.rec.inside(due) {
		_ = q.late.RecordValue(min(max(q.loop.clock.now()-due, 1), maxLatency))
	}
	guest := q.next
	q.next = (q.next + 1) % len(q.askers)
	a := &q.askers[guest]
	if a.turn++; a.turn%2 == 0 && a.kept != nil {
		if a.asked = append(a.asked, due); len(a.asked) == 1 {
			q.ask(a)
		}
		return
	}
	if a.dialled = append(a.dialled, due); len(a.dialled) == 1 {
		q.dial(guest)
	}
}

// under is how many requests have no answer.
func (q *quiet) under() (n int) {
	for i := range q.askers {
		n += len(q.askers[i].asked) + len(q.askers[i].dialled)
	}
	return n
}

// stop waits for the answers that are still to come.
func (q *quiet) stop() error {
	q.pacer.stop()
	err := q.loop.wait("the last answers", q.opt.drain, func() bool { return q.under() == 0 || q.failed != nil })
	for range q.under() {
		q.rec.fail(failUnanswered, "quiet container")
	}
	return errors.Join(ignoreTimeout(err), q.failed)
}

// values adds the latencies of both ways to ask.
func (q *quiet) values() {
	for _, v := range []struct {
		name string
		h    *latencies
	}{{"on kept connections", q.onKept}, {"on new connections", q.onNew}, {"late by the load generator itself", q.late}} {
		if v.h.TotalCount() == 0 {
			continue // none was answered
		}
		q.value(v.name+", p50", "us", v.h.at(50))
		q.value(v.name+", p99", "us", v.h.at(99))
	}
}
