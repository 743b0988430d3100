package loadtest

import (
	"errors"
	"fmt"

	"github.com/HdrHistogram/hdrhistogram-go"

	"devlxd/loadtest/report"
)

// booter does for each guest what cloud-init does: requests one after another, each on a connection of its own.
type booter struct {
	*run
	steps  [][]step // of each guest
	at     []int    // the step that each guest is at
	left   int      // guests that are not done
	began  int64
	boots  *hdrhistogram.Histogram // from the start of the storm to a guest's last answer
	failed error
}

func (b *booter) connected(c *conn) {
	s := &b.steps[c.guest][b.at[c.guest]]
	c.want, c.inflight = &s.want, 1
	b.loop.send(c, s.request)
}

func (b *booter) answered(c *conn, _ int) {
	b.rec.latency(c.due, b.loop.now)
	b.loop.close(c)
	b.next(int(c.guest))
}

func (b *booter) event(*conn, uint64) {}

func (b *booter) ended(c *conn, kind failure, detail string) {
	b.rec.fail(kind, fmt.Sprintf("step %d: %s", b.at[c.guest], detail))
	b.next(int(c.guest))
}

// next has a guest go on.
func (b *booter) next(guest int) {
	b.at[guest]++
	if b.at[guest] < len(b.steps[guest]) {
		b.connect(guest)
		return
	}
	b.left--
	_ = b.boots.RecordValue(min(b.loop.now-b.began, maxLatency))
}

func (b *booter) connect(guest int) {
	if err := b.fleet.Set.Connect(guest, 1); err != nil {
		b.failed = errors.Join(b.failed, err)
	}
}

// runBootstorm lets all containers boot at the same moment.
func runBootstorm(r *run) ([]report.Result, error) {
	r.begin("requests", "")
	guests := r.fleet.Set.Len()
	r.opt.Connections, r.result.Connections = guests, guests
	b := &booter{run: r, at: make([]int, guests), left: guests, boots: newHistogram()}
	for i := range guests {
		b.steps = append(b.steps, r.fleet.boot(i))
	}
	rss, err := r.rss()
	if err != nil {
		return nil, err
	}
	r.loop.handler = b
	if err := r.startServer(); err != nil {
		return nil, err
	}
	r.openWindow()
	b.began = r.loop.now
	for guest := range guests {
		b.connect(guest)
	}
	if err := r.loop.wait("the storm", setupTime, func() bool {
		r.progress(float64(guests-b.left), float64(guests))
		return b.left == 0 || b.failed != nil
	}); err != nil {
		return nil, err
	}
	r.closeWindow()
	if err := errors.Join(b.failed, r.endServer(rss)); err != nil {
		return nil, err
	}
	if r.result.Server != nil {
		r.result.Server.BytesPerConnection = 0 // none stays
	}
	r.value("container booted, p50", "us", float64(b.boots.ValueAtQuantile(50))/1e3)
	r.value("container booted, p99", "us", float64(b.boots.ValueAtQuantile(99))/1e3)
	r.value("last container booted", "us", float64(b.boots.Max())/1e3)
	return []report.Result{r.finish()}, nil
}

// openWindow begins a measurement that ends when something is done.
func (r *run) openWindow() {
	r.loop.clockRead()
	const day = 24 * 3600 * int64(1e9)
	r.rec.window(r.loop.now, r.loop.now+day)
}

// closeWindow ends it.
func (r *run) closeWindow() {
	r.loop.clockRead()
	r.rec.to = r.loop.now
}
