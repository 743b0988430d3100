package lxd

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestMetrics: every label of a closed set is there before anything has happened, and the age says that nothing is known.
func TestMetrics(t *testing.T) {
	r := newRig(t, nil)
	m, _ := r.mirror()
	problems, err := testutil.CollectAndLint(m.Collector())
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	gatherer := prometheus.NewRegistry()
	gatherer.MustRegister(m.Collector())
	families, err := gatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{
		"devlxd_mirror_events_total": int(numResources), "devlxd_mirror_reads_total": int(numReads), "devlxd_mirror_lists_total": int(numReads),
		"devlxd_mirror_binds_total": int(numBinds), "devlxd_mirror_states_total": int(numStates), "devlxd_mirror_losses_total": int(numLosses),
		"devlxd_mirror_read_errors_total": int(numLosses), "devlxd_mirror_sessions_total": 1,
		"devlxd_mirror_connected": 1, "devlxd_mirror_age_seconds": 1, "devlxd_mirror_pending": 1, "devlxd_mirror_broken": 1, "devlxd_mirror_apply_seconds": 1,
	}
	for _, f := range families {
		if got := len(f.GetMetric()); got != want[f.GetName()] {
			t.Errorf("%s has %d series; want %d", f.GetName(), got, want[f.GetName()])
		}
		delete(want, f.GetName())
		for _, series := range f.GetMetric() {
			if strings.HasSuffix(f.GetName(), "_total") && series.GetCounter().GetValue() != 0 {
				t.Errorf("not zero at the start: %s %v", f.GetName(), series)
			}
			if f.GetName() == "devlxd_mirror_age_seconds" && series.GetGauge().GetValue() <= 0 {
				t.Error("a mirror that knows nothing has no age")
			}
		}
	}
	for name := range want {
		t.Errorf("%s is missing", name)
	}
}
