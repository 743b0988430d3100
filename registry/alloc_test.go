//go:build !race

// The race detector allocates on its own account, so these promises are checked without it.

package registry_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"devlxd/registry"
)

func TestReadersDoNotAllocate(t *testing.T) {
	r, b := running(t, registry.Options{})
	put(t, r, registry.Spec{Name: "c1", Config: config{"user.a": "1", "user.b": "2"}})
	put(t, r, registry.Spec{Name: "alone"})
	if _, err := r.Bind("alone", registry.Identity{PidNSDev: 4, PidNSIno: 7}); err != nil {
		t.Fatal(err)
	}
	ring, s := b.Ring(), b.Container().Snapshot()
	start := ring.Position()
	for i := range 500 {
		put(t, r, registry.Spec{Name: "c1", Config: config{"user.a": fmt.Sprint(i)}})
	}
	cursor, err := ring.Resume(start, bothTypes)
	if err != nil {
		t.Fatal(err)
	}
	head := ring.Subscribe(bothTypes)
	event, _ := ring.Next(&cursor)
	event.Frame(true)
	watch := ring.Watch(func() {})
	defer watch.Close()
	key, text := []byte("user.b"), []byte(start.String())
	build := func(*registry.Snapshot) []byte { return []byte("body") }
	s.Rendered(registry.RenderDevices, build)
	for name, f := range map[string]func(){
		"Next":           func() { ring.Next(&cursor) },
		"Next at head":   func() { ring.Next(&head) },
		"Overrun":        func() { ring.Overrun(&cursor) },
		"Subscribe":      func() { ring.Subscribe(bothTypes) },
		"Resume":         func() { ring.Resume(start, bothTypes) },
		"Position":       func() { ring.Position() },
		"Rearm":          func() { watch.Rearm() },
		"Frame":          func() { event.Frame(false); event.Frame(true) },
		"Payload":        func() { event.Payload(false); event.Payload(true) },
		"Ring":           func() { b.Ring() },
		"LookupCgroup":   func() { r.LookupCgroup(b.CgroupID()) },
		"LookupPidNS":    func() { r.LookupPidNS(4, 7) },
		"Container":      func() { r.Container("c1") },
		"Lookup":         func() { s.Lookup(key) },
		"Value":          func() { s.Value("user.b") },
		"Rendered":       func() { s.Rendered(registry.RenderDevices, build) },
		"ParsePosition":  func() { registry.ParsePosition(text) },
		"ParseTypes":     func() { registry.ParseTypes(text[:0]); registry.ParseTypes(key) },
		"cached leaf":    func() { r.CacheLeaf(b.CgroupID(), b) },
		"unchanged Put":  func() { r.Put(registry.Spec{Name: "alone"}) },
		"unknown cgroup": func() { r.LookupCgroup(1 << 50) },
	} {
		t.Run(name, func(t *testing.T) {
			if n := testing.AllocsPerRun(200, f); n != 0 {
				t.Errorf("%v allocations; want 0", n)
			}
		})
	}
}

// TestPublishDoesNotKnowItsCursors: what a publish allocates is the event, whatever reads it.
func TestPublishDoesNotKnowItsCursors(t *testing.T) {
	payload := []byte("{}\n")
	allocs := func(cursors, watches int) float64 {
		ring, publish := registry.NewTestRing(registry.Options{RingEvents: 16})
		held := make([]registry.Cursor, cursors)
		for i := range held {
			held[i] = ring.Subscribe(bothTypes)
		}
		for range watches {
			var w *registry.Watch
			w = ring.Watch(func() { w.Rearm() })
			defer w.Close()
		}
		n := testing.AllocsPerRun(200, func() { publish(registry.EventConfig, payload) })
		runtime.KeepAlive(held)
		return n
	}
	one := allocs(1, 1)
	if many := allocs(10_000, 16); one != 1 || many != one {
		t.Errorf("%v allocations for one cursor, %v for 10,000 cursors and 16 watches; want 1 each, the event", one, many)
	}
}

// bigSpec is a container as a host has thousands of: 5 keys and a network device.
func bigSpec(i int) (spec registry.Spec, configBytes int) {
	spec = registry.Spec{
		Name: fmt.Sprintf("container-%06d", i), InstanceID: fmt.Sprintf("6f9c0a3e-1f6a-4d2c-9d0e-%012d", i),
		Config: config{
			"user.role": "web", "user.rack": fmt.Sprint("rack-", i%40), "user.owner": "team-a", "security.devlxd.images": "true",
			"cloud-init.user-data": fmt.Sprintf("#cloud-config\nhostname: container-%06d\npackages: [curl, git]\n", i),
		},
		Devices: devices{"eth0": {"type": "nic", "name": "eth0", "network": "lxdbr0", "hwaddr": fmt.Sprintf("00:16:3e:%06x", i)}},
	}
	configBytes = len(spec.Name) + len(spec.InstanceID)
	for key, value := range spec.Config {
		configBytes += len(key) + len(value)
	}
	for name, device := range spec.Devices {
		configBytes += len(name)
		for key, value := range device {
			configBytes += len(key) + len(value)
		}
	}
	return spec, configBytes
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestMemoryPerContainer(t *testing.T) {
	const n, limit = 100_000, 1536
	specs, configBytes := make([]registry.Spec, n), 0
	for i := range specs {
		spec, size := bigSpec(i)
		specs[i], configBytes = spec, configBytes+size
	}
	before := heap()
	r := registry.New(registry.Options{})
	began := time.Now()
	for i := range specs {
		if _, err := r.Put(specs[i]); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(began)
	registered := heap() - before
	for i := range specs {
		if _, err := r.Bind(specs[i].Name, registry.Identity{CgroupID: uint64(1000 + i), PidNSDev: 4, PidNSIno: uint64(1000 + i)}); err != nil {
			t.Fatal(err)
		}
	}
	bound := heap() - before - registered
	var rings []*registry.Ring
	for _, c := range r.Containers()[:1000] {
		rings = append(rings, c.Binding().Ring())
	}
	idle := (heap() - before - registered - bound) / int64(len(rings))
	overhead := (registered - int64(configBytes)) / n
	t.Logf("%d containers in %v: %d bytes each beside %d bytes of config; bound: %d more; with an idle ring: %d more",
		n, took, overhead, configBytes/n, bound/n, idle)
	if overhead > limit {
		t.Errorf("%d bytes per container beside its config; want at most %d", overhead, limit)
	}
	runtime.KeepAlive(specs)
	runtime.KeepAlive(r)
}
