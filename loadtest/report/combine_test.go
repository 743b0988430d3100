package report

import "testing"

func TestMedian(t *testing.T) {
	rounds := []Result{
		{RPS: 30, Requests: 3, Latency: Latency{P99: 9}, Server: &Server{CPUPerRequest: 5, RSSBefore: 1, RSSAfter: 101, BytesPerConnection: 10}, Values: []Value{{Name: "v", Value: 3}}},
		{RPS: 10, Requests: 1, Latency: Latency{P99: 7}, Server: &Server{CPUPerRequest: 3, RSSBefore: 2, RSSAfter: 2}, Values: []Value{{Name: "v", Value: 9}}, Errors: 1, ByKind: map[string]uint64{"status": 1}},
		{RPS: 20, Requests: 2, Latency: Latency{P99: 8}, Server: &Server{CPUPerRequest: 4, RSSBefore: 3, RSSAfter: 3}, Values: []Value{{Name: "v", Value: 6}}, Errors: 2, Lost: 4, ByKind: map[string]uint64{"status": 2}},
	}
	m := Median(rounds)
	if m.RPS != 20 || m.Requests != 2 || m.Latency.P99 != 8 || m.Server.CPUPerRequest != 4 || m.Values[0].Value != 6 {
		t.Errorf("median = %+v %+v", m, m.Server)
	}
	if m.Server.BytesPerConnection != 10 || m.Server.RSSAfter != 101 {
		t.Errorf("memory = %+v; want that of the first round", m.Server)
	}
	if m.Errors != 3 || m.Lost != 4 || m.ByKind["status"] != 3 {
		t.Errorf("errors = %d, %d lost, %v; want all of them", m.Errors, m.Lost, m.ByKind)
	}
	if rounds[2].Server.BytesPerConnection != 0 || rounds[2].Errors != 2 {
		t.Error("a round was changed")
	}
}

func TestSum(t *testing.T) {
	sum := Sum([]Result{
		{Containers: 1, Connections: 10, Requests: 5, RPS: 1, Seconds: 1, Latency: Latency{P99: 4}, Server: &Server{CPUPerRequest: 2, RSSBefore: 100, RSSAfter: 200}},
		{Containers: 2, Connections: 20, Requests: 6, RPS: 2, Seconds: 3, Latency: Latency{P99: 5}, Server: &Server{CPUPerRequest: 4, RSSBefore: 100, RSSAfter: 500}, Lost: 1},
	})
	if sum.Containers != 3 || sum.Connections != 30 || sum.Requests != 11 || sum.RPS != 11.0/4 || sum.Latency.P99 != 5 || sum.Lost != 1 {
		t.Errorf("sum = %+v", sum)
	}
	if s := sum.Server; s.CPUPerRequest != 3 || s.RSSBefore != 200 || s.RSSAfter != 700 || s.BytesPerConnection != 500.0/30 {
		t.Errorf("server = %+v", s)
	}
}
