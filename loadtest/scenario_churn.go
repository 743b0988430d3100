package loadtest

import (
	"context"
	"sync"

	"github.com/HdrHistogram/hdrhistogram-go"

	"devlxd/loadtest/report"
)

// churnShare is the share of the containers that stop and start again.
const churnShare = 10 // one in so many

// churner has some containers stop and start again while the others ask. A container that stops must lose its connections, and when it
// runs again it must be answered as itself.
type churner struct {
	*requester
	first   int     // the guests from here on are restarted
	stopped []int64 // when each of them was stopped last
	bound   []int64 // when the server was told of its new life
	closed  *hdrhistogram.Histogram
	back    *hdrhistogram.Histogram
	answer  chan int // a guest that is back
	ending  bool
}

func (h *churner) connected(c *conn) {
	if int(c.guest) < h.first {
		h.requester.connected(c)
		return
	}
	c.want, c.inflight = h.fleet.want(c.guest), 1
	h.loop.send(c, []byte(keyRequest))
}

func (h *churner) answered(c *conn, status int) {
	i := int(c.guest) - h.first
	if i < 0 {
		h.requester.answered(c, status)
		return
	}
	if h.bound[i] != 0 {
		_ = h.back.RecordValue(min(h.loop.now-h.bound[i], maxLatency))
	}
	h.answer <- int(c.guest) // has room for each of them
}

func (h *churner) ended(c *conn, kind failure, detail string) {
	i := int(c.guest) - h.first
	if i >= 0 && kind == failClosed && h.stopped[i] != 0 && c.inflight == 0 {
		_ = h.closed.RecordValue(min(h.loop.now-h.stopped[i], maxLatency))
		return
	}
	h.requester.ended(c, kind, detail)
	if i >= 0 && !h.ending {
		h.answer <- int(c.guest)
	}
}

// restart stops a container, starts it again and tells the server. It runs beside the loop.
func (h *churner) restart(ctx context.Context, guest int) error {
	i := guest - h.first
	// The loop knows before its connection is closed: an end that nobody asked for would have it restarted once more.
	known := make(chan struct{})
	h.loop.post(func() {
		h.stopped[i] = h.loop.now
		close(known)
	})
	<-known
	if err := h.fleet.Set.Stop(guest); err != nil {
		return err
	}
	pid, err := h.fleet.Set.Restart(guest)
	if err != nil {
		return err
	}
	if err := h.target.Bind(ctx, h.fleet.names[guest], pid); err != nil {
		return err
	}
	bound := h.loop.clock.now()
	connected := make(chan error, 1)
	h.loop.post(func() {
		h.bound[i] = bound
		connected <- h.fleet.Set.Connect(guest, 1)
	})
	return <-connected
}

// keepRestarting restarts containers in turn until ctx is done. The one that is restarted next has answered before.
func (h *churner) keepRestarting(ctx context.Context) (restarts int, err error) {
	for {
		select {
		case <-ctx.Done():
			return restarts, nil
		case guest := <-h.answer:
			if err := h.restart(context.WithoutCancel(ctx), guest); err != nil {
				return restarts, err
			}
			restarts++
		}
	}
}

// runChurn reads values while one in ten containers stops and starts again all the time.
func runChurn(r *run) ([]report.Result, error) {
	r.begin("requests", "")
	guests := r.fleet.Set.Len()
	if guests < 2 {
		return nil, usagef("churn needs at least 2 containers")
	}
	churning := max(1, guests/churnShare)
	h := &churner{
		requester: newRequester(r), first: guests - churning, stopped: make([]int64, churning), bound: make([]int64, churning),
		closed: newHistogram(), back: newHistogram(), answer: make(chan int, guests),
	}
	rss, err := r.rss()
	if err != nil {
		return nil, err
	}
	// The last containers have one connection each, whatever is asked for: it has to be closed with them.
	if err := r.connect(max(r.opt.Connections, guests), h, -1); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	var wg sync.WaitGroup
	var restarts int
	var failed error
	stopped := false
	wg.Go(func() {
		n, err := h.keepRestarting(ctx)
		r.loop.post(func() { restarts, failed, stopped = n, err, true })
	})
	if err := r.requests(h.requester, rss); err != nil {
		return nil, err
	}
	cancel()
	if err := r.loop.wait("the last restart", r.opt.drain, func() bool { return stopped }); err != nil {
		return nil, err
	}
	wg.Wait()
	h.ending = true
	if failed != nil {
		return nil, failed
	}
	r.value("containers restarted", "", float64(restarts))
	r.value("stop to its connections closed, p99", "us", float64(h.closed.ValueAtQuantile(99))/1e3)
	r.value("bind to first answer, p99", "us", float64(h.back.ValueAtQuantile(99))/1e3)
	return []report.Result{r.finish()}, nil
}
