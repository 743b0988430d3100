package registry

import (
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/puzpuzpuz/xsync/v4"
)

// The defaults of Options.
const (
	DefaultRingEvents    = 1024
	DefaultRingBytes     = 4 << 20
	DefaultMaxContainers = 100_000
)

// Options configure a Registry. The zero value is ready to use.
type Options struct {
	// RenderValue makes the response for a config value and returns where the value starts in it; the response ends with the
	// value and is kept as it is, spare capacity included. It is called once for each value that changes. nil: the value itself, 0.
	RenderValue func(value string) (response []byte, body int)
	// Derive returns the answers that are not just the value of their key: Lookup finds them instead of it, rendered like values;
	// Value, Config and events do not know them. It is called for each snapshot that Put makes, before anybody sees it, with the one
	// that it replaces (an empty one for a new container); same keeps what was derived for that. It must not call the registry. nil: none.
	Derive func(s, old *Snapshot) (derived []KV, same bool)
	// FrameEvent makes what is sent for an event and returns where the payload starts in it; the frame ends with the payload and is
	// kept. It must be safe for concurrent use. nil: the payload itself, 0.
	FrameEvent func(payload []byte) (frame []byte, offset int)

	RingEvents    int // events that a ring holds at most; <= 0: DefaultRingEvents
	RingBytes     int // bytes that a ring is charged at most, the newest event apart; <= 0: DefaultRingBytes
	MaxContainers int // <= 0: DefaultMaxContainers

	Observer Observer         // nil: none
	Now      func() time.Time // stamps events and bindings; nil: time.Now
}

// Observer is told of the changes after which a server must close connections. It is called on the writer's goroutine, after the change
// is visible and with no lock held; it must not block, and may call the registry.
type Observer interface {
	// Stopped is called once for each binding that ends.
	Stopped(b *Binding)
	// Revoked is called when the guest API was closed to a container, running or not: before the watches of its ring, which is revoked by
	// then, are notified.
	Revoked(c *Container)
}

type noObserver struct{}

func (noObserver) Stopped(*Binding)   {}
func (noObserver) Revoked(*Container) {}

