package loadtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/loadtest/report"
	"devlxd/loadtest/target"
)

const (
	// setupTime is how long it may take until all connections are there.
	setupTime = 2 * time.Minute
	// drainTime is how long answers and events may be late at the end.
	drainTime = 20 * time.Second
	// spareDescriptors is what a run needs beside its connections.
	spareDescriptors = 200
)

// run is one scenario against one target.
type run struct {
	ctx      context.Context
	opt      Options
	target   target.Target
	fleet    *Fleet
	loop     *loop
	rec      *recorder
	result   *report.Result
	progress func(done, total float64)

	counters map[string]float64 // the server's own, before; nil: it has none
	before   target.Usage       // at the start of the window
}

// Progress is told how far a run has come.
type Progress func(done, total float64)

// Run does one scenario against one target, whose containers are registered, and returns what was measured: one result, or one for each
// phase of a scenario that has several. A server that answers wrongly is no error but part of the result. It returns an error when the
// scenario could not be done at all. Only one run may use a fleet at a time.
func Run(ctx context.Context, t target.Target, fleet *Fleet, o Options, progress Progress) ([]report.Result, error) {
	if err := o.fill(fleet.Set.Len()); err != nil {
		return nil, err
	}
	do, needs := o.Scenario.plan()
	if !t.Features().Has(needs) {
		return nil, fmt.Errorf("%s against %s: %w", o.Scenario, t.Name(), target.ErrUnsupported)
	}
	if err := checkDescriptors(o.Connections + o.Downloads); err != nil {
		return nil, err
	}
	if progress == nil {
		progress = func(float64, float64) {}
	}
	clock, err := newClock()
	if err != nil {
		return nil, err
	}
	if err := fleet.turnTo(ctx, t.Socket()); err != nil {
		return nil, err
	}
	fleet.same = !t.Features().Has(target.Identity)
	counters, err := t.Counters(ctx)
	if err != nil {
		return nil, err
	}
	l, err := newLoop(ctx, clock, fleet.Set)
	if err != nil {
		return nil, err
	}
	defer l.free()
	r := &run{ctx: ctx, opt: o, target: t, fleet: fleet, loop: l, progress: progress, counters: counters}
	results, err := do(r)
	if err != nil {
		return nil, fmt.Errorf("%s against %s: %w", o.Scenario, t.Name(), err)
	}
	if err := r.compareCounters(results); err != nil {
		return nil, err
	}
	return results, nil
}

// checkDescriptors refuses a run that would end at RLIMIT_NOFILE.
func checkDescriptors(connections int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("cannot read the limit of open files: %w", err)
	}
	if uint64(connections+spareDescriptors) > limit.Cur {
		return fmt.Errorf("%w: %d connections with a limit of %d: raise it with ulimit -n, or use fewer --connections",
			ErrDescriptors, connections, limit.Cur)
	}
	return nil
}

// begin makes the result of a phase, with counters of its own.
func (r *run) begin(unit, variant string) {
	r.rec = newRecorder()
	r.loop.rec = r.rec
	r.result = &report.Result{
		Target: r.target.Name(), Scenario: string(r.opt.Scenario), Variant: variant, Started: time.Now(),
		Containers: r.fleet.Set.Len(), Connections: r.opt.Connections, Unit: unit,
	}
}

// usage reads what the server has used; nil where its process is not known.
func (r *run) usage() (*target.Usage, error) {
	if r.target.PID() == 0 {
		return nil, nil
	}
	u, err := target.ReadUsage(r.target.PID())
	return &u, err
}

// startServer notes what the server has used before a phase.
func (r *run) startServer() error {
	u, err := r.usage()
	if err == nil && u != nil {
		r.before = *u
	}
	return err
}

// endServer adds to the result what the phase has cost the server; rssBefore is its memory before the first of the connections.
func (r *run) endServer(rssBefore uint64) error {
	u, err := r.usage()
	if err != nil || u == nil {
		return err
	}
	s := &report.Server{RSSBefore: rssBefore, RSSAfter: u.RSS}
	if r.rec.count > 0 {
		s.CPUPerRequest = float64((u.CPU - r.before.CPU).Nanoseconds()) / 1e3 / float64(r.rec.count)
	}
	if r.opt.Connections > 0 {
		s.BytesPerConnection = (float64(u.RSS) - float64(rssBefore)) / float64(r.opt.Connections)
	}
	r.result.Server = s
	return nil
}

// rss is the server's memory now, 0 where it is not known.
func (r *run) rss() (uint64, error) {
	u, err := r.usage()
	if err != nil || u == nil {
		return 0, err
	}
	return u.RSS, nil
}

