package registry_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"devlxd/registry"
)

func boundRegistry(b *testing.B, n int) *registry.Registry {
	b.Helper()
	r := registry.New(registry.Options{})
	for i := range n {
		name := "c" + strconv.Itoa(i)
		put(b, r, registry.Spec{Name: name, Config: config{"user.a": "1"}})
		if _, err := r.Bind(name, registry.Identity{CgroupID: uint64(1000 + i), PidNSIno: uint64(1000 + i)}); err != nil {
			b.Fatal(err)
		}
	}
	return r
}

// BenchmarkLookupCgroup: quiet, and while one writer restarts about a thousand containers a second.
func BenchmarkLookupCgroup(b *testing.B) {
	for _, n := range []int{5000, 100_000} {
		for _, churn := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/churn=%v", n, churn), func(b *testing.B) {
				r := boundRegistry(b, n)
				var done, stopped atomic.Bool
				if churn {
					go func() {
						defer stopped.Store(true)
						for i := 0; !done.Load(); i = (i + 1) % n {
							time.Sleep(time.Millisecond)
							name := "c" + strconv.Itoa(i)
							c, _ := r.Container(name)
							r.Stop(c.Binding())
							r.Bind(name, registry.Identity{CgroupID: uint64(1000 + i), PidNSIno: uint64(1000 + i)})
						}
					}()
				} else {
					stopped.Store(true)
				}
				order := rand.Perm(n)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					r.LookupCgroup(uint64(1000 + order[i%n]))
				}
				done.Store(true)
				for !stopped.Load() {
					time.Sleep(time.Millisecond)
				}
			})
		}
	}
}

func BenchmarkSnapshotLookup(b *testing.B) {
	spec := registry.Spec{Name: "c1", Config: config{}}
	for i := range 20 {
		spec.Config["user.key-"+strconv.Itoa(i)] = "value"
	}
	s := put(b, registry.New(registry.Options{}), spec).Snapshot()
	key := []byte("user.key-7")
	b.ReportAllocs()
	for b.Loop() {
		s.Lookup(key)
	}
}

// BenchmarkPublish: one Put of one changed key, with that many cursors in the ring.
func BenchmarkPublish(b *testing.B) {
	for _, cursors := range []int{0, 1, 100, 10_000} {
		b.Run(fmt.Sprintf("cursors=%d", cursors), func(b *testing.B) {
			r, binding := running(b, registry.Options{})
			held := make([]registry.Cursor, cursors)
			for i := range held {
				held[i] = binding.Ring().Subscribe(bothTypes)
			}
			specs := [2]registry.Spec{
				{Name: "c1", Config: config{"user.a": "before"}}, {Name: "c1", Config: config{"user.a": "after"}},
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				r.Put(specs[i%2])
			}
		})
	}
}

// BenchmarkFanOut: one event, read by each of that many cursors; ns/read is the cost per subscriber.
func BenchmarkFanOut(b *testing.B) {
	for _, cursors := range []int{1, 10, 100, 1000, 10_000} {
		b.Run(fmt.Sprintf("cursors=%d", cursors), func(b *testing.B) {
			ring, publish := registry.NewTestRing(registry.Options{})
			held := make([]registry.Cursor, cursors)
			for i := range held {
				held[i] = ring.Subscribe(bothTypes)
			}
			payload := []byte("{}\n")
			b.ReportAllocs()
			for b.Loop() {
				publish(registry.EventConfig, payload)
				for i := range held {
					if event, err := ring.Next(&held[i]); event == nil || err != nil {
						b.Fatal(event, err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(cursors), "ns/read")
		})
	}
}

// BenchmarkPut: a new container of 5 keys and a device, one changed key of it, and one that says nothing new.
func BenchmarkPut(b *testing.B) {
	spec := func(role string) registry.Spec {
		return registry.Spec{Name: "c1", InstanceID: "id", Config: config{
			"user.role": role, "user.rack": "7", "user.owner": "team-a", "security.devlxd.images": "true", "cloud-init.user-data": "#cloud-config\n",
		}, Devices: devices{"eth0": {"type": "nic", "name": "eth0", "network": "lxdbr0"}}}
	}
	b.Run("new", func(b *testing.B) {
		r := registry.New(registry.Options{MaxContainers: 1 << 30})
		s := spec("web")
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			s.Name = "c" + strconv.Itoa(i)
			r.Put(s)
		}
	})
	b.Run("changed", func(b *testing.B) {
		r := registry.New(registry.Options{})
		specs := [2]registry.Spec{spec("web"), spec("db")}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			r.Put(specs[i%2])
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		r := registry.New(registry.Options{})
		s := spec("web")
		b.ReportAllocs()
		for b.Loop() {
			r.Put(s)
		}
	})
}

func BenchmarkAppendJSONString(b *testing.B) {
	for name, s := range map[string]string{"ascii": "an ordinary value of some length", "mixed": "größe \"1\"\n日本"} {
		b.Run(name, func(b *testing.B) {
			dst := make([]byte, 0, 256)
			b.ReportAllocs()
			for b.Loop() {
				dst = registry.AppendJSONString(dst[:0], s)
			}
		})
	}
}