func (o *Options) fill() {
	if o.RenderValue == nil {
		o.RenderValue = func(value string) ([]byte, int) { return []byte(value), 0 }
	}
	if o.FrameEvent == nil {
		o.FrameEvent = func(payload []byte) ([]byte, int) { return payload, 0 }
	}
	if o.RingEvents <= 0 {
		o.RingEvents = DefaultRingEvents
	}
	if o.RingBytes <= 0 {
		o.RingBytes = DefaultRingBytes
	}
	if o.MaxContainers <= 0 {
		o.MaxContainers = DefaultMaxContainers
	}
	if o.Observer == nil {
		o.Observer = noObserver{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// Registry holds containers, their bindings and images. It is safe for concurrent use: lookups never lock and never wait for a writer;
// writers take turns.
type Registry struct {
	options Options
	started time.Time // zero of Clock

	containers *xsync.Map[string, *Container]
	cgroups    *xsync.Map[uint64, *Binding] // payload cgroups, and the leaves cached below them
	pidNS      *xsync.Map[pidNS, *Binding]  // of bindings without a cgroup only
	images     *xsync.Map[string, *Image]

	mu         sync.Mutex // serialises writers of containers and bindings
	generation uint64
	pidNSUsers map[pidNS]int // bindings that run in each pid namespace, with a cgroup or without

	bound     atomic.Int64
	rings     atomic.Int64
	ringBytes atomic.Int64
	published [eventTypes]atomic.Uint64
}

// New returns an empty registry.
func New(o Options) *Registry {
	o.fill()
	return &Registry{
		options:    o,
		started:    o.Now(),
		containers: xsync.NewMap[string, *Container](),
		cgroups:    xsync.NewMap[uint64, *Binding](),
		pidNS:      xsync.NewMap[pidNS, *Binding](),
		images:     xsync.NewMap[string, *Image](),
		pidNSUsers: make(map[pidNS]int),
	}
}

// Clock returns the time since New: monotonic where Options.Now is.
func (r *Registry) Clock() time.Duration { return r.options.Now().Sub(r.started) }

// Put adds a container, or replaces the whole state of one that has this name. If the container is running and has a ring, the
// differences become events: the new snapshot is visible before the first of them. Nothing becomes an event that leads to or from a state
// in which the guest API is closed to the container, and the ring ends with the access. What did not change is neither rendered again nor published.
// It returns ErrName, ErrFull or ErrRender, and then nothing has changed.
func (r *Registry) Put(spec Spec) (*Container, error) {
	if err := spec.validate(); err != nil {
		return nil, err
	}
	c, ring, revoked, err := r.put(&spec)
	if revoked {
		r.options.Observer.Revoked(c)
	}
	if ring != nil {
		ring.wake()
	}
	return c, err
}

// put does the locked part of Put. ring is not nil if it got events or was revoked.
func (r *Registry) put(spec *Spec) (c *Container, ring *Ring, revoked bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.containers.Load(spec.Name)
	if !ok {
		c, err = r.add(spec)
		return c, nil, false, err
	}
	old := c.Snapshot()
	if old.matches(spec) {
		return c, nil, false, nil
	}
	snapshot, err := r.options.buildSnapshot(c.name, spec, old)
	if err != nil {
		return nil, nil, false, err
	}
	// The snapshot first, then the look at the ring: who subscribes in between reads the new state, and nobody misses the change.
	c.snapshot.Store(snapshot)
	revoked = old.Allowed() && !snapshot.Allowed()
	if b := c.Binding(); b != nil {
		switch {
		case revoked:
			ring = b.revoke()
		case old.Allowed(): // else the event would tell what was set while access was closed
			ring = r.publish(b.ring.Load(), old, snapshot, spec.Same)
		}
	}
	return c, ring, revoked, nil
}

func (r *Registry) add(spec *Spec) (*Container, error) {
	if r.containers.Size() >= r.options.MaxContainers {
		return nil, ErrFull
	}
	c := &Container{name: strings.Clone(spec.Name)}
	snapshot, err := r.options.buildSnapshot(c.name, spec, &Snapshot{})
	if err != nil {
		return nil, err
	}
	c.snapshot.Store(snapshot)
	r.containers.Store(c.name, c)
	return c, nil
}

// publish appends the events between two snapshots, and returns the ring if there were any. Without a ring nobody can hold a
// position that the events would be missed from.
func (r *Registry) publish(ring *Ring, from, to *Snapshot, same func(a, b *Device) bool) *Ring {
	if ring == nil {
		return nil
	}
	now := r.options.Now()
	drafts := diff(from, to, now, same)
	if len(drafts) == 0 {
		return nil
	}
	for _, d := range drafts {
		d.at = now.Sub(r.started)
		r.ringBytes.Add(ring.append(d))
		r.published[d.typ.index()].Add(1)
	}
	return ring
}

// Remove stops the container if it is running, and forgets it. ErrNotFound: there is none of this name.
func (r *Registry) Remove(name string) error {
	r.mu.Lock()
	c, ok := r.containers.Load(name)
	if !ok {
		r.mu.Unlock()
		return ErrNotFound
	}
	b := c.Binding()
	if b != nil {
		r.unbind(b)
	}
	r.containers.Delete(name)
	r.mu.Unlock()
	if b != nil {
		r.afterStop(b)
	}
	return nil
}

// Container returns the container of this name. It never locks.
func (r *Registry) Container(name string) (*Container, bool) { return r.containers.Load(name) }

// Containers returns every container, sorted by name. Those added or removed meanwhile may be missing or present.
func (r *Registry) Containers() []*Container {
	containers := make([]*Container, 0, r.containers.Size())
	r.containers.Range(func(_ string, c *Container) bool {
		containers = append(containers, c)
		return true
	})
	slices.SortFunc(containers, func(a, b *Container) int { return strings.Compare(a.name, b.name) })
	return containers
}

// All gives every container, in no order and without a copy of the list. Those added or removed meanwhile may be missing or present.
func (r *Registry) All() iter.Seq[*Container] {
	return func(yield func(*Container) bool) {
		r.containers.Range(func(_ string, c *Container) bool { return yield(c) })
	}
}

// Len returns the number of containers.
func (r *Registry) Len() int { return r.containers.Size() }
