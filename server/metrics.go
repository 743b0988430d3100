package server

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"devlxd/peer"
	"devlxd/registry"
)

// collector exports the counters of the loops. It reads them when it is
// scraped, so that the guest path shares no counter between loops. Every label
// of a closed set is there from the start, at zero.
type collector struct {
	s      *Server
	single containerMetrics // of single ones

	connections, subscribers, containers, bound, images *prometheus.Desc
	accepted, shed, taken, pauses                       *prometheus.Desc
	identified, rejected, closed                        *prometheus.Desc
	requests, published, delivered, missed, overrun     *prometheus.Desc
	quotaWaits, quotaRefused, quotaWaiting              *prometheus.Desc
	sent                                                *prometheus.Desc
	ringBytes, duration, delay, lag                     *prometheus.Desc
}

// Collector returns the server's metrics, named devlxd_*.
func (s *Server) Collector() prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("devlxd_"+name, help, labels, nil)
	}
	return &collector{
		s:           s,
		single:      newContainerMetrics(),
		connections: desc("connections", "Open guest connections."),
		subscribers: desc("subscribers", "Event subscriptions."),
		containers:  desc("containers", "Registered containers."),
		bound:       desc("containers_running", "Containers bound to a running init process."),
		images:      desc("images", "Registered images."),
		accepted:    desc("connections_accepted_total", "Guest connections accepted."),
		shed:        desc("connections_shed_total", "Of those accepted, refused like the last one of the same process before it was looked at who they are."),
		taken:       desc("connections_taken_over_total", "Guest connections taken over from a predecessor process in an upgrade."),
		pauses:      desc("accept_pauses_total", "Times that accepting paused because descriptors or memory ran out or the connection limit was reached."),
		identified:  desc("identifications_total", "Peers by what the search for their container came to last, and by what it found.", "path", "result"),
		rejected:    desc("peers_rejected_total", "Peers that were refused, whatever the search came to.", "reason"),
		closed:      desc("connections_closed_total", "Guest connections closed.", "reason"),
		quotaWaits:  desc("quota_waits_total", "Times that a connection waited because its container was at its quota.", "quota"),
		quotaRefused: desc("quota_refused_total", "Connections and event subscriptions that were answered 500 because their container was at its quota.",
			"quota"),
		quotaWaiting: desc("quota_waiting", "Connections that wait because their container is at its quota.", "quota"),
		sent:         desc("sent_bytes_total", "Bytes of answers and events that were written to guests."),
		requests:     desc("requests_total", "Requests answered.", "route", "code"),
		published:    desc("events_published_total", "Events published to rings.", "type"),
		delivered:    desc("events_delivered_total", "Events written to subscribers.", "type"),
		missed: desc("events_lost_total", "Events that subscribers asked for and did not get, by why their connection ended.",
			"type", "reason"),
		overrun: desc("subscribers_overrun_total", "Subscribers that were told that they lost events because they were too slow."),
		duration: desc("request_duration_seconds", "Time from reading the last byte of a request to handing its answer, or as much of it as "+
			"the socket takes, to the kernel. The time that it waited for a quota is apart."),
		delay:     desc("event_delivery_delay_seconds", "Time from the change that made an event to handing it to the kernel, for each subscriber of that time."),
		lag:       desc("loop_lag_seconds", "How late event loops served their timer, which ticks while there are connections."),
		ringBytes: desc("ring_bytes", "Bytes of encoded events held in rings."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	sum := func(of func(*loopStats) uint64) (total uint64) {
		for _, l := range c.s.loops {
			total += of(l.stats)
		}
		return total
	}
	st := c.s.reg.Stats()
	gauge(c.connections, float64(c.s.open.Load()))
	gauge(c.subscribers, float64(c.s.Subscribers()))
	gauge(c.containers, float64(st.Containers))
	gauge(c.bound, float64(st.Bound))
	gauge(c.images, float64(st.Images))
	gauge(c.ringBytes, float64(st.RingBytes))
	counter(c.accepted, sum(func(s *loopStats) uint64 { return s.accepted.Load() }))
	counter(c.shed, sum(func(s *loopStats) uint64 { return s.shed.Load() }))
	counter(c.taken, sum(func(s *loopStats) uint64 { return s.takenOver.Load() }))
	counter(c.pauses, sum(func(s *loopStats) uint64 { return s.acceptPauses.Load() }))
	counter(c.overrun, sum(func(s *loopStats) uint64 { return s.lost.Load() }))
	counter(c.sent, sum(func(s *loopStats) uint64 { return s.sent.Load() }))
	for i, r := range peer.AllRejects() {
		var rejected uint64
		for p, path := range peer.AllPaths() {
			n := sum(func(s *loopStats) uint64 { return s.identified[p][i].Load() })
			counter(c.identified, n, path.String(), resultLabel(r))
			rejected += n
		}
		if r != peer.RejectNone {
			counter(c.rejected, rejected, r.String())
		}
	}
	for i, r := range AllCloseReasons() {
		counter(c.closed, sum(func(s *loopStats) uint64 { return s.closed[i].Load() }), r.String())
	}
	for _, q := range registry.AllLimits() {
		counter(c.quotaWaits, sum(func(s *loopStats) uint64 { return s.quotaWaits[q].Load() }), q.String())
		counter(c.quotaRefused, sum(func(s *loopStats) uint64 { return s.quotaRefused[q].Load() }), q.String())
		var waiting int64
		for _, l := range c.s.loops {
			waiting += l.stats.quotaWaiting[q].Load()
		}
		ch <- prometheus.MustNewConstMetric(c.quotaWaiting, prometheus.GaugeValue, float64(waiting), q.String())
	}
	for r := range numRoutes {
		for i, code := range statusCodes {
			counter(c.requests, sum(func(s *loopStats) uint64 { return s.requests[r][i].Load() }), r.String(), strconv.Itoa(code))
		}
	}
	for i, t := range registry.AllEventTypes() {
		counter(c.published, st.Published(t), t.String())
		counter(c.delivered, sum(func(s *loopStats) uint64 { return s.delivered[i].Load() }), t.String())
		for j, r := range AllCloseReasons() {
			counter(c.missed, sum(func(s *loopStats) uint64 { return s.missed[i][j].Load() }), t.String(), r.String())
		}
	}
	c.single.collect(ch, c.s)
	ch <- sumHistograms(c.duration, c.s.loops, func(s *loopStats) *histogram { return &s.duration })
	ch <- sumHistograms(c.delay, c.s.loops, func(s *loopStats) *histogram { return &s.delay })
	ch <- sumHistograms(c.lag, c.s.loops, func(s *loopStats) *histogram { return &s.lag })
}

// resultLabel says what became of a peer: the reason why it was refused, or that
// its container is known.
func resultLabel(r peer.Reject) string {
	if r == peer.RejectNone {
		return "identified"
	}
	return r.String()
}

// Connections is the number of open guest connections.
func (s *Server) Connections() int64 { return s.open.Load() }

// ConnectionLimit is how many guest connections may be open; those beyond it wait in the backlog.
func (s *Server) ConnectionLimit() int64 { return s.maxConnections() }

// LoopConnections is how many connections each loop holds, by the number of the
// loop. It waits for no loop, so that it also tells of one that is stuck.
func (s *Server) LoopConnections() []int {
	list := make([]int, len(s.loops))
	for i, l := range s.loops {
		list[i] = l.stats.open()
	}
	return list
}

// Subscribers is the number of event subscriptions.
func (s *Server) Subscribers() (n int64) {
	for _, l := range s.loops {
		n += l.stats.subscribers.Load()
	}
	return n
}

// Loops is the number of event loops.
func (s *Server) Loops() int { return len(s.loops) }

// Totals are the sums of counters over all loops since the start.
type Totals struct {
	Accepted  uint64 // connections
	Refused   uint64 // connections whose peer was not a container's root
	Requests  uint64 // answered
	Delivered uint64 // events, each subscriber's counted
	Overrun   uint64 // subscribers that were told that they lost events
}

// Totals reads the counters.
func (s *Server) Totals() (t Totals) {
	for _, l := range s.loops {
		t.Accepted += l.stats.accepted.Load()
		for i := range l.stats.delivered {
			t.Delivered += l.stats.delivered[i].Load()
		}
		t.Overrun += l.stats.lost.Load()
		for _, byReject := range l.stats.identified {
			for i := range byReject {
				if peer.Reject(i) != peer.RejectNone {
					t.Refused += byReject[i].Load()
				}
			}
		}
		for r := range l.stats.requests {
			for i := range l.stats.requests[r] {
				t.Requests += l.stats.requests[r][i].Load()
			}
		}
	}
	return t
}
