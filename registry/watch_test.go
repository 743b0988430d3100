package registry_test

import (
	"testing"

	"devlxd/registry"
	"devlxd/registry/registrytest"
)

func TestWatchOncePerRearm(t *testing.T) {
	ring, publish := registry.NewTestRing(registry.Options{})
	var first, second int
	w1 := ring.Watch(func() { first++ })
	w2 := ring.Watch(func() { second++ })
	event := func() { publish(registry.EventConfig, []byte("{}\n")) }
	for _, step := range []struct {
		name          string
		do            func()
		first, second int
	}{
		{"armed from the start", event, 1, 1},
		{"not again", event, 1, 1},
		{"rearm does not notify", w1.Rearm, 1, 1},
		{"only the rearmed one", event, 2, 1},
		{"rearm twice is once", func() { w2.Rearm(); w2.Rearm(); event(); event() }, 2, 2},
		{"closed", func() { w1.Rearm(); w1.Close(); event() }, 2, 2},
		{"closed is not rearmed", func() { w1.Rearm(); event() }, 2, 2},
		{"closed twice", func() { w1.Close(); w2.Rearm(); event() }, 2, 3},
		{"none left", func() { w2.Rearm(); w2.Close(); event() }, 2, 3},
	} {
		step.do()
		if first != step.first || second != step.second {
			t.Fatalf("%s: notified %d and %d times; want %d and %d", step.name, first, second, step.first, step.second)
		}
	}
}

func TestWatchOncePerPut(t *testing.T) {
	var host registrytest.Host
	r := registry.New(registry.Options{})
	ring := host.Start(t, r, registry.Spec{Name: "c1"}).Ring()
	notified := 0
	var w *registry.Watch
	w = ring.Watch(func() { notified++; w.Rearm() })
	defer w.Close()
	r.Put(registry.Spec{Name: "c1", Config: map[string]string{"user.a": "1", "user.b": "2", "user.c": "3"}})
	if notified != 1 {
		t.Errorf("notified %d times for one Put of three keys, rearmed at once; want once", notified)
	}
	r.Put(registry.Spec{Name: "c1", Config: map[string]string{"user.a": "1", "user.b": "2", "user.c": "3", "cloud-init.x": "y"}})
	if notified != 1 {
		t.Errorf("notified %d times; want no more for a change without events", notified)
	}
	r.Put(registry.Spec{Name: "c1", Config: map[string]string{"user.a": "2"}})
	if notified != 2 {
		t.Errorf("notified %d times; want once more, since the callback itself has rearmed", notified)
	}
}

// TestWatchMayCallTheRegistry: neither the callback of a watch nor an observer runs under a lock.
func TestWatchMayCallTheRegistry(t *testing.T) {
	var host registrytest.Host
	r := registry.New(registry.Options{})
	b := host.Start(t, r, registry.Spec{Name: "c1"})
	stopped := false
	w := b.Ring().Watch(func() { stopped = r.Stop(b) })
	defer w.Close()
	r.Put(registry.Spec{Name: "c1", Config: map[string]string{"user.a": "1"}})
	if !stopped || !b.Dead() {
		t.Errorf("Stop from the callback = %v, Dead = %v", stopped, b.Dead())
	}
}

func TestStopNotifiesAndRingDrains(t *testing.T) {
	var host registrytest.Host
	r := registry.New(registry.Options{})
	b := host.Start(t, r, registry.Spec{Name: "c1"})
	ring := b.Ring()
	cursor := ring.Subscribe(bothTypes)
	r.Put(registry.Spec{Name: "c1", Config: map[string]string{"user.a": "1"}})
	dead := false
	w := ring.Watch(func() { dead = b.Dead() })
	defer w.Close()
	r.Stop(b)
	if !dead {
		t.Error("the stop did not notify, or notified before the binding was dead")
	}
	r.Put(registry.Spec{Name: "c1", Config: map[string]string{"user.a": "2"}})
	if got := registrytest.Drain(t, ring, &cursor); len(got) != 1 {
		t.Errorf("%d events after the stop; want the one from before", len(got))
	}
}
