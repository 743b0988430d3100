package loadtest

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"devlxd/loadtest/report"
)

// Histograms hold nanoseconds up to a minute with three significant digits.
const (
	maxLatency = int64(time.Minute)
	digits     = 3
)

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, maxLatency, digits) }

// recorder collects what is measured. A latency counts when what it belongs to was due inside of the window, whenever it was answered:
// what the server answers late is not left out. Owned by the loop's goroutine.
type recorder struct {
	from, to int64 // the window
	all      *hdrhistogram.Histogram
	second   *hdrhistogram.Histogram // of the current second
	seconds  int64                   // that are over
	timeline []report.Sample
	count    uint64
	failures map[failure]uint64
	examples map[failure]string // the first of each
	lost     uint64
}

func newRecorder() *recorder {
	return &recorder{
		all: newHistogram(), second: newHistogram(), failures: make(map[failure]uint64), examples: make(map[failure]string),
	}
}

// window begins a measurement.
func (r *recorder) window(from, to int64) { r.from, r.to = from, to }

// inside reports whether what was due then is measured.
func (r *recorder) inside(due int64) bool { return due >= r.from && due < r.to }

// latency records an answer.
func (r *recorder) latency(due, now int64) {
	if !r.inside(due) {
		return
	}
	// What is answered after the window belongs to its last second.
	for last := (r.to - r.from - 1) / int64(time.Second); r.seconds < min((now-r.from)/int64(time.Second), last); {
		r.endSecond()
	}
	d := min(now-due, maxLatency)
	_ = r.all.RecordValue(d) // fails out of range only
	_ = r.second.RecordValue(d)
	r.count++
}

// endSecond adds a second to the timeline; the last one may be a part of one.
func (r *recorder) endSecond() {
	start := r.seconds * int64(time.Second)
	end := min(start+int64(time.Second), r.to-r.from)
	r.timeline = append(r.timeline, report.Sample{
		At: float64(end) / 1e9, RPS: float64(r.second.TotalCount()) / (float64(end-start) / 1e9),
		P50: float64(r.second.ValueAtQuantile(50)) / 1e3, P99: float64(r.second.ValueAtQuantile(99)) / 1e3,
	})
	r.second.Reset()
	r.seconds++
}

// fail counts an error; detail is kept for the first of its kind.
func (r *recorder) fail(kind failure, detail string) {
	if r.failures[kind] == 0 {
		r.examples[kind] = detail
	}
	r.failures[kind]++
}

// failMany counts errors that were counted elsewhere.
func (r *recorder) failMany(kind failure, n uint64, detail string) {
	if n > 0 {
		r.fail(kind, detail)
		r.failures[kind] += n - 1
	}
}

// fill writes what was measured into a result.
func (r *recorder) fill(res *report.Result) {
	if r.second.TotalCount() > 0 {
		r.endSecond()
	}
	res.Timeline = r.timeline
	res.Seconds = float64(r.to-r.from) / 1e9
	res.Requests = r.count
	if res.Seconds > 0 {
		res.RPS = float64(r.count) / res.Seconds
	}
	res.Lost = r.lost
	res.Summarize(r.all)
	for kind, n := range r.failures {
		if res.ByKind == nil {
			res.ByKind, res.Examples = make(map[string]uint64), make(map[string]string)
		}
		res.ByKind[string(kind)] += n
		res.Examples[string(kind)] = r.examples[kind]
		res.Errors += n
	}
}
