package fault

import "github.com/prometheus/client_golang/prometheus"

// collector exports a board.
type collector struct {
	b             *Board
	active, total *prometheus.Desc
}

// Collector returns the metrics of the board.
func (b *Board) Collector() prometheus.Collector {
	return &collector{
		b: b,
		active: prometheus.NewDesc("devlxd_fault_active", "Whether a condition of the host keeps devlxd from some of its work: 1 until what failed has worked again.",
			[]string{"fault"}, nil),
		total: prometheus.NewDesc("devlxd_faults_total", "Times that a condition of the host began to keep devlxd from some of its work.", []string{"fault"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	for _, k := range All() {
		active := 0.0
		if c.b.Active(k) {
			active = 1
		}
		ch <- prometheus.MustNewConstMetric(c.active, prometheus.GaugeValue, active, k.String())
		ch <- prometheus.MustNewConstMetric(c.total, prometheus.CounterValue, float64(c.b.Total(k)), k.String())
	}
}
