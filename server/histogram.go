package server

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// durationBounds are the upper bounds of buckets. They begin near what one
// system call takes.
var durationBounds = [...]time.Duration{
	10 * time.Microsecond, 25 * time.Microsecond, 50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond,
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond,
	25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, time.Second,
}

// histogram counts durations in buckets. Its loop adds, and anybody reads: a
// reader may see the sum of an observation without its count.
type histogram struct {
	buckets [len(durationBounds) + 1]atomic.Uint64 // the last one: above all bounds
	sum     atomic.Int64                           // nanoseconds
}

// observe adds n observations of d. Owned by its loop.
func (h *histogram) observe(d time.Duration, n uint64) {
	i := 0
	for i < len(durationBounds) && d > durationBounds[i] {
		i++
	}
	h.buckets[i].Add(n)
	h.sum.Add(int64(d) * int64(n))
}

// sumHistograms makes one metric of the same histogram of all loops.
func sumHistograms(desc *prometheus.Desc, loops []*loop, of func(*loopStats) *histogram) prometheus.Metric {
	cumulative := make(map[float64]uint64, len(durationBounds))
	var count uint64
	var sum time.Duration
	for i := range len(durationBounds) + 1 {
		for _, l := range loops {
			count += of(l.stats).buckets[i].Load()
		}
		if i < len(durationBounds) {
			cumulative[durationBounds[i].Seconds()] = count
		}
	}
	for _, l := range loops {
		sum += time.Duration(of(l.stats).sum.Load())
	}
	return prometheus.MustNewConstHistogram(desc, count, sum.Seconds(), cumulative)
}