// finish returns the result of a phase.
func (r *run) finish() report.Result {
	r.rec.fill(r.result)
	return *r.result
}

// value adds a number that only this scenario has.
func (r *run) value(name, unit string, v float64) {
	r.result.Values = append(r.result.Values, report.Value{Name: name, Unit: unit, Value: v})
}

// connect has guests make n connections in all, and waits until they are there. per is how many of them each guest makes; with only,
// that one guest makes them all.
func (r *run) connect(n int, h handler, only int) error {
	guests := r.fleet.Set.Len()
	r.loop.handler = h
	before, failed := r.loop.accepted, r.failures()
	for i := range guests {
		count := n / guests
		if i < n%guests {
			count++
		}
		if only >= 0 {
			if count = 0; i == only {
				count = n
			}
		}
		if count == 0 {
			continue
		}
		if err := r.fleet.Set.Connect(i, count); err != nil {
			return err
		}
	}
	return r.loop.wait("connecting", setupTime, func() bool {
		done := r.loop.accepted - before + r.failures() - failed
		r.progress(float64(done), float64(n))
		return done >= uint64(n)
	})
}

// failures is how many errors there were.
func (r *run) failures() (n uint64) {
	for _, count := range r.rec.failures {
		n += count
	}
	return n
}

// measure sets the window, and notes what the server has used at its start and end.
func (r *run) measure() error {
	l := r.loop
	l.clockRead()
	from := l.now + int64(r.opt.Warmup)
	r.rec.window(from, from+int64(r.opt.Duration))
	var failed error
	l.at(from, func() { failed = errors.Join(failed, r.startServer()) })
	over := false
	l.at(r.rec.to, func() { over = true })
	r.tick()
	if err := l.wait("the load", r.opt.Warmup+r.opt.Duration+r.opt.drain, func() bool { return over || failed != nil }); err != nil {
		return err
	}
	return failed
}

// tick tells the progress of a window now and then.
func (r *run) tick() {
	r.progress(float64(r.loop.now-r.rec.from)/1e9+r.opt.Warmup.Seconds(), (r.opt.Warmup + r.opt.Duration).Seconds())
	if r.loop.now < r.rec.to {
		r.loop.after(200*time.Millisecond, r.tick)
	}
}

// restart starts the server anew where that is possible; its counters begin anew too.
func (r *run) restart() (err error) {
	if err := r.target.Restart(r.ctx); err != nil {
		if isUnsupported(err) {
			return nil
		}
		return err
	}
	r.counters, err = r.target.Counters(r.ctx)
	return err
}

// countersPatience is how long the server has for counting what it has written: it counts after it wrote.
const countersPatience = 5 * time.Second

// counted is a counter of the server and what came in of it here.
type counted struct {
	name string
	ours uint64
}

func (r *run) counted() []counted {
	return []counted{
		{"devlxd_connections_accepted_total", r.loop.accepted},
		{"devlxd_requests_total", r.loop.answers},
		{"devlxd_events_delivered_total", r.loop.events},
	}
}

// readCounters reads the server's counters until none is behind what came in, or its time for that is over.
func (r *run) readCounters() (map[string]float64, error) {
	for end := time.Now().Add(countersPatience); ; time.Sleep(countersPatience / 100) {
		after, err := r.target.Counters(r.ctx)
		behind := slices.ContainsFunc(r.counted(), func(c counted) bool { return after[c.name]-r.counters[c.name] < float64(c.ours) })
		if err != nil || !behind || time.Now().After(end) {
			return after, err
		}
	}
}

// compareCounters holds the server's own counters against what came in. The server may have counted more: requests of connections that
// were closed before they were answered.
func (r *run) compareCounters(results []report.Result) error {
	if r.counters == nil || len(results) == 0 {
		return nil
	}
	after, err := r.readCounters()
	if err != nil {
		return err
	}
	last := &results[len(results)-1]
	if pause, ok := after[target.MaxPause]; ok {
		last.Values = append(last.Values, report.Value{Name: "longest pause of the server for garbage collection", Unit: "us", Value: pause * 1e6})
	}
	for _, c := range r.counted() {
		theirs := after[c.name] - r.counters[c.name]
		if theirs < float64(c.ours) {
			last.Errors++
			if last.ByKind == nil {
				last.ByKind, last.Examples = make(map[string]uint64), make(map[string]string)
			}
			last.ByKind[string(failDisagree)]++
			last.Examples[string(failDisagree)] = fmt.Sprintf("%s grew by %.0f, but %d came in", c.name, theirs, c.ours)
		}
	}
	return nil
}
