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

// sampling looks at the server now and then. A server that is between two processes is looked at the next time.
func (s *soak) sampling(ctx context.Context) error {
	tick := time.NewTicker(s.opt.Soak.Sample)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		taken, err := s.sample(ctx)
		if err != nil {
			if s.opt.Soak.Upgrade {
				continue
			}
			return err
		}
		if err := s.on(ctx, func() error { s.take(taken); return nil }); err != nil {
			return err
		}
	}
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
	return sample{rss: float64(usage.RSS), files: float64(files), goroutines: counters["go_goroutines"]}, nil
}

// take keeps a sample and says so.
func (s *soak) take(taken sample) {
	taken.at = float64(s.loop.now-s.rec.from) / 1e9
	s.samples = append(s.samples, taken)
	s.opt.Soak.Report(fmt.Sprintf("%5.0f s: RSS %s, %.0f open files, %.0f goroutines, %d requests, %d events, %d errors, %d lost",
		taken.at, report.Bytes(taken.rss), taken.files, taken.goroutines, s.rec.count, s.listener.delivered, s.failures(), s.rec.lost))
}

// judgeSamples compares the medians of the first and the last third of the samples after the warm-up, which is a tenth of the run.
func (s *soak) judgeSamples() {
	warm := s.opt.Duration.Seconds() / 10
	steady := slices.DeleteFunc(slices.Clone(s.samples), func(x sample) bool { return x.at < warm })
	third := len(steady) / 3
	if third == 0 {
		s.rec.fail(failGrowth, fmt.Sprintf("%d samples are too few to judge by", len(steady)))
		return
	}
	for _, m := range measures {
		first, last := medianOf(steady[:third], m.of), medianOf(steady[len(steady)-third:], m.of)
		s.value(m.name+", first third", m.unit, first)
		s.value(m.name+", last third", m.unit, last)
		if last > first*(1+growth)+m.spare {
			s.rec.fail(failGrowth, fmt.Sprintf("%s grew from %.0f to %.0f", m.name, first, last))
		}
	}
}

func medianOf(samples []sample, of func(sample) float64) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	slices.Sort(values)
	return values[len(values)/2]
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
