package loadtest

import (
	"errors"

	"devlxd/loadtest/report"
)

// ignoreTimeout makes answers that did not come a matter of the result.
func ignoreTimeout(err error) error {
	if errors.Is(err, ErrTimeout) {
		return nil
	}
	return err
}

// connector connects, asks once, and closes, again and again. A guest makes one connection at a time.
type connector struct {
	*run
	free    []int   // guests that make no connection
	due     []int64 // of the connection of each guest; 0: since the guest called connect(2)
	waiting []int64 // arrivals of an open loop without a guest
	under   int     // way
	active  bool
	request []byte
	pacer   pacer
	failed  error
}

func (k *connector) connected(c *conn) {
	if due := k.due[c.guest]; due != 0 {
		c.due = due
	}
	c.want, c.inflight = k.fleet.want(c.guest), 1
	k.loop.send(c, k.request)
}

func (k *connector) answered(c *conn, _ int) {
	k.rec.latency(c.due, k.loop.now)
	k.loop.close(c)
	k.next(int(c.guest))
}

func (k *connector) event(*conn, uint64) {}

func (k *connector) ended(c *conn, kind failure, detail string) {
	k.rec.fail(kind, detail)
	k.next(int(c.guest))
}

// next is called when the connection of a guest is done with.
func (k *connector) next(guest int) {
	k.under--
	k.free = append(k.free, guest)
	switch {
	case !k.active:
	case k.opt.Rate == 0:
		k.begin(0)
	case len(k.waiting) > 0:
		due := k.waiting[0]
		k.waiting = k.waiting[1:]
		k.begin(due)
	}
}

// begin has the guest that rests longest connect.
func (k *connector) begin(due int64) {
	guest := k.free[0]
	k.free = k.free[1:]
	k.due[guest] = due
	k.under++
	if err := k.fleet.Set.Connect(guest, 1); err != nil {
		k.failed = errors.Join(k.failed, err)
	}
}

func (k *connector) arrive(due int64) {
	if len(k.free) == 0 || k.under >= k.opt.Connections {
		k.waiting = append(k.waiting, due)
		return
	}
	k.begin(due)
}

// runConnect makes a connection for each request.
func runConnect(r *run) ([]report.Result, error) {
	r.begin("requests", "")
	r.result.Rate = r.opt.Rate
	guests := r.fleet.Set.Len()
	r.opt.Connections = min(r.opt.Connections, guests)
	r.result.Connections = r.opt.Connections
	k := &connector{run: r, due: make([]int64, guests), active: true, request: []byte(keyRequest)}
	for i := range guests {
		k.free = append(k.free, i)
	}
	r.loop.handler = k
	rss, err := r.rss()
	if err != nil {
		return nil, err
	}
	r.loop.clockRead()
	if r.opt.Rate > 0 {
		k.pacer = pacer{loop: r.loop, interval: 1e9 / r.opt.Rate, arrive: k.arrive}
		k.pacer.start()
	} else {
		for range r.opt.Connections {
			k.begin(0)
		}
	}
	if err := r.measure(); err != nil {
		return nil, err
	}
	if err := r.endServer(rss); err != nil {
		return nil, err
	}
	k.pacer.stop()
	err = r.loop.wait("the last answers", r.opt.drain, func() bool {
		k.active = len(k.waiting) > 0
		return k.under == 0 && len(k.waiting) == 0
	})
	for range k.under + len(k.waiting) {
		r.rec.fail(failUnanswered, "")
	}
	if err := errors.Join(ignoreTimeout(err), k.failed); err != nil {
		return nil, err
	}
	if r.result.Server != nil {
		r.result.Server.BytesPerConnection = 0 // none stays
	}
	return []report.Result{r.finish()}, nil
}
