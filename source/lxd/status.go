package lxd

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"devlxd/internal/lxdapi"
)

// link is what is known of the connection to the daemon.
type link struct {
	up      bool
	since   time.Time // it is up, or down: then that is the age of what is served
	err     error     // why it is down
	socket  string
	name    string // of the daemon
	version string
	lost    uint64 // times that it was lost
}

// Status describes a mirror at one moment.
type Status struct {
	Address   string
	Socket    string // that was connected to last
	Server    string // what the daemon calls itself
	Version   string
	Connected bool
	// Age is for how long nothing was heard of the daemon: 0 while it is followed.
	Age time.Duration
	// Error is why it is not; nil while it is.
	Error error
	// Lost counts the connections that were lost.
	Lost uint64
	// Pending is how much is to be read, or being read, because the daemon has announced a change.
	Pending int
	// Broken is how much could not be mirrored, and BrokenError why, for one of them.
	Broken      int
	BrokenError error
}

// Status returns the state of the mirror.
func (m *Mirror) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := &m.link
	s := Status{
		Address: m.opts.Address.String(), Socket: l.socket, Server: l.name, Version: l.version, Connected: l.up, Error: l.err, Lost: l.lost,
		Broken: len(m.broken),
	}
	if !l.up {
		s.Age = time.Since(l.since)
	}
	if m.queue != nil {
		s.Pending = m.queue.len()
	}
	for _, err := range m.broken {
		s.BrokenError = err
	}
	return s
}

func (m *Mirror) connected(socket string, s *server, q *queue) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.link.up, m.link.since, m.link.err = true, time.Now(), nil
	m.link.socket, m.link.name, m.link.version = socket, s.Environment.Server, s.Environment.Version
	m.queue = q
	m.counts.up.Add(1)
	select {
	case <-m.listed:
	default:
		close(m.listed)
	}
	m.log.Info("mirror is up to date", "socket", socket, "server", s.Environment.Server, "version", s.Environment.Version, "containers", len(m.entries), "images", len(m.images))
}

func (m *Mirror) disconnected(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.link.up {
		m.link.up, m.link.since = false, time.Now()
		if !errors.Is(err, errSuspended) {
			m.link.lost++
		}
	}
	m.link.err, m.queue = err, nil
}

// The closed sets of what is counted, each a metric label from the start.
type (
	readResult  uint8
	bindResult  uint8
	stateResult uint8
	lossReason  uint8
)

const (
	readDone   readResult = iota
	readGone              // the instance was deleted
	readFailed            // it is tried again
	numReads
)

const (
	bindMonitor bindResult = iota // found and proved by the monitor of the instance
	bindAPI                       // the daemon was asked
	bindFailed                    // it is tried again
	numBinds
)

const (
	stateForwarded stateResult = iota
	stateRefused               // the daemon lets nobody set it
	stateFailed                // it is tried again
	numStates
)

const (
	lossAbsent lossReason = iota // there was no socket, or nobody behind it
	lossEnded                    // the daemon has closed the connection
	lossSilent                   // it did not answer in time
	lossAnswer                   // an answer could not be read
	lossOther
	numLosses
)

var (
	readLabels  = [numReads]string{"done", "gone", "failed"}
	bindLabels  = [numBinds]string{"monitor", "api", "failed"}
	stateLabels = [numStates]string{"forwarded", "refused", "failed"}
	lossLabels  = [numLosses]string{"absent", "ended", "silent", "answer", "other"}
)

// counts are of the life of the process. Safe for concurrent use.
type counts struct {
	events  [numResources]atomic.Uint64
	reads   [numReads]atomic.Uint64
	lists   [numReads]atomic.Uint64
	binds   [numBinds]atomic.Uint64
	states  [numStates]atomic.Uint64
	losses  [numLosses]atomic.Uint64
	errors  [numLosses]atomic.Uint64 // of what could not be read
	up      atomic.Uint64            // sessions in which all was read and changes were followed
	applied prometheus.Histogram
}

func newCounts() *counts {
	return &counts{applied: prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "devlxd_mirror_apply_seconds", Help: "Time from the announcement of a change until it was read and published.",
		Buckets: []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30},
	})}
}

// failed counts a read that failed among its results, and why.
func (c *counts) failed(results *[numReads]atomic.Uint64, err error) {
	results[readFailed].Add(1)
	c.errors[reasonOf(err)].Add(1)
}

// reasonOf says why a session ended or something could not be read.
func reasonOf(err error) lossReason {
	switch {
	case isAbsent(err):
		return lossAbsent
	case errors.Is(err, ErrEnded):
		return lossEnded
	case errors.Is(err, ErrSilent):
		return lossSilent
	case errors.Is(err, lxdapi.ErrAnswer):
		return lossAnswer
	}
	return lossOther
}

// collector exports a mirror.
type collector struct {
	m                                                                     *Mirror
	up, age, pending, broken, events, reads, lists, binds, states, losses *prometheus.Desc
	errors, sessions                                                      *prometheus.Desc
}

// Collector returns the metrics of the mirror.
func (m *Mirror) Collector() prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("devlxd_mirror_"+name, help, labels, nil)
	}
	return &collector{
		m:       m,
		up:      desc("connected", "Whether the daemon that is mirrored is followed."),
		age:     desc("age_seconds", "For how long the daemon that is mirrored was not followed: 0 while it is."),
		pending: desc("pending", "Things that are to be read because the daemon has announced a change."),
		broken:  desc("broken", "Things that could not be mirrored in several tries."),
		events:  desc("events_total", "Changes that the daemon has announced, by what they are about.", "resource"),
		reads:   desc("reads_total", "Instances that were read one by one, by what came of it.", "result"),
		lists:   desc("lists_total", "Lists of all instances or images that were read, by what came of it.", "result"),
		binds:   desc("binds_total", "Containers that were bound to their init process, by how it was found.", "by"),
		states:  desc("states_total", "States that guests have set, by what the daemon has made of them.", "result"),
		losses:  desc("losses_total", "Connections to the daemon that ended or did not come about, by the reason.", "reason"),
		errors:  desc("read_errors_total", "Instances and lists that could not be read, by the reason; they are tried again.", "reason"),
		sessions: desc("sessions_total", "Times that the daemon was connected to, everything was read and its changes were followed; the first is no "+
			"reconnection."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.m.Status()
	up := 0.0
	if s.Connected {
		up = 1
	}
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	gauge(c.up, up)
	gauge(c.age, s.Age.Seconds())
	gauge(c.pending, float64(s.Pending))
	gauge(c.broken, float64(s.Broken))
	counts := c.m.counts
	collect(ch, c.events, resourceLabels[:], counts.events[:])
	collect(ch, c.reads, readLabels[:], counts.reads[:])
	collect(ch, c.lists, readLabels[:], counts.lists[:])
	collect(ch, c.binds, bindLabels[:], counts.binds[:])
	collect(ch, c.states, stateLabels[:], counts.states[:])
	collect(ch, c.losses, lossLabels[:], counts.losses[:])
	collect(ch, c.errors, lossLabels[:], counts.errors[:])
	ch <- prometheus.MustNewConstMetric(c.sessions, prometheus.CounterValue, float64(counts.up.Load()))
	ch <- counts.applied
}

func collect(ch chan<- prometheus.Metric, d *prometheus.Desc, labels []string, values []atomic.Uint64) {
	for i := range labels {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(values[i].Load()), labels[i])
	}
}
