package loadtest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"devlxd/loadtest/guests"
	"devlxd/loadtest/report"
)

// found sums the errors of results by kind.
func found(results []report.Result) map[string]uint64 {
	sum := make(map[string]uint64)
	for _, r := range results {
		for kind, n := range r.ByKind {
			sum[kind] += n
		}
	}
	return sum
}

// smallFlood is one that a test can do.
var smallFlood = FloodOptions{Containers: 2, Connections: 4, Period: 5 * time.Millisecond}

// TestFloodFaults: the quiet containers must be answered rightly with and without the flood.
func TestFloodFaults(t *testing.T) {
	fleet := newFleet(t, 3)
	for _, c := range []struct {
		fault fault
		kind  failure // "": nothing is wrong
	}{{faultNone, ""}, {faultOther, failContent}, {faultStatus, failStatus}, {faultClose, failClosed}, {faultSilent, failUnanswered}} {
		t.Run(string(c.fault), func(t *testing.T) {
			o := Options{Scenario: Flood, Rate: 100, Flood: smallFlood}
			if c.fault == faultNone {
				o.drain = drainTime // a machine may be busy
			}
			results := runAgainst(t, fleet, c.fault, o)
			if len(results) != 2 || results[0].Variant != "alone" || results[1].Variant != "beside 2 that flood" {
				t.Fatalf("%d results", len(results))
			}
			if got := found(results); c.kind == "" && len(got) > 0 || c.kind != "" && got[string(c.kind)] == 0 {
				t.Errorf("errors = %v; want %q", got, c.kind)
			}
			ratios := slices.IndexFunc(results[1].Values, func(v report.Value) bool { return v.Name == "p99 of all, times that without the flood" })
			if c.kind == "" && (ratios < 0 || results[1].Values[ratios].Value <= 0) {
				t.Errorf("no ratio in %+v", results[1].Values)
			}
		})
	}
}

// TestMaxRatio: a ratio that is larger than it may be is an error.
func TestMaxRatio(t *testing.T) {
	flood := smallFlood
	flood.MaxRatio = 1e-9
	results := runAgainst(t, newFleet(t, 2), faultNone, Options{Scenario: Flood, Rate: 100, Flood: flood})
	if got := found(results); got[string(failRatio)] != 1 {
		t.Errorf("errors = %v; want one of kind %q", got, failRatio)
	}
}

// TestIdentityFaults: a server that takes one container for another is found, and so is one that refuses whom it knows.
func TestIdentityFaults(t *testing.T) {
	for _, c := range []struct {
		fault fault
		kind  failure // "": nothing is wrong
	}{{faultNone, ""}, {faultMixUp, failForeign}, {faultForget, failRefused}, {faultHangUp, failClosed}, {faultLost, failStatus}} {
		t.Run(string(c.fault), func(t *testing.T) {
			results := runAgainst(t, newFleet(t, 5), c.fault, Options{Scenario: Identity, Rate: 2000, Duration: time.Second})
			got := found(results)
			if c.kind == "" && (len(got) > 0 || results[0].Requests == 0) || c.kind != "" && got[string(c.kind)] == 0 {
				t.Errorf("errors = %v of %d requests, such as %v; want %q", got, results[0].Requests, results[0].Examples, c.kind)
			}
			if c.fault == faultMixUp && !strings.HasPrefix(results[0].Examples[string(failForeign)], "other...") {
				t.Errorf("examples = %v; want the wrong answer", results[0].Examples)
			}
		})
	}
}

// TestIdentityEnds: the first wrong answer ends the run.
func TestIdentityEnds(t *testing.T) {
	fleet := newFleet(t, 2)
	s := newFake(t, faultMixUp)
	if err := s.Register(context.Background(), fleet.Containers(), nil); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	results, err := Run(context.Background(), s, fleet, Options{Scenario: Identity, Rate: 1000, Duration: 10 * time.Minute}, nil)
	if err != nil || results[0].OK() || time.Since(began) > 5*time.Minute {
		t.Errorf("%+v, %v after %v; want a wrong answer at once", results, err, time.Since(began))
	}
}

