package registry_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"devlxd/registry"
	"devlxd/registry/registrytest"
)

// secretsOf is a container whose secret has a value, with the guest API open or closed.
func secretsOf(secret, access string) registry.Spec {
	return registry.Spec{Name: "c1", Config: config{"user.secret": secret, "security.devlxd": access}, Devices: devices{secret: {"type": "none"}}}
}

// TestNothingIsToldWithoutAccess: of what is set while the guest API is closed, in the changes that close and open it included, no subscriber
// gets an event, be it from before or from after, and no position leads there.
func TestNothingIsToldWithoutAccess(t *testing.T) {
	var host registrytest.Host
	r := registry.New(registry.Options{})
	b := host.Start(t, r, secretsOf("a", "true"))
	old := b.Ring()
	before, cursor := old.Position(), old.Subscribe(bothTypes)
	put(t, r, secretsOf("b", "true"))
	unread := old.Subscribe(bothTypes) // has nothing to read
	put(t, r, secretsOf("secret1", "false"))
	if e, err := old.Next(&cursor); e != nil || err != registry.ErrRevoked {
		t.Errorf("Next after access was closed = %v, %v; want ErrRevoked, also where an event is unread", e, err)
	}
	put(t, r, secretsOf("secret2", "false"))
	put(t, r, secretsOf("c", "true"))
	for name, c := range map[string]*registry.Cursor{"with unread events": &cursor, "without": &unread} {
		if e, err := old.Next(c); e != nil || err != registry.ErrRevoked {
			t.Errorf("%s: Next when access is back = %v, %v; want ErrRevoked for ever", name, e, err)
		}
	}
	if p := old.Position(); p.Offset != before.Offset+3 {
		t.Errorf("the ring went on to offset %d; want the 3 events of the one change with access", p.Offset)
	}

	next := b.Ring()
	if next == old || next.Epoch() == old.Epoch() || next.Position().Offset != 0 || next.Revoked() || !old.Revoked() {
		t.Errorf("ring %v at %v after %v; want another, empty one", next, next.Position(), old.Position())
	}
	for _, p := range []registry.Position{before, old.Position()} {
		if _, err := next.Resume(p, bothTypes); err != registry.ErrGone {
			t.Errorf("Resume from %v = %v; want ErrGone", p, err)
		}
		if _, err := old.Resume(p, bothTypes); err != registry.ErrRevoked {
			t.Errorf("Resume in the revoked ring = %v; want ErrRevoked", err)
		}
	}
	fresh := next.Subscribe(bothTypes)
	put(t, r, secretsOf("d", "true"))
	var got []string
	for _, e := range registrytest.Drain(t, next, &fresh) {
		got = append(got, describe(t, e))
	}
	if want := []string{"user.secret|c|d", `removed|c|{"type":"none"}`, `added|d|{"type":"none"}`}; !slices.Equal(got, want) {
		t.Errorf("events when access is back: %q; want %q", got, want)
	}
	if s := r.Stats(); s.Rings != 1 || s.ConfigEvents != 2 || s.DeviceEvents != 4 {
		t.Errorf("Stats = %+v; want one ring and the events of two changes", s)
	}
}

// TestRingWithoutAccess: a ring that is asked for while the guest API is closed is over from the start, and counts nowhere.
func TestRingWithoutAccess(t *testing.T) {
	var host registrytest.Host
	r := registry.New(registry.Options{})
	b := host.Start(t, r, secretsOf("a", "false"))
	ring := b.Ring()
	cursor := ring.Subscribe(bothTypes)
	if _, err := ring.Next(&cursor); !ring.Revoked() || err != registry.ErrRevoked {
		t.Errorf("Revoked = %v, Next = %v; want it revoked", ring.Revoked(), err)
	}
	if _, ok := r.ExportRing(b); ok || r.Stats().Rings != 0 {
		t.Errorf("exported %v, %d rings; want none", ok, r.Stats().Rings)
	}
	state := registry.RingState{Epoch: 1}
	if err := r.RestoreRing(b, state); err != registry.ErrRevoked {
		t.Errorf("RestoreRing = %v; want ErrRevoked", err)
	}
	put(t, r, secretsOf("a", "true"))
	if err := r.RestoreRing(b, state); err != nil || b.Ring().Epoch() != 1 {
		t.Errorf("RestoreRing with access = %v, epoch %d", err, b.Ring().Epoch())
	}
	put(t, r, secretsOf("a", "false"))
	r.Stop(b)
	if s := r.Stats(); s.Rings != 0 || s.RingBytes != 0 {
		t.Errorf("Stats = %+v; want no ring", s)
	}
}

// TestSubscribersRaceWithRevocation: readers come while access is closed and opened; none sees what was there without access, and the ring of
// one that is not told holds all that was changed with access.
func TestSubscribersRaceWithRevocation(t *testing.T) {
	const rounds, readers = 2000, 4
	var host registrytest.Host
	r := registry.New(registry.Options{})
	b := host.Start(t, r, secretsOf("a", "true"))
	stop := make(chan struct{})
	var running sync.WaitGroup
	for range readers {
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if e := firstEvent(b.Ring()); e != nil && strings.Contains(string(e.Payload(false)), "secret") {
					t.Errorf("a subscriber was told %s", e.Payload(false))
					return
				}
			}
		})
	}
	for n := range rounds {
		put(t, r, registry.Spec{Name: "c1", Config: config{"user.a": fmt.Sprint("secret", n), "security.devlxd": "false"}})
		put(t, r, registry.Spec{Name: "c1", Config: config{"user.a": fmt.Sprint(n)}})
		put(t, r, registry.Spec{Name: "c1", Config: config{"user.a": fmt.Sprint(n, " again")}})
	}
	close(stop)
	running.Wait()
	ring := b.Ring()
	cursor := ring.Subscribe(bothTypes)
	put(t, r, registry.Spec{Name: "c1", Config: config{"user.a": "last"}})
	if got := registrytest.Drain(t, ring, &cursor); len(got) != 1 || r.Stats().Rings != 1 {
		t.Errorf("%d events in one of %d rings at the end; want 1 in 1", len(got), r.Stats().Rings)
	}
}

// firstEvent subscribes and looks a few times.
func firstEvent(ring *registry.Ring) *registry.Event {
	cursor := ring.Subscribe(bothTypes)
	for range 50 {
		if e, err := ring.Next(&cursor); e != nil || err != nil {
			return e
		}
		runtime.Gosched()
	}
	return nil
}

// revokeObserver notes the order of what it is told.
type revokeObserver struct{ calls []string }

func (o *revokeObserver) Stopped(*registry.Binding) {}
func (o *revokeObserver) Revoked(c *registry.Container) {
	o.calls = append(o.calls, fmt.Sprintf("revoked, allowed %v", c.Snapshot().Allowed()))
}

// TestRevokedBeforeWake: a server knows that it has streams to end before a reader is woken to look for events.
func TestRevokedBeforeWake(t *testing.T) {
	var host registrytest.Host
	o := &revokeObserver{}
	r := registry.New(registry.Options{Observer: o})
	ring := host.Start(t, r, secretsOf("a", "true")).Ring()
	watch := ring.Watch(func() { o.calls = append(o.calls, fmt.Sprintf("woken, revoked %v", ring.Revoked())) })
	defer watch.Close()
	put(t, r, secretsOf("secret", "false"))
	if want := []string{"revoked, allowed false", "woken, revoked true"}; !slices.Equal(o.calls, want) {
		t.Errorf("calls %q; want %q", o.calls, want)
	}
}
