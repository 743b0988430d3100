package registry_test

import (
	"fmt"
	"runtime"
	"testing"
	"weak"

	"devlxd/registry"
	"devlxd/registry/registrytest"
)

const bothTypes = registry.EventConfig | registry.EventDevice

func TestRingGrowsAsNeeded(t *testing.T) {
	for _, tt := range []struct{ limit, publish, slots int }{
		{1024, 0, 16}, {1024, 16, 16}, {1024, 17, 32}, {1024, 600, 1024}, {1024, 3000, 1024}, {1000, 3000, 1024}, {3, 9, 4}, {1, 9, 1},
	} {
		t.Run(fmt.Sprintf("%d of %d", tt.publish, tt.limit), func(t *testing.T) {
			ring, publish := registry.NewTestRing(registry.Options{RingEvents: tt.limit})
			for range tt.publish {
				publish(registry.EventConfig, []byte("{}\n"))
			}
			if got := ring.Slots(); got != tt.slots {
				t.Errorf("%d slots; want %d", got, tt.slots)
			}
			if got := ring.Held(); got != min(tt.publish, tt.limit) {
				t.Errorf("%d events held; want %d", got, min(tt.publish, tt.limit))
			}
		})
	}
}

// TestOverrunIsForTheTypesAskedFor: a reader of devices is not told of lost config events, and one of both types is.
func TestOverrunIsForTheTypesAskedFor(t *testing.T) {
	ring, publish := registry.NewTestRing(registry.Options{RingEvents: 2})
	devices, both, none := ring.Subscribe(registry.EventDevice), ring.Subscribe(bothTypes), ring.Subscribe(0)
	start := ring.Position()
	for range 5 {
		publish(registry.EventConfig, []byte("{}\n"))
	}
	publish(registry.EventDevice, []byte("{}\n"))
	if got := registrytest.Drain(t, ring, &devices); len(got) != 1 || got[0].Offset() != 6 {
		t.Errorf("reader of devices got %v; want the event 6", got)
	}
	if got := registrytest.Drain(t, ring, &none); len(got) != 0 {
		t.Errorf("reader of nothing got %v", got)
	}
	for range 2 {
		if _, err := ring.Next(&both); err != registry.ErrOverrun {
			t.Errorf("Next = %v for a reader of both; want ErrOverrun", err)
		}
	}
	if _, err := ring.Resume(start, bothTypes); err != registry.ErrGone {
		t.Errorf("Resume of both = %v; want ErrGone", err)
	}
	again, err := ring.Resume(start, registry.EventDevice)
	if err != nil {
		t.Fatalf("Resume of devices = %v", err)
	}
	if got := registrytest.Drain(t, ring, &again); len(got) != 1 {
		t.Errorf("resumed reader of devices got %v; want the event 6", got)
	}
}

func TestResume(t *testing.T) {
	ring, publish := registry.NewTestRing(registry.Options{RingEvents: 4})
	other, _ := registry.NewTestRing(registry.Options{})
	for range 10 {
		publish(registry.EventConfig, []byte("{}\n"))
	}
	for _, tt := range []struct {
		name   string
		p      registry.Position
		events int // -1: gone
	}{
		{"head", registry.Position{Epoch: ring.Epoch(), Offset: 10}, 0},
		{"one back", registry.Position{Epoch: ring.Epoch(), Offset: 9}, 1},
		{"oldest held", registry.Position{Epoch: ring.Epoch(), Offset: 6}, 4},
		{"just fallen out", registry.Position{Epoch: ring.Epoch(), Offset: 5}, -1},
		{"start", registry.Position{Epoch: ring.Epoch()}, -1},
		{"ahead", registry.Position{Epoch: ring.Epoch(), Offset: 11}, -1},
		{"greatest", registry.Position{Epoch: ring.Epoch(), Offset: 1<<64 - 1}, -1},
		{"other epoch", registry.Position{Epoch: other.Epoch(), Offset: 10}, -1},
		{"zero", registry.Position{}, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cursor, err := ring.Resume(tt.p, bothTypes)
			if tt.events < 0 {
				if err != registry.ErrGone {
					t.Errorf("Resume = %v; want ErrGone", err)
				}
				return
			}
			if err != nil {
				t.Fatalf("Resume = %v", err)
			}
			if cursor.Offset() != tt.p.Offset || cursor.Types() != bothTypes {
				t.Errorf("cursor at %d for %b; want %d for both", cursor.Offset(), cursor.Types(), tt.p.Offset)
			}
			events := registrytest.Drain(t, ring, &cursor)
			if len(events) != tt.events {
				t.Fatalf("%d events; want %d", len(events), tt.events)
			}
			for i, event := range events {
				if want := tt.p.Offset + uint64(i) + 1; event.Offset() != want {
					t.Errorf("event %d has offset %d; want %d", i, event.Offset(), want)
				}
			}
		})
	}
}

func TestNewestEventIsAlwaysKept(t *testing.T) {
	ring, publish := registry.NewTestRing(registry.Options{RingBytes: 1000})
	cursor := ring.Subscribe(bothTypes)
	publish(registry.EventConfig, make([]byte, 5000))
	if got := registrytest.Drain(t, ring, &cursor); len(got) != 1 {
		t.Errorf("%d events; want the one that is larger than the ring", len(got))
	}
	publish(registry.EventConfig, []byte("{}\n"))
	if ring.Held() != 1 || ring.Charge() > 1000 {
		t.Errorf("ring holds %d events charged %d; want the small one only", ring.Held(), ring.Charge())
	}
}

// TestEventOutlivesItsSlot: a reader may go on writing an event that has left the ring, position variant included.
func TestEventOutlivesItsSlot(t *testing.T) {
	ring, publish := registry.NewTestRing(registry.Options{RingEvents: 1})
	cursor := ring.Subscribe(bothTypes)
	publish(registry.EventConfig, []byte("{}\n"))
	event := registrytest.Drain(t, ring, &cursor)[0]
	publish(registry.EventConfig, []byte("{1}\n"))
	if got, want := string(event.Payload(true)), fmt.Sprintf("{,\"position\":%q}\n", event.Position().String()); got != want {
		t.Errorf("Payload(true) = %q; want %q", got, want)
	}
}

// TestRingLetsGoOfWhatItDropped: one large event drives many small ones out, whose slots are not needed again for long.
func TestRingLetsGoOfWhatItDropped(t *testing.T) {
	ring, publish := registry.NewTestRing(registry.Options{RingBytes: 20_000})
	cursor := ring.Subscribe(bothTypes)
	var dropped []weak.Pointer[registry.Event]
	for range 10 {
		publish(registry.EventConfig, []byte("{}\n"))
		event, _ := ring.Next(&cursor)
		dropped = append(dropped, weak.Make(event))
	}
	publish(registry.EventConfig, make([]byte, 15_000))
	runtime.GC()
	for i, event := range dropped {
		if event.Value() != nil {
			t.Errorf("event %d is still held by the ring", i+1)
		}
	}
	runtime.KeepAlive(ring)
}

func TestEpochsDiffer(t *testing.T) {
	seen := map[uint64]bool{0: true}
	for range 1000 {
		ring, _ := registry.NewTestRing(registry.Options{})
		if seen[ring.Epoch()] {
			t.Fatalf("epoch %x is 0 or was given twice", ring.Epoch())
		}
		seen[ring.Epoch()] = true
	}
}
