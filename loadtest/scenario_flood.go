package loadtest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"devlxd/loadtest/guests"
	"devlxd/loadtest/report"
	"devlxd/loadtest/target"
)

// FloodOptions say who floods, and how. The zero value of each field is its default.
type FloodOptions struct {
	Containers  int           // that flood; default: 50, of a soak 3
	Mix         string        // "pipeline", "connect", "subscribe" and "half" with commas between, or "all"; default: all
	Connections int           // that each container holds for each part of the mix; default: 80
	Pipeline    int           // requests that are sent at once; default: 16
	Period      time.Duration // from one connection or batch of a part of the mix to the next; default: none, as fast as it goes
	MaxRatio    float64       // of quiet containers' p99 with the flood to that without; more is an error. 0: any is well

	mix guests.Mix
}

// floodParts are the names of what a flood is made of.
var floodParts = [...]struct {
	name string
	part guests.Mix
}{
	{"pipeline", guests.Pipeline}, {"connect", guests.Storm}, {"subscribe", guests.Subscribe}, {"half", guests.Half},
	{"all", guests.Everything},
}

// fill sets the defaults and checks the values.
func (o *FloodOptions) fill(containers int) error {
	for _, f := range []struct {
		name    string
		value   *int
		or, max int
	}{
		{"flooding", &o.Containers, containers, MaxContainers}, {"flood-connections", &o.Connections, 80, 256}, {"flood-pipeline", &o.Pipeline, 16, 128},
	} {
		if *f.value == 0 {
			*f.value = f.or
		}
		if *f.value < 0 || *f.value > f.max {
			return usagef("--%s is %d: give 1 to %d", f.name, *f.value, f.max)
		}
	}
	if o.Period < 0 || o.Period > time.Second || o.MaxRatio < 0 {
		return usagef("--flood-period has to be from 0 to 1s, and --max-ratio positive")
	}
	if o.Mix == "" {
		o.Mix = "all"
	}
	o.mix = 0
	for name := range strings.SplitSeq(o.Mix, ",") {
		found := false
		for _, p := range floodParts {
			if p.name == name {
				o.mix |= p.part
				found = true
			}
		}
		if !found {
			return usagef("--mix is %q: give some of pipeline, connect, subscribe and half, or all", o.Mix)
		}
	}
	return nil
}

// work is what each flooding container does.
func (o *FloodOptions) work() guests.Flood {
	return guests.Flood{Mix: o.mix, Connections: o.Connections, Pipeline: o.Pipeline, Period: o.Period}
}

// runFlood has quiet containers ask now and then, first alone and then beside containers that flood the server.
func runFlood(r *run) ([]report.Result, error) {
	if r.opt.Rate == 0 {
		r.opt.Rate = 10 * float64(r.fleet.Set.Len())
	}
	r.opt.Connections = r.fleet.Set.Len()
	guests.HurrySelf(true)
	defer guests.HurrySelf(false)
	r.fleet.Set.Hurry(true)
	defer r.fleet.Set.Hurry(false)
	alone, calm, err := r.quietPhase("alone", nil)
	if err != nil {
		return nil, err
	}
	r.loop.closeAll()
	f, err := r.newCrowd("flood", r.opt.Flood.Containers, func(int) map[string]string { return map[string]string{target.Key: "flood"} })
	if err != nil {
		return nil, err
	}
	defer f.close() // a second time does nothing; errors of the first are told
	beside, flooded, err := r.quietPhase(fmt.Sprintf("beside %d that flood", f.set.Len()), f)
	if err != nil {
		return nil, err
	}
	if err := f.halt(); err != nil {
		return nil, err
	}
	ratio := flooded.compare(calm, beside)
	if r.opt.Flood.MaxRatio > 0 && ratio > r.opt.Flood.MaxRatio {
		r.rec.fail(failRatio, fmt.Sprintf("p99 is %.2f times that without the flood", ratio))
		r.rec.fill(beside)
	}
	return []report.Result{*alone, *beside}, f.close()
}

