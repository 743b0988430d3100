package registrytest_test

import (
	"testing"

	"devlxd/registry"
	"devlxd/registry/registrytest"
)

func TestHelpersTogether(t *testing.T) {
	var host registrytest.Host
	var seen registrytest.Recorder
	r := registry.New(registry.Options{Observer: &seen})
	b := host.Start(t, r, registry.Spec{Name: "c1"})
	ring := b.Ring()
	cursor := ring.Subscribe(registry.EventConfig)
	if _, err := r.Put(registry.Spec{Name: "c1", Config: map[string]string{"user.a": "1"}}); err != nil {
		t.Fatal(err)
	}
	if got := registrytest.Payloads(registrytest.Drain(t, ring, &cursor)); len(got) != 1 {
		t.Errorf("drained %q; want one event", got)
	}
	if _, err := r.Put(registry.Spec{Name: "c1", Config: map[string]string{"security.devlxd": "false"}}); err != nil {
		t.Fatal(err)
	}
	if got := host.Open(); got != 1 {
		t.Errorf("Open = %d; want 1", got)
	}
	r.Stop(b)
	if got := host.Open(); got != 0 {
		t.Errorf("Open = %d after the stop; want 0", got)
	}
	if got := seen.AllStopped(); len(got) != 1 || got[0] != b {
		t.Errorf("AllStopped = %v; want the one binding", got)
	}
	if got := seen.AllRevoked(); len(got) != 1 || got[0] != b.Container() {
		t.Errorf("AllRevoked = %v; want the one container", got)
	}
	if one, two := host.Identity(), host.Identity(); one.CgroupID == two.CgroupID || one.PidNSIno == two.PidNSIno {
		t.Errorf("Identity gave an id twice: %+v, %+v", one, two)
	}
}
