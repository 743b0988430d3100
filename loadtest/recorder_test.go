package loadtest

import (
	"testing"
	"time"

	"devlxd/loadtest/report"
)

// TestRecorderWindow: what was due in the window counts, whenever it was answered.
func TestRecorderWindow(t *testing.T) {
	const s, ms = int64(time.Second), int64(time.Millisecond)
	r := newRecorder()
	r.window(10*s, 12*s+500*ms)
	for _, a := range []struct{ due, now int64 }{
		{10*s - 1, 10*s + ms}, // due before
		{10 * s, 10*s + ms},
		{10*s + 500*ms, 10*s + 501*ms},
		{11 * s, 11*s + 2*ms},
		{12 * s, 20 * s},                   // late, but due inside
		{12*s + 500*ms, 12*s + 500*ms + 1}, // due after
	} {
		r.latency(a.due, a.now)
	}
	r.fail(failStatus, "500")
	r.fail(failStatus, "501")
	r.fail(failClosed, "")
	var res report.Result
	r.fill(&res)
	if res.Requests != 4 || res.Seconds != 2.5 || res.RPS != 4/2.5 {
		t.Errorf("%d requests, %v s, %v a second; want 4, 2.5, 1.6", res.Requests, res.Seconds, res.RPS)
	}
	if max := res.Latency.Max; max < 7.9e6 || max > 8.1e6 {
		t.Errorf("the longest latency is %v µs; want 8 s", max)
	}
	want := []report.Sample{{At: 1, RPS: 2}, {At: 2, RPS: 1}, {At: 2.5, RPS: 2}}
	if len(res.Timeline) != len(want) {
		t.Fatalf("timeline = %+v; want %d parts", res.Timeline, len(want))
	}
	for i, w := range want {
		if got := res.Timeline[i]; got.At != w.At || got.RPS != w.RPS {
			t.Errorf("part %d: %+v; want %+v", i, got, w)
		}
	}
	if res.Errors != 3 || res.ByKind["status"] != 2 || res.ByKind["closed"] != 1 || res.Examples["status"] != "500" {
		t.Errorf("errors = %d, %v, %v", res.Errors, res.ByKind, res.Examples)
	}
}

// TestSecrets: no two containers are answered alike.
func TestSecrets(t *testing.T) {
	seen := make(map[string]int)
	for i := range MaxContainers {
		s := string(secret(i, 3))
		if j, ok := seen[s]; ok {
			t.Fatalf("containers %d and %d have the value %q", i, j, s)
		}
		seen[s] = i
	}
	for _, size := range []int{3, 4, 5, 100, 4096} {
		if got := len(secret(7, size)); got != size {
			t.Errorf("a value of %d bytes has %d", size, got)
		}
	}
}
