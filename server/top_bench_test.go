package server

import (
	"fmt"
	"testing"

	"devlxd/registry"
	"devlxd/registry/registrytest"
)

// BenchmarkTop is what a look costs on a host with many containers, each of which has connected: for "devlxd top", and for a scrape of the
// metrics of the busiest ones.
func BenchmarkTop(b *testing.B) {
	const containers = 100_000
	r := newIdleRig(b, Options{Loops: 1, MaxContainers: containers})
	var host registrytest.Host
	for i := range containers {
		bind := host.Start(b, r.reg, registry.Spec{Name: fmt.Sprint("c", i)})
		r.srv.accountOf(bind).requests.Add(uint64(i * 7919 % 1000))
	}
	b.Run("top", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r.srv.Top(RankRequests, 20)
		}
	})
	b.Run("scrape", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r.srv.busiest(20)
		}
	})
}
