package server

import (
	"cmp"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"devlxd/registry"
)

const (
	// scoreHalf is after how long what a container asked counts half for whether it is among the busiest.
	scoreHalf = time.Minute
	// scoreLead is how many times as busy as the least busy of the shown containers another one must be to take its place, so that series
	// do not come and go with each scrape.
	scoreLead = 1.5
)

// SetPerContainer has the metrics tell of the n busiest containers one by one (devlxd_container_*), from the next scrape on; 0, as at the
// start, of none. Busy is who asked most requests of late: what is a minute old counts half, and one that is shown counts one and a half
// times, so that the choice stays. Safe for concurrent use.
func (s *Server) SetPerContainer(n int) { s.perContainer.Store(int64(max(n, 0))) }

// containerMetrics are the metrics with the label container. The sum over all containers is the metric without it, less what peers have had
// that belong to no container.
type containerMetrics struct {
	requests, connections, subscribers, events, sent, waits, refused, lost, lag *prometheus.Desc
}

func newContainerMetrics() containerMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("devlxd_container_"+name, help, append([]string{"container"}, labels...), nil)
	}
	return containerMetrics{
		requests:    desc("requests_total", "Requests of the container that were answered."),
		connections: desc("connections", "Open connections of the container."),
		subscribers: desc("subscribers", "Event subscriptions of the container."),
		events:      desc("events_sent_total", "Events written to the subscribers of the container."),
		sent:        desc("sent_bytes_total", "Bytes of answers and events that were written to the container."),
		waits:       desc("quota_waits_total", "Times that a connection waited because the container was at its quota.", "quota"),
		refused: desc("quota_refused_total", "Connections and event subscriptions that were answered 500 because the container was at its quota.",
			"quota"),
		lost: desc("events_lost_total", "Events that subscribers of the container did not get because they read too slowly."),
		lag:  desc("subscriber_lag_events", "Events that the slowest subscriber of the container is behind the newest, as of the last second."),
	}
}

// collect gives the metrics of the containers that are shown.
func (m *containerMetrics) collect(ch chan<- prometheus.Metric, s *Server) {
	n := int(s.perContainer.Load())
	if n == 0 {
		return
	}
	for _, x := range s.busiest(n) {
		name := x.name
		if !utf8.ValidString(name) {
			name = strconv.Quote(name) // such a label would fail the whole scrape
		}
		gauge := func(d *prometheus.Desc, v float64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, name)
		}
		counter := func(d *prometheus.Desc, v uint64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), append([]string{name}, labels...)...)
		}
		counter(m.requests, x.Requests)
		gauge(m.connections, float64(x.Connections))
		gauge(m.subscribers, float64(x.Subscribers))
		counter(m.events, x.Events)
		counter(m.sent, x.Sent)
		for _, q := range registry.AllLimits() {
			counter(m.waits, x.Waits[q], q.String())
			counter(m.refused, x.Refused[q], q.String())
		}
		counter(m.lost, x.Lost)
		gauge(m.lag, float64(x.Lag))
	}
}

// scored is a container with how busy it is.
type scored struct {
	name string
	look *look // nil: nobody of it has connected
	rank float64
	Figures
}

// busiest returns the n busiest containers, in no order, and remembers which they are.
func (s *Server) busiest(n int) []scored {
	k := &s.looks
	k.Lock()
	defer k.Unlock()
	now := s.clock()
	decay := math.Exp2(-float64(now-k.scored) / float64(scoreHalf))
	k.scored = now
	busy := best[scored]{limit: n, before: func(a, b *scored) bool {
		return cmp.Or(cmp.Compare(b.rank, a.rank), strings.Compare(a.name, b.name)) < 0
	}}
	var x scored // one for all, as it is on the heap
	for c := range s.reg.All() {
		x = scored{name: c.Name()}
		if a := existingAccount(c.Binding()); a != nil {
			x.Figures, x.look = a.figures(), k.lookAt(a)
			x.look.score = x.look.score*decay + float64(x.Requests-x.look.scored)
			x.look.scored = x.Requests
			x.rank = x.look.score
			if x.look.shown {
				x.rank *= scoreLead
			}
			x.look.shown = false
		}
		busy.add(&x)
	}
	for i := range busy.list {
		if l := busy.list[i].look; l != nil {
			l.shown = true
		}
	}
	return busy.list
}