// quietPhase measures quiet containers, while a crowd floods if there is one.
func (r *run) quietPhase(variant string, f *crowd) (*report.Result, *quiet, error) {
	r.begin("requests", variant)
	result := r.result
	result.Rate = r.opt.Rate
	q := newQuiet(r, r.fleet.Set.Len())
	if err := q.keep(q); err != nil {
		return nil, nil, err
	}
	var seen floodSeen
	if f != nil {
		if err := f.attack(r.opt.Flood.work()); err != nil {
			return nil, nil, err
		}
		r.loop.at(r.loop.clock.now()+int64(r.opt.Warmup), func() { seen = r.floodSeen(f) })
	}
	counters, err := r.target.Counters(r.ctx)
	if err != nil {
		return nil, nil, err
	}
	q.start(r.opt.Rate)
	if err := r.measure(); err != nil {
		return nil, nil, err
	}
	usage, err := r.usage()
	if err != nil {
		return nil, nil, err
	}
	after, err := r.target.Counters(r.ctx)
	if err != nil {
		return nil, nil, err
	}
	if f != nil {
		r.floodSeen(f).report(r, seen)
	}
	if err := q.stop(); err != nil {
		return nil, nil, err
	}
	if usage != nil {
		r.value("CPU of the server, of one core", "%", float64(usage.CPU-r.before.CPU)/float64(r.opt.Duration)*100)
	}
	r.serverTimes(counters, after)
	q.values()
	r.rec.fill(result)
	return result, q, nil
}

// serverTimes says how long the server says that requests and its own timer took: neither has anything to do with when clients are
// scheduled.
func (r *run) serverTimes(before, after map[string]float64) {
	for _, m := range []struct{ metric, text string }{
		{"devlxd_request_duration_seconds", "mean request, by the server's clock"}, {"devlxd_loop_lag_seconds", "mean lag of the server's loops"},
	} {
		if n := after[m.metric] - before[m.metric]; n > 0 {
			r.value(m.text, "us", (after[m.metric+"_sum"]-before[m.metric+"_sum"])/n*1e6)
		}
	}
}

// floodSeen is what the flooding containers have seen.
type floodSeen struct {
	guests.Counts
	at int64
}

func (r *run) floodSeen(f *crowd) floodSeen { return floodSeen{f.set.Total(), r.loop.clock.now()} }

// report adds what was seen since before. Refusals and closed connections are what a flood may expect, and no errors.
func (s floodSeen) report(r *run, before floodSeen) {
	seconds := float64(s.at-before.at) / 1e9
	for _, v := range []struct {
		name     string
		now, was uint64
	}{
		{"connections of the flood", s.Connected, before.Connected}, {"answers that the flood read", s.Right, before.Right},
		{"requests of the flood that were refused", s.Refused, before.Refused}, {"connections of the flood that were closed", s.Cut, before.Cut},
		{"connects of the flood that failed", s.NoConnect, before.NoConnect},
	} {
		r.value(v.name, "/s", float64(v.now-v.was)/seconds)
	}
}

// compare adds how many times as long as alone the quiet ones waited, and returns the ratio of all p99.
func (q *quiet) compare(alone *quiet, result *report.Result) float64 {
	ratio := 0.0
	for _, k := range []struct {
		name       string
		with, none *latencies
	}{
		{"on kept connections", q.onKept, alone.onKept}, {"on new connections", q.onNew, alone.onNew},
		{"of all", q.all, alone.all},
	} {
		for _, p := range []float64{50, 99} {
			if base := k.none.at(p); base > 0 && k.with.TotalCount() > 0 {
				ratio = k.with.at(p) / base
				result.Values = append(result.Values, report.Value{
					Name: fmt.Sprintf("p%.0f %s, times that without the flood", p, k.name), Unit: "x", Value: ratio,
				})
			}
		}
	}
	return ratio
}

// errQuiet is for a quiet container that cannot be had do what it should.
var errQuiet = errors.New("a quiet container cannot connect")
