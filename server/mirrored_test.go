package server

import (
	"sync/atomic"
	"testing"

	"devlxd/registry"
)

// TestHostname: a container whose name here is not its own is told its own.
func TestHostname(t *testing.T) {
	for d, want := range map[Dialect]string{
		DialectDocument: "#cloud-config\ninstance-id: c1\nlocal-hostname: c1\n", DialectLXD: "instance-id: id\nlocal-hostname: c1\n",
	} {
		r := newRig(t, Options{Dialect: d})
		r.container("p1_c1", nil)
		r.update("p1_c1", func(s *registry.Spec) { s.Hostname, s.InstanceID = "c1", "id" })
		if got := r.dial("p1_c1").get("/1.0/meta-data").body; got != want {
			t.Errorf("%s: meta-data %q; want %q", d, got, want)
		}
	}
}

// TestStateSet: whoever wants to know is told of each state that a guest sets, after it is set, and of no other request.
func TestStateSet(t *testing.T) {
	var told, ready atomic.Int32
	r := newRig(t, Options{StateSet: func(b *registry.Binding) {
		told.Add(1)
		if b.Ready() {
			ready.Add(1)
		}
	}})
	r.container("c1", nil)
	c := r.dial("c1")
	for _, request := range []string{patch(`{"state":"Ready"}`), patch(`{"state":"Started"}`), patch(`{"state":"Running"}`), patch(``)} {
		c.send(request)
		c.answer("PATCH")
	}
	c.get("/1.0")
	if told.Load() != 2 || ready.Load() != 1 {
		t.Errorf("told of %d states, %d of them Ready; want 2 and 1", told.Load(), ready.Load())
	}
}
