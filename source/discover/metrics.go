package discover

import (
	"io/fs"
	"sync/atomic"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
)

// counts are safe for concurrent use.
type counts struct {
	found, bound, failed [numRuntimes]atomic.Int64
	scans, overflows     atomic.Int64
}

// Collector gives the metrics of a Discovery.
func (d *Discovery) Collector() prometheus.Collector {
	return &collector{
		counts: &d.counts,
		found: prometheus.NewDesc("devlxd_discovered_containers", "Cgroups of containers that are there now, running or not.",
			[]string{"runtime"}, nil),
		binds: prometheus.NewDesc("devlxd_discovery_binds_total", "Containers that were found running: bound, or failed, which is tried again.",
			[]string{"runtime", "result"}, nil),
		scans:     prometheus.NewDesc("devlxd_discovery_scans_total", "How often the places of all runtimes were read.", nil, nil),
		overflows: prometheus.NewDesc("devlxd_discovery_overflows_total", "How often the kernel has dropped events of the cgroup tree.", nil, nil),
	}
}

type collector struct {
	counts                         *counts
	found, binds, scans, overflows *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	count := func(desc *prometheus.Desc, t prometheus.ValueType, n *atomic.Int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, t, float64(n.Load()), labels...)
	}
	for _, r := range Runtimes() {
		count(c.found, prometheus.GaugeValue, &c.counts.found[r], r.String())
		count(c.binds, prometheus.CounterValue, &c.counts.bound[r], r.String(), "bound")
		count(c.binds, prometheus.CounterValue, &c.counts.failed[r], r.String(), "failed")
	}
	count(c.scans, prometheus.CounterValue, &c.counts.scans)
	count(c.overflows, prometheus.CounterValue, &c.counts.overflows)
}

func statOf(info fs.FileInfo) (*syscall.Stat_t, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	return st, ok
}
