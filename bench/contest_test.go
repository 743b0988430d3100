package bench

import (
	"math"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// contest is one piece of work and the ways to do it. The first way is what the others are compared with.
type contest struct {
	name  string
	ways  []way
	bytes int64         // that one operation goes through; 0: it makes no sense to say
	per   int           // parts of one operation that are reported besides, such as deliveries; 0: it has none
	part  string        // what a part is called
	slice time.Duration // the least time of a turn; 0: a millisecond
	cpu   bool          // report CPU time of this process too, where the client is another process

	during func() (stop func()) // what goes on while the contest is measured; nil: nothing
}

// way does the work of a contest. It is used by one goroutine at a time.
type way struct {
	name string
	free bool              // it promises not to allocate
	run  func(n int) error // does the work n times
}

// group sets up contests. sizes are the numbers of containers or subscribers that it varies, where it does.
type group func(tb testing.TB, sizes []int) []contest

// bench runs each way of each contest as a benchmark of its own, and "ratio" for all of them together.
func bench(b *testing.B, g group, sizes ...int) {
	for _, c := range g(b, sizes) {
		b.Run(c.name, func(b *testing.B) {
			if c.during != nil {
				defer c.during()()
			}
			for _, w := range c.ways {
				b.Run(w.name, func(b *testing.B) { c.alone(b, &w) })
			}
			turns := c.turns(b)
			b.Run("ratio", func(b *testing.B) { c.compare(b, turns) })
		})
	}
}

// alone measures one way.
func (c *contest) alone(b *testing.B, w *way) {
	b.ReportAllocs()
	if c.bytes > 0 {
		b.SetBytes(c.bytes)
	}
	before := cpuTime()
	b.ResetTimer()
	if err := w.run(b.N); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	ops := float64(b.N)
	if c.cpu {
		b.ReportMetric(float64(cpuTime()-before)/ops, "cpu-ns/op")
	}
	if c.per > 0 {
		b.ReportMetric(float64(b.Elapsed())/ops/float64(c.per), "ns/"+c.part)
	}
}

// turns finds how many operations of each way take as long as a turn shall.
func (c *contest) turns(b *testing.B) []int {
	least := c.slice
	if least == 0 {
		least = time.Millisecond
	}
	turns := make([]int, len(c.ways))
	for i := range turns {
		for turns[i] = 1; c.shortest(b, &c.ways[i], turns[i]) < least; {
			turns[i] *= 2
		}
	}
	return turns
}

// shortest is how long n operations take when nothing interferes: a way that was once kept waiting would get turns that are
// too short to be measured.
func (c *contest) shortest(b *testing.B, w *way, n int) time.Duration {
	shortest := time.Duration(math.MaxInt64)
	for range 3 {
		start := time.Now()
		if err := w.run(n); err != nil {
			b.Fatalf("%s: %v", w.name, err)
		}
		shortest = min(shortest, time.Since(start))
	}
	return shortest
}

// compare takes turns with the ways, b.N times each, and reports the medians.
func (c *contest) compare(b *testing.B, turns []int) {
	wall, cpu := newSamples(len(c.ways), b.N), newSamples(len(c.ways), b.N)
	b.ResetTimer()
	for round := range b.N {
		for k := range c.ways {
			// Another way begins in each round, so that none is always the one after the most expensive.
			i := (round + k) % len(c.ways)
			startCPU, start := cpuTime(), time.Now()
			if err := c.ways[i].run(turns[i]); err != nil {
				b.Fatalf("%s: %v", c.ways[i].name, err)
			}
			wall[i][round] = float64(time.Since(start)) / float64(turns[i])
			cpu[i][round] = float64(cpuTime()-startCPU) / float64(turns[i])
		}
	}
	b.StopTimer()
	b.ReportMetric(0, "ns/op") // of a round of turns: it says nothing
	c.report(b, wall, "")
	if c.cpu {
		c.report(b, cpu, "cpu-")
	}
}

func (c *contest) report(b *testing.B, s [][]float64, kind string) {
	unit, parts := "ns/op", 1.0
	if c.per > 0 {
		unit, parts = "ns/"+c.part, float64(c.per)
	}
	first := c.ways[0].name
	for i, w := range c.ways {
		b.ReportMetric(median(s[i])/parts, w.name+"-"+kind+unit)
		if i == 0 {
			continue
		}
		ratios := make([]float64, len(s[i]))
		for round := range ratios {
			ratios[round] = s[i][round] / s[0][round]
		}
		b.ReportMetric(median(ratios), w.name+"-"+kind+"x-of-"+first)
	}
}

func newSamples(ways, rounds int) [][]float64 {
	s := make([][]float64, ways)
	for i := range s {
		s[i] = make([]float64, rounds)
	}
	return s
}

func median(s []float64) float64 {
	s = slices.Sorted(slices.Values(s))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// cpuTime is the CPU time of this process so far (clock_gettime(2), CLOCK_PROCESS_CPUTIME_ID), 0 if it cannot be told.
func cpuTime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