// judged is the errors of a soak with such samples, one a second. A life of the server is as many samples as life says; 0: all.
func judged(life int, samples ...sample) map[failure]uint64 {
	s := &soak{run: &run{rec: newRecorder(), result: &report.Result{}, opt: Options{Duration: time.Duration(len(samples)) * time.Second}}}
	if err := s.opt.Soak.fill(time.Hour); err != nil {
		return map[failure]uint64{failProtocol: 1}
	}
	for i, x := range samples {
		x.at, x.files, x.goroutines = float64(i), max(x.files, 100), 20
		if life > 0 {
			x.pid = i / life
			s.counts.upgraded = uint64(x.pid)
		}
		s.samples = append(s.samples, x)
	}
	s.judgeSamples()
	return s.rec.failures
}

// memory makes samples of resident memory, in MiB.
func memory(mib ...float64) (samples []sample) {
	for _, v := range mib {
		samples = append(samples, sample{rss: v * (1 << 20)})
	}
	return samples
}

// TestGrowth: a server that needs more and more is found; one that needs more at its start, or for a moment, is not.
func TestGrowth(t *testing.T) {
	for name, c := range map[string]struct {
		mib  []float64
		want uint64
	}{
		"flat":          {[]float64{100, 101, 99, 100, 101, 100, 99, 100, 101, 100}, 0},
		"warm-up":       {[]float64{10, 100, 100, 100, 100, 100, 100, 100, 100, 100}, 0},
		"a moment":      {[]float64{100, 100, 100, 100, 100, 100, 100, 100, 900, 100}, 0},
		"a little":      {[]float64{10, 10, 10, 10, 11, 11, 12, 13, 13, 13}, 0},
		"garbage":       {[]float64{30, 44, 31, 30, 30, 43, 44, 46, 30, 45}, 0},
		"a leak":        {[]float64{100, 104, 108, 112, 116, 120, 124, 128, 132, 136}, 1},
		"below garbage": {[]float64{30, 44, 31, 30, 48, 34, 44, 46, 38, 45}, 1},
		"it shrank":     {[]float64{100, 100, 100, 100, 50, 50, 50, 50, 50, 50}, 0},
		"too few":       {[]float64{100, 100}, 1},
	} {
		if got := judged(0, memory(c.mib...)...)[failGrowth]; got != c.want {
			t.Errorf("%s: %d errors; want %d", name, got, c.want)
		}
	}
}

// TestGrowthOfLives: of a server that is upgraded, both what it hands over and what each of its processes needs more and more is found.
func TestGrowthOfLives(t *testing.T) {
	const run, life = 36, 18
	leak := func(of func(i int) int) (samples []sample) {
		for i := range run {
			samples = append(samples, sample{rss: 100 << 20, files: 200 + 10*float64(of(i))})
		}
		return samples
	}
	for name, c := range map[string]struct {
		life    int
		samples []sample
		want    uint64
	}{
		"flat":              {life, leak(func(int) int { return 0 }), 0},
		"at each start":     {life, leak(func(i int) int { return min(i%life, 3) }), 0},
		"handed over":       {life, leak(func(i int) int { return i / 3 }), 1},
		"by each upgrade":   {6, leak(func(i int) int { return i / 6 * 2 }), 1},
		"in each process":   {life, leak(func(i int) int { return i % life }), 1},
		"a life of moments": {3, leak(func(int) int { return 0 }), 0},
	} {
		if got := judged(c.life, c.samples...)[failGrowth]; got != c.want {
			t.Errorf("%s: %d errors; want %d", name, got, c.want)
		}
	}
}

// TestSoakNeeds: a soak needs a container for each of its parts.
func TestSoakNeeds(t *testing.T) {
	fleet := newFleet(t, 2)
	s := newFake(t, faultNone)
	if err := s.Register(context.Background(), fleet.Containers(), nil); err != nil {
		t.Fatal(err)
	}
	r := &run{fleet: fleet, target: s, ctx: context.Background()}
	if _, err := runSoak(r); !errors.Is(err, ErrUsage) {
		t.Errorf("error = %v; want %v", err, ErrUsage)
	}
}

// TestProbeSecrets: each has its own, of the length that guests compare.
func TestProbeSecrets(t *testing.T) {
	a, b := newSecret(), newSecret()
	if a == b || len(a) != guests.SecretLen || len(b) != guests.SecretLen {
		t.Errorf("secrets %q and %q", a, b)
	}
}
