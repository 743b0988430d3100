package server

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
)

var update = flag.Bool("update", false, "write the golden files anew")

// scrape returns the metrics in the text format.
func (r *rig) scrape() string {
	r.t.Helper()
	gatherer := prometheus.NewRegistry()
	gatherer.MustRegister(r.srv.Collector())
	families, err := gatherer.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	var b bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			r.t.Fatal(err)
		}
	}
	return b.String()
}

// TestMetricsGolden: names, help, types and labels are an interface; every label of a closed set is there before anything has happened.
func TestMetricsGolden(t *testing.T) {
	r := newIdleRig(t, Options{Loops: 2})
	got := r.scrape()
	path := filepath.Join("testdata", "metrics.txt")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the metrics differ from %s (-update writes it anew):\n%s", path, got)
	}
	for line := range strings.Lines(got) {
		if !strings.HasPrefix(line, "#") && !strings.HasSuffix(line, " 0\n") {
			t.Errorf("not zero at the start: %s", line)
		}
	}
}

func TestMetricsLint(t *testing.T) {
	r := newIdleRig(t, Options{Loops: 1})
	problems, err := testutil.CollectAndLint(r.srv.Collector())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestHistograms: each thing that takes time is measured once.
func TestHistograms(t *testing.T) {
	r := newRig(t, Options{Loops: 2})
	r.container("c1", map[string]string{"user.a": "1"})
	c := r.dial("c1")
	for range 3 {
		c.get("/1.0/config/user.a")
	}
	c.send(strings.Repeat("GET /1.0 HTTP/1.1\r\nHost: lxd\r\n\r\n", 4))
	for range 4 {
		c.answer("GET")
	}
	stream := r.dial("c1")
	stream.send("GET /1.0/events HTTP/1.1\r\nHost: lxd\r\n\r\n")
	stream.answer("GET")
	r.set("c1", "user.a", "2", "user.b", "3")
	for range 2 {
		if _, err := stream.r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "a tick is measured", func() bool { return !strings.Contains(r.scrape(), "devlxd_loop_lag_seconds_count 0\n") })
	text := r.scrape()
	for _, want := range []string{
		"devlxd_request_duration_seconds_count 7\n", "devlxd_event_delivery_delay_seconds_count 2\n",
		"devlxd_events_delivered_total{type=\"config\"} 2\n", "devlxd_events_delivered_total{type=\"device\"} 0\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// TestRejectedPeers: the search and the refusal are two views of the same peers.
func TestRejectedPeers(t *testing.T) {
	r := newRig(t, Options{Loops: 2})
	r.container("c1", nil)
	for peer, n := range map[string]int{"c1": 3, stranger: 2, nonRoot: 1} {
		for range n {
			r.dial(peer).get("/1.0")
		}
	}
	text := r.scrape()
	for _, want := range []string{
		`devlxd_identifications_total{path="none",result="identified"} 3`,
		`devlxd_identifications_total{path="none",result="unknown"} 2`,
		`devlxd_identifications_total{path="none",result="uid"} 1`,
		`devlxd_peers_rejected_total{reason="unknown"} 2`,
		`devlxd_peers_rejected_total{reason="uid"} 1`,
		`devlxd_peers_rejected_total{reason="gone"} 0`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, `reason="none"`) {
		t.Error("a peer that was not refused has a reason")
	}
}

// TestHistogramBuckets: an upper bound belongs to its bucket (Prometheus: "le").
func TestHistogramBuckets(t *testing.T) {
	var h histogram
	h.observe(0, 1)
	h.observe(durationBounds[0], 2)
	h.observe(durationBounds[0]+1, 4)
	h.observe(durationBounds[len(durationBounds)-1]+1, 8)
	for i, want := range map[int]uint64{0: 3, 1: 4, 2: 0, len(durationBounds): 8} {
		if got := h.buckets[i].Load(); got != want {
			t.Errorf("bucket %d has %d observations; want %d", i, got, want)
		}
	}
	if got, want := h.sum.Load(), int64(2*durationBounds[0]+4*(durationBounds[0]+1)+8*(durationBounds[len(durationBounds)-1]+1)); got != want {
		t.Errorf("sum = %d ns; want %d", got, want)
	}
}
