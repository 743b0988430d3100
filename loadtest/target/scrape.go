package target

import (
	"context"
	"fmt"
	"net"
	"net/http"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// unixClient is a HTTP client of the server on a socket.
func unixClient(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}
}

// MaxPause is what the longest pause for garbage collection, in seconds, is called among the counters of a Go program.
const MaxPause = "go_gc_duration_seconds"

// scrape reads counters, gauges, and the counts and (NAME_sum) sums of histograms, each summed over its labels, and the largest value of a summary.
func scrape(ctx context.Context, c *http.Client, url string) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, fmt.Errorf("cannot read the server's metrics: %w", err)
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("cannot read the server's metrics: %w", err)
	}
	totals := make(map[string]float64)
	for name, family := range families {
		for _, m := range family.GetMetric() {
			totals[name] += value(m)
			if h := m.GetHistogram(); h != nil {
				totals[name+"_sum"] += h.GetSampleSum()
			}
		}
	}
	return totals, nil
}

// value is a counter's or a gauge's value, a histogram's count, and a summary's last quantile.
func value(m *dto.Metric) float64 {
	switch {
	case m.GetHistogram() != nil:
		return float64(m.GetHistogram().GetSampleCount())
	case m.GetCounter() != nil:
		return m.GetCounter().GetValue()
	case len(m.GetSummary().GetQuantile()) > 0:
		quantiles := m.GetSummary().GetQuantile()
		return quantiles[len(quantiles)-1].GetValue()
	}
	return m.GetGauge().GetValue()
}
