package loadtest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"devlxd/loadtest/report"
)

// identityRate is how many connections arrive in a second by default, of all containers.
const identityRate = 10_000

// runIdentity has containers check who they are taken for, while they come, go and change names. It ends when one of them is taken for
// another.
func runIdentity(r *run) ([]report.Result, error) {
	r.begin("requests", "")
	if r.opt.Rate == 0 {
		r.opt.Rate = identityRate
	}
	n := r.fleet.Set.Len()
	r.result.Rate, r.result.Connections = r.opt.Rate, n
	period := time.Duration(float64(n) / r.opt.Rate * 1e9)
	if period > maxPeriod {
		return nil, usagef("--rate is %g: that is less than one in %v of each container", r.opt.Rate, maxPeriod)
	}
	p, err := newProber(&crowd{run: r, set: r.fleet.Set, names: slices.Clone(r.fleet.names)}, period)
	if err != nil {
		return nil, err
	}
	if err := p.start(r.ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, registrars)
	for w := range registrars {
		wg.Go(func() {
			if errs[w] = p.churn(ctx, w, registrars, 0); errs[w] != nil {
				cancel()
			}
		})
	}
	waited := p.watch(ctx)
	cancel()
	wg.Wait()
	if err := errors.Join(append(errs, waited)...); err != nil {
		return nil, err
	}
	if err := p.halt(); err != nil {
		return nil, err
	}
	r.closeWindow()
	return p.results()
}

// maxPeriod is how seldom a container may ask.
const maxPeriod = 4 * time.Second

// watch waits for the end of the run, or for the first container that is taken for another, or until what changes them has failed.
func (p *prober) watch(ctx context.Context) error {
	p.openWindow()
	if err := p.startServer(); err != nil {
		return err
	}
	end := p.loop.now + int64(p.opt.Duration)
	over := func() bool {
		p.progress(float64(p.loop.now-p.rec.from), float64(p.opt.Duration))
		return p.loop.now >= end || p.set.Total().Wrong > 0 || ctx.Err() != nil
	}
	var tick func()
	tick = func() { p.loop.after(100*time.Millisecond, tick) }
	tick()
	return p.loop.wait("the load", p.opt.Duration+time.Minute, over)
}

// results is what the containers have seen.
func (p *prober) results() ([]report.Result, error) {
	seen := p.set.Total()
	p.judge(seen)
	right := seen.Right + seen.ExitedRight
	p.loop.answers += right
	p.rec.count = right
	if err := p.endServer(p.before.RSS); err != nil {
		return nil, err
	}
	if server := p.run.result.Server; server != nil {
		server.BytesPerConnection = 0 // none stays
	}
	p.values(seen)
	result := p.finish()
	if s := result.Seconds; s > 0 {
		result.Values = append(result.Values, report.Value{Name: "connections", Unit: "/s", Value: float64(seen.Connected) / s})
	}
	return []report.Result{result}, nil
}
