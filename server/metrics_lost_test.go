package server

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"devlxd/registry"
)

// lost is how many events of a type were missed by connections that ended for the reason.
func (r *rig) lost(t registry.EventType, reason CloseReason) (n uint64) {
	for _, l := range r.srv.loops {
		n += l.stats.missed[eventIndex(t)][reason].Load()
	}
	return n
}

func (r *rig) delivered(t registry.EventType) (n uint64) {
	for _, l := range r.srv.loops {
		n += l.stats.delivered[eventIndex(t)].Load()
	}
	return n
}

// TestLostEventsAreCounted: of what the subscribers asked for, each event is either delivered or lost, by type.
func TestLostEventsAreCounted(t *testing.T) {
	r := newRig(t, Options{Loops: 2, RingEvents: 8})
	r.container("c1", nil)
	for _, query := range []string{"", "?type=config", "?type=device"} {
		r.subscribe("c1", query)
	}
	const configs, devices = 40, 20
	// One change, so that the ring has moved on before anybody is woken.
	r.update("c1", func(s *registry.Spec) {
		s.Config, s.Devices = maps.Clone(s.Config), make(map[string]map[string]string)
		if s.Config == nil {
			s.Config = make(map[string]string)
		}
		for i := range configs {
			s.Config[fmt.Sprintf("user.%d", i)] = "1"
		}
		for i := range devices {
			s.Devices[fmt.Sprintf("eth%d", i)] = map[string]string{"type": "nic"}
		}
	})
	eventually(t, "all are told that they lost events", func() bool { return r.totalLost() == 3 })
	for event, want := range map[registry.EventType]uint64{registry.EventConfig: 2 * configs, registry.EventDevice: 2 * devices} {
		delivered, lost := r.delivered(event), r.lost(event, CloseOverrun)
		if delivered+lost != want || lost == 0 {
			t.Errorf("%s: %d delivered and %d lost; want %d together", event, delivered, lost, want)
		}
	}
}

// TestEventsUnderWayAreLost: what the ring still holds for a reader that is slow is lost to it when its container stops.
func TestEventsUnderWayAreLost(t *testing.T) {
	r := newRig(t, Options{Loops: 1, RingBytes: 64 << 20})
	b := r.container("c1", nil)
	fast, _ := r.subscribe("c1", "?type=config")
	r.subscribe("c1", "?type=config")
	const changes = 200
	value := strings.Repeat("x", 50<<10)
	for i := range changes {
		r.set("c1", "user.a", fmt.Sprint(i)+value)
	}
	for range changes {
		fast.event()
	}
	r.reg.Stop(b)
	if opcode, payload := fast.frame(); opcode != 8 {
		t.Fatalf("frame %d %q; want the close frame", opcode, payload)
	}
	fast.send(maskedClose)
	r.wantClosed(CloseStopped, 1) // the other one has a frame to take first
	delivered, lost := r.delivered(registry.EventConfig), r.lost(registry.EventConfig, CloseStopped)
	if delivered+lost != 2*changes || lost == 0 {
		t.Errorf("%d delivered and %d lost; want %d together", delivered, lost, 2*changes)
	}
	text := r.scrape()
	for _, want := range []string{
		fmt.Sprintf("devlxd_events_lost_total{reason=\"container_stopped\",type=\"config\"} %d\n", lost),
		"devlxd_events_lost_total{reason=\"container_stopped\",type=\"device\"} 0\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
