package loadtest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"devlxd/loadtest/report"
	"devlxd/loadtest/target"
)

func isUnsupported(err error) bool { return errors.Is(err, target.ErrUnsupported) }

// runFanout delivers events to all subscribers of one container, and then one event to each of all containers.
func runFanout(r *run) ([]report.Result, error) {
	one, err := r.fanoutOne("one container")
	if err != nil {
		return nil, err
	}
	r.loop.closeAll()
	each, err := r.fanoutEach("each container")
	if err != nil {
		return nil, err
	}
	return []report.Result{one, each}, nil
}

func (r *run) fanoutOne(variant string) (report.Result, error) {
	r.begin("deliveries", variant)
	rss, err := r.rss()
	if err != nil {
		return report.Result{}, err
	}
	s := newSubscribers(r)
	if err := s.subscribe(r.opt.Connections, 0); err != nil {
		return report.Result{}, err
	}
	s.expect(r.opt.Events, false)
	if err := s.deliver(rss, 1, r.opt.EventRate, func(int) string { return r.fleet.names[0] }); err != nil {
		return report.Result{}, err
	}
	r.lastValues(s)
	return r.finish(), nil
}

func (r *run) fanoutEach(variant string) (report.Result, error) {
	r.begin("deliveries", variant)
	rss, err := r.rss()
	if err != nil {
		return report.Result{}, err
	}
	s := newSubscribers(r)
	if err := s.subscribe(r.opt.Connections, -1); err != nil {
		return report.Result{}, err
	}
	s.expect(min(r.fleet.Set.Len(), r.opt.Connections), true)
	if err := s.deliver(rss, registrars, 0, func(i int) string { return r.fleet.names[i] }); err != nil {
		return report.Result{}, err
	}
	r.lastValues(s)
	return r.finish(), nil
}

// deliver publishes and measures until the last event has come in.
func (s *subscribers) deliver(rss uint64, writers int, rate float64, container func(int) string) error {
	if err := s.pause(listenTime); err != nil {
		return err
	}
	if err := s.startServer(); err != nil {
		return err
	}
	s.openWindow()
	await := s.publish(writers, rate, container)
	if err := await(); err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return err
	}
	s.closeWindow()
	return s.endServer(rss)
}

// lastValues says how long events took to reach the last of their subscribers.
func (r *run) lastValues(s *subscribers) {
	r.value("change to last subscriber, p50", "us", float64(s.last.ValueAtQuantile(50))/1e3)
	r.value("change to last subscriber, p99", "us", float64(s.last.ValueAtQuantile(99))/1e3)
}

const (
	// Fillers are events that fill the socket of a reader that is stuck: with the old values that they carry too, they are
	// more than its send buffer (net.core.wmem_default, 208 KiB).
	fillers    = 4
	fillerSize = 48 << 10
	// fillTime is how long the others may take to read them.
	fillTime = time.Minute
)

// runSlow delivers events to subscribers of which a share does not read, after the same without them.
func runSlow(r *run) ([]report.Result, error) {
	baseline, err := r.fanoutOne("all read")
	if err != nil {
		return nil, err
	}
	r.loop.closeAll()
	r.begin("deliveries", fmt.Sprintf("%.0f %% stuck", r.opt.Stuck*100))
	rss, err := r.rss()
	if err != nil {
		return nil, err
	}
	s := newSubscribers(r)
	if err := s.subscribe(r.opt.Connections, 0); err != nil {
		return nil, err
	}
	stuck := s.conns[:int(r.opt.Stuck*float64(len(s.conns)))]
	for _, c := range stuck {
		c.user = true
		r.loop.stick(c, true)
	}
	if err := s.fill(); err != nil {
		return nil, err
	}
	s.expect(r.opt.Events, false)
	if err := s.deliver(rss, 1, r.opt.EventRate, func(int) string { return r.fleet.names[0] }); err != nil {
		return nil, err
	}
	r.lastValues(s)
	if err := s.release(stuck); err != nil {
		return nil, err
	}
	slow := r.finish()
	if baseline.Latency.P99 > 0 {
		slow.Values = append(slow.Values, report.Value{Name: "p99 of those that read, times that with none stuck", Unit: "x", Value: slow.Latency.P99 / baseline.Latency.P99})
	}
	return []report.Result{baseline, slow}, nil
}

// fill publishes what the sockets of stuck readers cannot take, and waits until the others have it.
func (s *subscribers) fill() error {
	for _, c := range s.conns {
		if c.state == stateEvents {
			s.filling += fillers
		}
	}
	for i := range fillers {
		text := strings.Repeat(string(alphabet[i]), fillerSize) + fmt.Sprint(s.fleet.event)
		if err := s.target.Set(s.ctx, s.fleet.names[0], fillerKey, text); err != nil {
			return err
		}
	}
	return s.loop.wait("filling the sockets", fillTime, func() bool { return s.filling <= 0 })
}

// release has the stuck readers read: each must get the events in order, to the last one or until it is told that it was too slow.
func (s *subscribers) release(stuck []*conn) error {
	told := 0
	s.gone = func(c *conn, kind failure, detail string) {
		// One that did not answer pings either is closed without a frame.
		if (kind == failOverrun || kind == failClosed) && c.user != nil {
			told++
			return
		}
		s.rec.fail(kind, detail)
	}
	end := s.base + uint64(len(s.issued)) + 1
	for _, c := range stuck {
		if c.state != stateClosed {
			s.loop.stick(c, false)
		}
	}
	behind := func() (n int) {
		for _, c := range stuck {
			if c.state != stateClosed && c.next != end {
				n++
			}
		}
		return n
	}
	err := s.loop.wait("the slow readers", s.opt.drain, func() bool { return behind() == 0 })
	silent := behind()
	if silent > 0 {
		s.rec.lost += uint64(silent)
		s.rec.fail(failUnanswered, "a slow reader neither got its events nor was told that it lost them")
	}
	s.value("slow readers that were told that they lost events", "", float64(told))
	s.value("slow readers that got every event later", "", float64(len(stuck)-told-silent))
	return ignoreTimeout(err)
}
