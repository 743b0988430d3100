package bench

import (
	"errors"
	"testing"

	"go.uber.org/goleak"

	"devlxd/peer/peertest"
)

func TestMain(m *testing.M) {
	peertest.Child(peertest.Commands{"drive": driveCommand})
	goleak.VerifyTestMain(m,
		// fasthttp never ends the goroutine that writes its Date header, and its pool of workers looks only
		// now and then whether it was stopped.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

func BenchmarkParse(b *testing.B)    { bench(b, parseContests) }
func BenchmarkFrame(b *testing.B)    { bench(b, frameContests) }
func BenchmarkIdentity(b *testing.B) { bench(b, identityContests, 10, 1000, 100_000) }
func BenchmarkLookup(b *testing.B)   { bench(b, lookupContests, 5000, 100_000) }
func BenchmarkRing(b *testing.B)     { bench(b, ringContests, 1, 100, 10_000) }
func BenchmarkRequest(b *testing.B)  { bench(b, requestContests) }

// TestContests does the work of every benchmark a few times and holds those that promise it to zero allocations.
func TestContests(t *testing.T) {
	for name, of := range map[string]struct {
		g     group
		sizes []int
	}{
		"Parse":    {parseContests, nil},
		"Frame":    {frameContests, nil},
		"Identity": {identityContests, []int{10, 1000}},
		"Lookup":   {lookupContests, []int{100}},
		"Ring":     {ringContests, []int{1, 100}},
		"Request":  {requestContests, nil},
	} {
		t.Run(name, func(t *testing.T) {
			for _, c := range of.g(t, of.sizes) {
				t.Run(c.name, func(t *testing.T) { c.once(t) })
			}
		})
	}
}

func (c *contest) once(t *testing.T) {
	for _, w := range c.ways {
		if err := w.run(3); err != nil {
			t.Errorf("%s: %v", w.name, err)
			continue
		}
		if !w.free || raceEnabled {
			continue // the race detector allocates on its own account
		}
		var err error
		if n := testing.AllocsPerRun(100, func() { err = errors.Join(err, w.run(1)) }); n != 0 || err != nil {
			t.Errorf("%s: %v allocations each time; want none (%v)", w.name, n, err)
		}
	}
	if c.during == nil {
		return
	}
	defer c.during()()
	for _, w := range c.ways {
		if err := w.run(1000); err != nil {
			t.Errorf("%s, meanwhile: %v", w.name, err)
		}
	}
}

// TestMedian: the figures of a ratio are read off the middle.
func TestMedian(t *testing.T) {
	for _, test := range []struct {
		s    []float64
		want float64
	}{{[]float64{7}, 7}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 100, 2}, 3}} {
		if got := median(test.s); got != test.want {
			t.Errorf("median(%v) = %v; want %v", test.s, got, test.want)
		}
	}
}
