package loadtest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"devlxd/loadtest/report"
	"devlxd/loadtest/target"
)

// sample is what the server needed at a time.
type sample struct {
	at         float64 // seconds from the start
	pid        int
	rss        float64 // bytes
	files      float64
	goroutines float64 // 0: the server says nothing of it
}

// measures are what is judged: the last third of a run may need a twentieth more than the first, and a little.
var measures = [...]struct {
	name, unit string
	format     func(float64) string
	spare      float64 // that may be added whatever there was: noise of the heap, connections and timers under way
	of         func(sample) float64
}{
	{"resident memory", "bytes", report.Bytes, 4 << 20, func(s sample) float64 { return s.rss }},
	{"open files", "", nil, 32, func(s sample) float64 { return s.files }},
	{"goroutines", "", nil, 8, func(s sample) float64 { return s.goroutines }},
}

// growth is what a measure may grow by.
const growth = 0.05

// looks is how often the server is looked at for a sample.
const looks = 8

// look takes a sample: the least that the server needs in a calm, at the end of it. Where the server hands over, it is looked at the next time.
func (s *soak) look(ctx context.Context, calm time.Duration) error {
	if !s.handing.TryLock() {
		rest(ctx, calm)
		return nil
	}
	defer s.handing.Unlock()
	least, err := s.sample(ctx)
	for range looks - 1 {
		if err != nil || !rest(ctx, calm/looks) {
			return err
		}
		var next sample
		next, err = s.sample(ctx)
		least.rss, least.files, least.goroutines = min(least.rss, next.rss), min(least.files, next.files), min(least.goroutines, next.goroutines)
	}
	if err != nil {
		return err
	}
	return s.on(ctx, func() error { s.take(least); return nil })
}

// sample asks the kernel and the server.
func (s *soak) sample(ctx context.Context) (taken sample, err error) {
	pid := s.target.PID()
	usage, err := target.ReadUsage(pid)
	if err != nil {
		return taken, err
	}
	files, err := target.OpenFiles(pid)
	if err != nil {
		return taken, err
	}
	counters, err := s.target.Counters(ctx)
	if err != nil {
		return taken, err
	}
	return sample{pid: pid, rss: float64(usage.RSS), files: float64(files), goroutines: counters["go_goroutines"]}, nil
}

// take keeps a sample and says so.
func (s *soak) take(taken sample) {
	taken.at = float64(s.loop.now-s.rec.from) / 1e9
	s.samples = append(s.samples, taken)
	s.opt.Soak.Report(fmt.Sprintf("%5.0f s: RSS %s, %.0f open files, %.0f goroutines, %d requests, %d events, %d errors, %d lost",
		taken.at, report.Bytes(taken.rss), taken.files, taken.goroutines, s.rec.count, s.listener.delivered, s.failures(), s.rec.lost))
}

// judgeSamples compares the first and the last third of the samples after the warm-up, which is a tenth of the run, and where the server was
// upgraded those of its last process too, after a quarter of its life: what a process does not give back ends with it, unless it is handed over.
func (s *soak) judgeSamples() {
	warm := s.opt.Duration.Seconds() / 10
	s.judge("", slices.DeleteFunc(slices.Clone(s.samples), func(x sample) bool { return x.at < warm }), 1)
	if s.counts.upgraded == 0 || len(s.samples) == 0 {
		return
	}
	last := s.samples[len(s.samples)-1].pid
	life := slices.DeleteFunc(slices.Clone(s.samples), func(x sample) bool { return x.pid != last })
	s.judge(" of the last process", life[len(life)/4:], lifeThird)
}

// lifeThird is how many samples the thirds of the last process's life need: with fewer the run is too short to say anything of it.
const lifeThird = 3

// judge compares thirds of at least some samples each.
func (s *soak) judge(whose string, steady []sample, least int) {
	third := len(steady) / 3
	if third < least {
		if least > 1 {
			s.opt.Soak.Report(fmt.Sprintf("%d samples%s are too few to judge by: give a longer --duration or a shorter --sample", len(steady), whose))
			return
		}
		s.rec.fail(failGrowth, fmt.Sprintf("%d samples are too few to judge by", len(steady)))
		return
	}
	for _, m := range measures {
		first, last := lowOf(steady[:third], m.of), lowOf(steady[len(steady)-third:], m.of)
		s.value(m.name+whose+", first third", m.unit, first)
		s.value(m.name+whose+", last third", m.unit, last)
		if last > first*(1+growth)+m.spare {
			s.rec.fail(failGrowth, fmt.Sprintf("%s%s grew from %.0f to %.0f", m.name, whose, first, last))
		}
	}
}

// lowOf is the lower quartile: garbage that was not collected yet and connections under way make samples larger, never smaller, while what is
// never given back lifts all of them.
func lowOf(samples []sample, of func(sample) float64) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	slices.Sort(values)
	return values[len(values)/4]
}

// curves show the samples.
func (s *soak) curves() (charts []*report.Chart) {
	for _, m := range measures {
		line := report.Line{Name: s.target.Name()}
		for _, x := range s.samples {
			line.Points = append(line.Points, [2]float64{x.at, m.of(x)})
		}
		charts = append(charts, &report.Chart{
			Title: "The server's " + m.name, X: report.Axis{Label: "seconds"}, Y: report.Axis{Label: m.name, Format: m.format},
			Lines: []report.Line{line},
		})
	}
	return charts
}
