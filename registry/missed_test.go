package registry_test

import (
	"runtime"
	"testing"

	"devlxd/registry"
)

// TestMissedWhileTheRingMoves: the count of what a cursor has not been given is exact to the event, also while a ring that holds but
// one event drops it for the next.
func TestMissedWhileTheRingMoves(t *testing.T) {
	ring, publish := registry.NewTestRing(registry.Options{RingEvents: 1})
	const each = 20_000
	from := ring.Subscribe(registry.EventConfig | registry.EventDevice)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range each {
			publish(registry.EventConfig, []byte("{}\n"))
			publish(registry.EventDevice, []byte("{}\n"))
			runtime.Gosched()
		}
	}()
	type late struct {
		cursor registry.Cursor
		passed uint64
	}
	var cursors []late
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		default:
		}
		config, device := ring.Missed(&from)
		if config != device && config != device+1 {
			t.Fatalf("missed %d config and %d device events of a sequence that takes turns", config, device)
		}
		c := ring.Subscribe(registry.EventConfig | registry.EventDevice)
		if len(cursors) < 1000 || len(cursors) < 10_000 && c.Offset() != cursors[len(cursors)-1].passed {
			cursors = append(cursors, late{c, c.Offset()})
		}
	}
	for _, c := range cursors {
		config, device := ring.Missed(&c.cursor)
		if wantConfig, wantDevice := each-(c.passed+1)/2, each-c.passed/2; config != wantConfig || device != wantDevice {
			t.Fatalf("after %d events: missed %d, %d; want %d, %d", c.passed, config, device, wantConfig, wantDevice)
		}
	}
}
