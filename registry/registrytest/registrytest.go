package registrytest

import (
	"slices"
	"sync"
	"testing"

	"devlxd/registry"
)

// firstID is above every id that has a meaning to the kernel or to the registry.
const firstID = 1000

// Host makes up identities as a kernel would: no id is ever given twice. The zero value is ready, and safe for concurrent use.
type Host struct {
	mu   sync.Mutex
	used uint64
	open int
}

// Identity returns the identity of a container with a cgroup and a pid namespace of its own and the root uid 100000.
func (h *Host) Identity() registry.Identity {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.used++
	h.open++
	id := firstID + h.used
	return registry.Identity{
		InitPID: int(id), CgroupID: id, PidNSDev: 4, PidNSIno: 4026532000 + id, RootUID: 100000, Release: h.release,
	}
}

func (h *Host) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open--
}

// Open returns how many of the identities have not been released. It is negative if one was released twice.
func (h *Host) Open() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open
}

// Start registers the container and binds it.
func (h *Host) Start(t testing.TB, r *registry.Registry, spec registry.Spec) *registry.Binding {
	t.Helper()
	if _, err := r.Put(spec); err != nil {
		t.Fatalf("Put(%q) = %v", spec.Name, err)
	}
	b, err := r.Bind(spec.Name, h.Identity())
	if err != nil {
		t.Fatalf("Bind(%q) = %v", spec.Name, err)
	}
	return b
}

// Recorder is an Observer that remembers what it was told. The zero value is ready, and safe for concurrent use.
type Recorder struct {
	mu      sync.Mutex
	stopped []*registry.Binding
	revoked []*registry.Container
}

// Stopped implements registry.Observer.
func (o *Recorder) Stopped(b *registry.Binding) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stopped = append(o.stopped, b)
}

// Revoked implements registry.Observer.
func (o *Recorder) Revoked(c *registry.Container) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.revoked = append(o.revoked, c)
}

// AllStopped returns the bindings that ended, in the order of the calls.
func (o *Recorder) AllStopped() []*registry.Binding {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.stopped)
}

// AllRevoked returns the containers that lost access, in the order of the calls.
func (o *Recorder) AllRevoked() []*registry.Container {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.revoked)
}

// Drain reads the cursor up to the newest event. It fails the test when an event was lost.
func Drain(t testing.TB, ring *registry.Ring, cursor *registry.Cursor) []*registry.Event {
	t.Helper()
	var events []*registry.Event
	for {
		event, err := ring.Next(cursor)
		if err != nil {
			t.Fatalf("Next = %v after %d events", err, len(events))
		}
		if event == nil {
			return events
		}
		events = append(events, event)
	}
}

// Payloads returns the JSON texts of the events.
func Payloads(events []*registry.Event) []string {
	texts := make([]string, 0, len(events))
	for _, event := range events {
		texts = append(texts, string(event.Payload(false)))
	}
	return texts
}
