package loadtest

import (
	"errors"
	"time"

	"devlxd/loadtest/report"
	"devlxd/loadtest/target"
)

// runIdle subscribes with all connections and waits. At the end each must still be there: where the target has events, every container
// gets one.
func runIdle(r *run) ([]report.Result, error) {
	r.begin("subscriptions", "")
	// What registering the containers has left behind would be taken for, or hide, the memory of connections.
	if err := r.restart(); err != nil {
		return nil, err
	}
	if err := r.pause(r.opt.Settle); err != nil {
		return nil, err
	}
	rss, err := r.rss()
	if err != nil {
		return nil, err
	}
	s := newSubscribers(r)
	r.openWindow()
	if err := r.startServer(); err != nil {
		return nil, err
	}
	if err := s.subscribe(r.opt.Connections, -1); err != nil {
		return nil, err
	}
	r.closeWindow()
	subscribed, err := r.usage()
	if err != nil {
		return nil, err
	}
	if err := r.pause(r.opt.Settle + r.opt.Duration); err != nil {
		return nil, err
	}
	if err := r.endServer(rss); err != nil {
		return nil, err
	}
	if subscribed != nil && r.result.Server != nil {
		after, err := r.usage()
		if err != nil {
			return nil, err
		}
		waited := r.opt.Settle + r.opt.Duration
		r.result.Server.CPUPerRequest = float64((subscribed.CPU - r.before.CPU).Nanoseconds()) / 1e3 / float64(max(r.rec.count, 1))
		r.value("CPU while idle, of one core", "%", float64(after.CPU-subscribed.CPU)/float64(waited)*100)
	}
	if r.opt.Hold != nil {
		if err := r.hold(); err != nil {
			return nil, err
		}
	}
	if r.target.Features().Has(target.Events) {
		if err := s.greet(); err != nil {
			return nil, err
		}
	}
	return []report.Result{r.finish()}, nil
}

// hold drives the connections until the caller's Hold returns.
func (r *run) hold() error {
	var held error
	over := false
	go func() {
		err := r.opt.Hold(r.ctx)
		r.loop.post(func() { held, over = err, true })
	}()
	const longest = time.Hour
	return errors.Join(r.loop.wait("the other servers", longest, func() bool { return over }), held)
}

// greet sends an event to every container that has a subscriber.
func (s *subscribers) greet() error {
	guests := min(s.fleet.Set.Len(), s.opt.Connections)
	s.expect(guests, true)
	await := s.publish(registrars, 0, func(i int) string { return s.fleet.names[i] })
	if err := await(); err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return err
	}
	s.value("event after idling, p99", "us", float64(s.last.ValueAtQuantile(99))/1e3)
	return nil
}

// registrars is how many changes are under way at once where their order does not matter.
const registrars = 4

// pause drives the connections for a while.
func (r *run) pause(d time.Duration) error {
	over := false
	r.loop.clockRead()
	began := r.loop.now
	r.loop.after(d, func() { over = true })
	return r.loop.wait("the pause", d+time.Minute, func() bool {
		r.progress(float64(r.loop.now-began), float64(d))
		return over
	})
}
