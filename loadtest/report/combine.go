package report

import (
	"slices"
)

// Median returns one result for rounds of the same scenario against the same target: the median of each number that is compared, the sum
// of all errors, and the rest from the round whose throughput is the median.
func Median(rounds []Result) Result {
	byRate := slices.Clone(rounds)
	slices.SortFunc(byRate, func(a, b Result) int { return compareFloats(a.RPS, b.RPS) })
	m := byRate[len(byRate)/2]
	m.Latency = Latency{
		P50: median(rounds, func(r *Result) float64 { return r.Latency.P50 }), P90: median(rounds, func(r *Result) float64 { return r.Latency.P90 }),
		P99: median(rounds, func(r *Result) float64 { return r.Latency.P99 }), P999: median(rounds, func(r *Result) float64 { return r.Latency.P999 }),
		Max: median(rounds, func(r *Result) float64 { return r.Latency.Max }),
	}
	if m.Server != nil {
		s := *m.Server
		s.CPUPerRequest = median(rounds, func(r *Result) float64 { return r.server().CPUPerRequest })
		// The memory of the first connections of a server is what they cost; later ones use again what those gave back.
		if first := rounds[0].Server; first != nil {
			s.RSSBefore, s.RSSAfter, s.BytesPerConnection = first.RSSBefore, first.RSSAfter, first.BytesPerConnection
		}
		m.Server = &s
	}
	m.Values = slices.Clone(m.Values)
	for i := range m.Values {
		m.Values[i].Value = median(rounds, func(r *Result) float64 {
			v, _ := r.value(m.Values[i].Name)
			return v
		})
	}
	m.Errors, m.Lost, m.ByKind, m.Examples = 0, 0, nil, nil
	for i := range rounds {
		m.addErrors(&rounds[i])
	}
	return m
}

// Sum returns one result for the same scenario against several servers that hold their connections at the same time, but made them one
// after another. Latencies are those of the slowest of them.
func Sum(parts []Result) Result {
	slowest := slices.MaxFunc(parts, func(a, b Result) int { return compareFloats(a.Latency.P99, b.Latency.P99) })
	sum := Result{
		Target: slowest.Target, Scenario: slowest.Scenario, Variant: slowest.Variant, Started: parts[0].Started,
		Unit: slowest.Unit, Latency: slowest.Latency, Distribution: slowest.Distribution, Server: &Server{},
	}
	for i := range parts {
		p := &parts[i]
		sum.Containers += p.Containers
		sum.Connections += p.Connections
		sum.Requests += p.Requests
		sum.Seconds += p.Seconds
		sum.addErrors(p)
		sum.Server.RSSBefore += p.server().RSSBefore
		sum.Server.RSSAfter += p.server().RSSAfter
		sum.Server.CPUPerRequest += p.server().CPUPerRequest / float64(len(parts))
	}
	if sum.Seconds > 0 {
		sum.RPS = float64(sum.Requests) / sum.Seconds
	}
	if sum.Connections > 0 {
		sum.Server.BytesPerConnection = (float64(sum.Server.RSSAfter) - float64(sum.Server.RSSBefore)) / float64(sum.Connections)
	}
	return sum
}

func compareFloats(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// median returns the median of a number of each result.
func median(results []Result, of func(*Result) float64) float64 {
	values := make([]float64, len(results))
	for i := range results {
		values[i] = of(&results[i])
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// server is never nil.
func (r *Result) server() *Server {
	if r.Server == nil {
		return &Server{}
	}
	return r.Server
}

// value is the number of that name.
func (r *Result) value(name string) (v float64, ok bool) {
	for _, v := range r.Values {
		if v.Name == name {
			return v.Value, true
		}
	}
	return 0, false
}

// addErrors adds those of another result.
func (r *Result) addErrors(other *Result) {
	r.Errors += other.Errors
	r.Lost += other.Lost
	for kind, n := range other.ByKind {
		if r.ByKind == nil {
			r.ByKind, r.Examples = make(map[string]uint64), make(map[string]string)
		}
		r.ByKind[kind] += n
		r.Examples[kind] = other.Examples[kind]
	}
}
