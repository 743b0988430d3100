package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with testdata/NAME.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update writes it anew):\n%s\nwant\n%s", path, got, want)
	}
}

// sample is a result with everything in it; factor makes a slower one.
func sample(target string, factor float64) Result {
	h := hdrhistogram.New(1, 60e9, 3)
	for i := range int64(1000) {
		if err := h.RecordValue(int64(float64(20_000+i*i) * factor)); err != nil {
			panic(err)
		}
	}
	r := Result{
		Target: target, Scenario: "request", Started: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Seconds: 10, Containers: 4200,
		Connections: 18000, Pipeline: 16, ValueSize: 3, Unit: "requests", Requests: uint64(1e6 / factor), RPS: 1e5 / factor,
		Server: &Server{CPUPerRequest: 2.5 * factor, RSSBefore: 12 << 20, RSSAfter: 18 << 20, BytesPerConnection: 349.5 * factor},
		Values: []Value{{"container boot, p99", "us", 1_234_567}, {"downloaded", "bytes/s", 3 << 30}, {"starts", "", 4200}},
	}
	for i := range 5 {
		r.Timeline = append(r.Timeline, Sample{At: float64(i + 1), RPS: r.RPS, P50: 25 * factor, P99: 900 * factor})
	}
	r.Summarize(h)
	return r
}

func comparison() *Comparison {
	lone := sample("outside", 3)
	lone.Server, lone.Lost, lone.Errors = nil, 2, 1
	idle := sample("devlxd", 1)
	idle.Scenario, idle.Pipeline, idle.Rate = "fanout", 0, 5000
	return &Comparison{
		Machine: Machine{CPU: "Example", CPUs: 2, Memory: 24 << 30, Kernel: "Linux 6.18", Go: "go1.26", Command: "devlxd-load compare"},
		Results: []Result{sample("devlxd", 1), idle, sample("nethttp", 4), lone},
	}
}

func TestSummary(t *testing.T) {
	r := sample("devlxd", 1)
	r.Errors, r.ByKind = 3, map[string]uint64{"timeout": 2, "body": 1}
	var b strings.Builder
	if err := WriteSummary(&b, &r); err != nil {
		t.Fatal(err)
	}
	golden(t, "summary.txt", b.String())
}

func TestTable(t *testing.T) {
	var b strings.Builder
	if err := WriteTable(&b, comparison()); err != nil {
		t.Fatal(err)
	}
	golden(t, "table.txt", b.String())
}

// TestJSONKeys: programs read these.
func TestJSONKeys(t *testing.T) {
	r := sample("devlxd", 1)
	var b bytes.Buffer
	if err := WriteJSON(&b, &r); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		"scenario", "containers", "connections", "requests", "errors", "lost", "rps", "latency_us.p50", "latency_us.p90", "latency_us.p99",
		"latency_us.p999", "latency_us.max", "server.cpu_us_per_request", "server.rss_before", "server.rss_after", "server.bytes_per_connection",
	} {
		var at any = got
		for key := range strings.SplitSeq(path, ".") {
			at = at.(map[string]any)[key]
		}
		if at == nil {
			t.Errorf("no %s in %s", path, b.String())
		}
	}
}

func TestSummarize(t *testing.T) {
	r := sample("devlxd", 1)
	if l := r.Latency; math.Abs(l.P50-270) > 3 || math.Abs(l.P99-1000) > 10 || math.Abs(l.Max-1018) > 2 || l.P90 > l.P99 || l.P99 > l.P999 || l.P999 > l.Max {
		t.Errorf("latency = %+v", l)
	}
	last := 0.0
	for _, p := range r.Distribution {
		if p.Quantile < last || p.Quantile > 1 {
			t.Errorf("quantile %v follows %v", p.Quantile, last)
		}
		last = p.Quantile
	}
	var empty Result
	empty.Summarize(hdrhistogram.New(1, 60e9, 3))
	if empty.Latency != (Latency{}) || empty.OK() {
		t.Errorf("nothing was measured, and the result is %+v", empty)
	}
}

func TestNumbers(t *testing.T) {
	for got, want := range map[string]string{
		count(0): "0", count(999.4): "999", count(1000): "1,000", count(1234567): "1,234,567",
		duration(0): "0 µs", duration(2.345): "2.35 µs", duration(999.4): "999 µs", duration(999.6): "1.00 ms", duration(1e6): "1.00 s",
		size(1023): "1.00 KiB", size(999): "999 B", size(-2048): "-2.00 KiB", size(3 << 30): "3.00 GiB",
		ratio(1, 0): "-", ratio(0, 1): "-", ratio(3, 2): "1.50",
	} {
		if got != want {
			t.Errorf("got %q; want %q", got, want)
		}
	}
}

// wellFormed parses a page as XML, but for its doctype and void elements.
func wellFormed(t *testing.T, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestHTML(t *testing.T) {
	c := comparison()
	c.Results[2].Target = `<script>alert("x")</script>`
	curve := &Chart{
		Title: "CPU by containers", X: Axis{Label: "containers", Log: true}, Y: Axis{Label: "CPU", Format: duration},
		Lines: []Line{{Name: `"><b>`, Points: [][2]float64{{0, 1}, {100, 2}, {100_000, 2.1}}}},
	}
	var b strings.Builder
	c.Curves = []*Chart{curve}
	if err := WriteComparisonHTML(&b, c); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	wellFormed(t, page)
	for _, outside := range []string{"http://", "https://", "src=", "@import", "url(", "<script", `"><b>`, "NaN", "Inf"} {
		if strings.Contains(page, outside) {
			t.Errorf("the page contains %q", outside)
		}
	}
	if n := strings.Count(page, "<svg "); n != 7 {
		t.Errorf("%d charts; want 7", n)
	}
	for _, want := range []string{"&lt;script&gt;", "request, pipeline 16", "fanout, 5,000/s", "350 B", "c2"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
}

// TestHTMLEmpty: a run in which nothing was measured.
func TestHTMLEmpty(t *testing.T) {
	var b strings.Builder
	if err := WriteHTML(&b, &Result{Target: "devlxd", Scenario: "idle", Unit: "deliveries"}); err != nil {
		t.Fatal(err)
	}
	wellFormed(t, b.String())
	if strings.Contains(b.String(), "NaN") || strings.Contains(b.String(), "Inf") {
		t.Error("the page has a number that is none")
	}
}

func TestTicks(t *testing.T) {
	for _, tc := range []struct {
		log  bool
		high float64
		want string
	}{
		{false, 1, "0 0.2 0.4 0.6 0.8 1"}, {false, 37, "0 5 10 15 20 25 30 35"}, {false, 4.1e5, "0 1e+05 2e+05 3e+05 4e+05"}, {true, 5000, "1 10 100 1000 1e+04"},
	} {
		s := newSpan(Axis{Log: tc.log}, []Line{{Points: [][2]float64{{1, 0}, {tc.high, 0}}}}, 0, 0, 100)
		var texts []string
		for _, tick := range s.Ticks {
			texts = append(texts, tick.Text)
		}
		if got := strings.Join(texts, " "); got != tc.want {
			t.Errorf("up to %v: ticks %s; want %s", tc.high, got, tc.want)
		}
	}
}

func TestMachine(t *testing.T) {
	m := ThisMachine([]string{"devlxd-load", "idle"})
	if m.CPUs < 1 || m.Memory < 1<<20 || !strings.HasPrefix(m.Kernel, "Linux ") || m.Command != "devlxd-load idle" {
		t.Errorf("machine = %+v", m)
	}
}
