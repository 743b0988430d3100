package report

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Result is one scenario run against one target. The JSON keys are an interface:
// keys are added, never renamed.
type Result struct {
	Target      string    `json:"target"`
	Scenario    string    `json:"scenario"`
	Variant     string    `json:"variant,omitempty"` // what makes it one of several runs of the scenario
	Started     time.Time `json:"started"`
	Seconds     float64   `json:"seconds"` // measured, without the warm-up
	Containers  int       `json:"containers"`
	Connections int       `json:"connections"`
	Pipeline    int       `json:"pipeline,omitempty"`   // requests under way on a connection
	ValueSize   int       `json:"value_size,omitempty"` // bytes of the configuration value
	Rate        float64   `json:"rate,omitempty"`       // arrivals per second of an open loop; 0: closed loop

	// Unit is what Requests counts: "requests", or "deliveries" of events.
	Unit     string            `json:"unit"`
	Requests uint64            `json:"requests"`
	Errors   uint64            `json:"errors"`
	ByKind   map[string]uint64 `json:"errors_by_kind,omitempty"`
	Examples map[string]string `json:"error_examples,omitempty"` // one of each kind
	Lost     uint64            `json:"lost"`                     // events that did not arrive, or out of order
	RPS      float64           `json:"rps"`

	Latency      Latency      `json:"latency_us"`
	Distribution Distribution `json:"distribution,omitempty"`
	Timeline     []Sample     `json:"timeline,omitempty"`
	// Server is nil where the server's process is not known.
	Server *Server `json:"server"`
	// Values are what only this scenario has, such as the time that a container took to boot.
	Values []Value `json:"values,omitempty"`
	// Curves show how something developed in the run.
	Curves  []*Chart `json:"curves,omitempty"`
	Machine *Machine `json:"machine,omitempty"`
}

// Latency has the percentiles that are compared, in microseconds.
type Latency struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

// Server is what the run cost the server.
type Server struct {
	// CPUPerRequest is CPU time of all its threads in microseconds for each request.
	CPUPerRequest float64 `json:"cpu_us_per_request"`
	// Bytes of resident memory before the first and with the last connection.
	RSSBefore uint64 `json:"rss_before"`
	RSSAfter  uint64 `json:"rss_after"`
	// BytesPerConnection is the growth of resident memory for each connection.
	BytesPerConnection float64 `json:"bytes_per_connection"`
}

// Value is a number that only one scenario has.
type Value struct {
	Name  string  `json:"name"`
	Unit  string  `json:"unit"`
	Value float64 `json:"value"`
}

// Sample is a part of the run, usually a second.
type Sample struct {
	At  float64 `json:"at"` // seconds from the start of the measurement to the end of this part
	RPS float64 `json:"rps"`
	P50 float64 `json:"p50_us"`
	P99 float64 `json:"p99_us"`
}

// Distribution is a histogram as points of rising quantile.
type Distribution []Point

// Point says that a share of the latencies (0 to 1) was at most Micros.
type Point struct {
	Quantile float64 `json:"q"`
	Micros   float64 `json:"us"`
}

// Machine is where the numbers are from.
type Machine struct {
	CPU     string `json:"cpu"`
	CPUs    int    `json:"cpus"`
	Memory  uint64 `json:"memory"` // bytes
	Kernel  string `json:"kernel"`
	Go      string `json:"go"`
	Command string `json:"command"` // that was run
}

// Summarize fills in the latencies from a histogram of nanoseconds.
func (r *Result) Summarize(h *hdrhistogram.Histogram) {
	if h.TotalCount() == 0 {
		return
	}
	at := func(q float64) float64 { return micros(h.ValueAtQuantile(q)) }
	r.Latency = Latency{P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: micros(h.Max())}
	r.Distribution = nil
	for _, b := range h.CumulativeDistribution() {
		r.Distribution = append(r.Distribution, Point{Quantile: b.Quantile / 100, Micros: micros(b.ValueAt)})
	}
}

func micros(ns int64) float64 { return float64(ns) / 1e3 }

// OK reports whether nothing went wrong in the run.
func (r *Result) OK() bool { return r.Errors == 0 && r.Lost == 0 && r.Requests > 0 }

// Comparison is the same load given to several targets.
type Comparison struct {
	Machine Machine `json:"machine"`
	// Results are in the order of the scenarios, the targets of a scenario one after another.
	Results []Result `json:"results"`
	// Curves show how a cost grows.
	Curves []*Chart `json:"curves,omitempty"`
}

// Scenarios returns the results of each scenario, in order of appearance.
func (c *Comparison) Scenarios() [][]Result {
	var groups [][]Result
	index := make(map[string]int)
	for _, r := range c.Results {
		name := r.Title()
		i, ok := index[name]
		if !ok {
			i = len(groups)
			index[name] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], r)
	}
	return groups
}

// Title names the scenario with what makes it another one.
func (r *Result) Title() string {
	title := r.Scenario
	if r.Variant != "" {
		title += " " + r.Variant
	}
	if r.Pipeline > 1 {
		title = fmt.Sprintf("%s, pipeline %d", title, r.Pipeline)
	}
	if r.Rate > 0 {
		title = fmt.Sprintf("%s, %s/s", title, count(r.Rate))
	}
	return title
}

// WriteJSON writes a Result or a Comparison, indented.
func WriteJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
