package registry

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/puzpuzpuz/xsync/v4"
)

// maxLeaves is how many cgroups below its own a binding has cached at most. A guest can make them without end, so the oldest makes room.
const maxLeaves = 64

// pidNS names a pid namespace: device and inode of its nsfs file.
type pidNS struct{ dev, ino uint64 }

// Identity is what the kernel said about the init process of a container that starts.
type Identity struct {
	InitPID            int    // for people; never used to identify
	CgroupID           uint64 // cgroup v2 id of the container's own cgroup, 0 if it has none
	PidNSDev, PidNSIno uint64 // its pid namespace; the only proof where CgroupID is 0
	RootUID            uint32 // host uid that the container's root maps to
	Privileged         bool   // the container's root is the host's root
	Release            func() // lets go what keeps the ids from being reused; called once, at stop; nil: nothing
}

// Binding is one life of a container, from Bind to Stop. All of it but Ready, Dead and the ring is fixed. Safe for concurrent use.
type Binding struct {
	registry   *Registry
	container  *Container
	identity   Identity
	generation uint64
	since      time.Time

	dead  atomic.Bool
	ready atomic.Bool
	ring  atomic.Pointer[Ring] // nil until the first call of Ring, and while the guest API is closed to the container

	mu       sync.Mutex // guards leaves and attached, and that nothing is added to a dead binding or to one without access
	attached any        // see Attachment
	leaves   []uint64   // cached in Registry.cgroups, oldest first from evict on
	evict    int
}

// Container returns the container whose life this is.
func (b *Binding) Container() *Container { return b.container }

// InitPID returns the pid of the init process in the server's pid namespace, for people.
func (b *Binding) InitPID() int { return b.identity.InitPID }

// CgroupID returns the id of the container's own cgroup, 0 if it has none.
func (b *Binding) CgroupID() uint64 { return b.identity.CgroupID }

// PidNS returns device and inode of the pid namespace of the init process.
func (b *Binding) PidNS() (dev, ino uint64) { return b.identity.PidNSDev, b.identity.PidNSIno }

// RootUID returns the host uid that the container's root maps to.
func (b *Binding) RootUID() uint32 { return b.identity.RootUID }

// Privileged reports whether the container's root is the host's root.
func (b *Binding) Privileged() bool { return b.identity.Privileged }

// Generation returns a number that no other binding of this registry has; later ones are greater.
func (b *Binding) Generation() uint64 { return b.generation }

// Since returns when the binding was made.
func (b *Binding) Since() time.Time { return b.since }

// Dead reports whether the container has stopped. It never becomes false again.
func (b *Binding) Dead() bool { return b.dead.Load() }

// Ready reports the state that the guest has set (PATCH /1.0): true for Ready, false for Started, as at the beginning of each life.
func (b *Binding) Ready() bool { return b.ready.Load() }

// SetReady sets what Ready reports.
func (b *Binding) SetReady(ready bool) { b.ready.Store(ready) }

// Ring returns the ring of this life, made on the first call: events are kept from then on. It never waits for a writer.
// After the stop it still can be drained. When the guest API is closed to the container the ring is revoked, and the first call after
// access is back makes another one; a call in between returns one that is revoked already and belongs to the caller alone.
func (b *Binding) Ring() *Ring {
	if ring := b.ring.Load(); ring != nil {
		return ring
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if ring := b.ring.Load(); ring != nil {
		return ring
	}
	ring := newRing(&b.registry.options, newEpoch(), 0)
	// The snapshot is replaced before revoke looks at the ring, so that a ring of the time of access cannot be stored behind its back.
	if !b.container.Snapshot().Allowed() {
		ring.revoked.Store(true)
		return ring
	}
	return b.setRing(ring)
}

// Attachment returns what a server keeps beside this life of the container, made by the first call. It never waits for a writer but Stop of the
// same binding.
func (b *Binding) Attachment(make func() any) any {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.attached == nil {
		b.attached = make()
	}
	return b.attached
}

// revoke ends the ring, if there is one, and returns it: its watches are yet to be notified.
func (b *Binding) revoke() *Ring {
	b.mu.Lock()
	defer b.mu.Unlock()
	ring := b.ring.Swap(nil)
	if ring != nil {
		ring.revoked.Store(true)
		b.discount(ring)
	}
	return ring
}

// discount takes a ring that ends out of the gauges; b.mu is held.
func (b *Binding) discount(ring *Ring) {
	b.registry.rings.Add(-1)
	b.registry.ringBytes.Add(-ring.bytes)
}

// setRing stores and counts the first ring; b.mu is held.
func (b *Binding) setRing(ring *Ring) *Ring {
	if !b.dead.Load() {
		b.registry.rings.Add(1)
		b.registry.ringBytes.Add(ring.bytes)
	}
	b.ring.Store(ring)
	return ring
}

// Bind starts a life of the container: from now on its cgroup, or its pid namespace if it has no cgroup of its own, leads to the
// returned binding. Errors: ErrIdentity, ErrRootCgroup, ErrNotFound, ErrBound, ErrCgroupTaken, ErrPidNSTaken; Release is not called then.
func (r *Registry) Bind(name string, id Identity) (*Binding, error) {
	if id.CgroupID == 0 && id.PidNSIno == 0 {
		return nil, ErrIdentity
	}
	if id.CgroupID == 1 { // kernfs: the root node of each hierarchy
		return nil, ErrRootCgroup
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.containers.Load(name)
	if !ok {
		return nil, ErrNotFound
	}
	if c.Binding() != nil {
		return nil, ErrBound
	}
	b := &Binding{registry: r, container: c, identity: id, generation: r.generation + 1, since: r.options.Now()}
	if err := r.claim(b); err != nil {
		return nil, err
	}
	r.generation++
	r.bound.Add(1)
	c.binding.Store(b)
	return b, nil
}

// claim makes the identity of b lead to b. A pid namespace may be shared by containers that have cgroups, but not if it is the only
// proof of one of them.
func (r *Registry) claim(b *Binding) error {
	ns := pidNS{b.identity.PidNSDev, b.identity.PidNSIno}
	if b.identity.CgroupID == 0 {
		if r.pidNSUsers[ns] > 0 {
			return ErrPidNSTaken
		}
		r.pidNS.Store(ns, b)
	} else {
		if _, taken := r.pidNS.Load(ns); taken {
			return ErrPidNSTaken
		}
		taken := false
		r.cgroups.Compute(b.identity.CgroupID, func(other *Binding, loaded bool) (*Binding, xsync.ComputeOp) {
			// A leaf that was cached below another container gives way to the registered id.
			taken = loaded && other.identity.CgroupID == b.identity.CgroupID
			if taken {
				return other, xsync.CancelOp
			}
			return b, xsync.UpdateOp
		})
		if taken {
			return ErrCgroupTaken
		}
	}
	if ns.ino != 0 {
		r.pidNSUsers[ns]++
	}
	return nil
}

// Stop ends the life b: it is dead, nothing leads to it any more, its watches are notified, Release and then Observer.Stopped are
// called. It reports false, and does nothing, when b is nil, of another registry or dead already.
func (r *Registry) Stop(b *Binding) bool {
	if b == nil || b.registry != r {
		return false
	}
	r.mu.Lock()
	if b.Dead() {
		r.mu.Unlock()
		return false
	}
	r.unbind(b)
	r.mu.Unlock()
	r.afterStop(b)
	return true
}

// unbind makes b dead and forgets its identity; r.mu is held and b is alive.
func (r *Registry) unbind(b *Binding) {
	b.mu.Lock()
	b.dead.Store(true)
	if ring := b.ring.Load(); ring != nil {
		b.discount(ring)
	}
	for _, leaf := range b.leaves {
		r.dropCgroup(leaf, b)
	}
	b.leaves = nil
	b.mu.Unlock()
	ns := pidNS{b.identity.PidNSDev, b.identity.PidNSIno}
	if b.identity.CgroupID == 0 {
		r.pidNS.Delete(ns)
	} else {
		r.dropCgroup(b.identity.CgroupID, b)
	}
	if r.pidNSUsers[ns]--; r.pidNSUsers[ns] <= 0 {
		delete(r.pidNSUsers, ns)
	}
	r.bound.Add(-1)
	b.container.binding.Store(nil)
}

// afterStop does what needs no lock. Release comes after the lookups are gone: what it closes keeps the ids from being reused.
func (r *Registry) afterStop(b *Binding) {
	if ring := b.ring.Load(); ring != nil {
		ring.wake()
	}
	if b.identity.Release != nil {
		b.identity.Release()
	}
	r.options.Observer.Stopped(b)
}

// dropCgroup forgets a cgroup id if it leads to b.
func (r *Registry) dropCgroup(id uint64, b *Binding) {
	r.cgroups.Compute(id, func(other *Binding, loaded bool) (*Binding, xsync.ComputeOp) {
		if loaded && other == b {
			return nil, xsync.DeleteOp
		}
		return other, xsync.CancelOp
	})
}

// LookupCgroup returns the binding that owns the cgroup, or that a leaf was cached for. It never locks and allocates nothing. The
// binding may have died meanwhile: look at Dead last.
func (r *Registry) LookupCgroup(id uint64) (*Binding, bool) { return r.cgroups.Load(id) }

// LookupPidNS returns the binding of a container without a cgroup of its own that runs in the pid namespace. Otherwise as LookupCgroup.
func (r *Registry) LookupPidNS(dev, ino uint64) (*Binding, bool) {
	return r.pidNS.Load(pidNS{dev, ino})
}

// CacheLeaf makes a cgroup below the one of b lead to b, until b stops or 64 later ones have been cached. Never for a dead binding, nor
// for one without a cgroup of its own, nor in place of an id that leads somewhere already. It never waits for a writer but
// Stop of the same binding.
func (r *Registry) CacheLeaf(leaf uint64, b *Binding) {
	if b == nil || b.registry != r || b.identity.CgroupID == 0 || leaf <= 1 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dead.Load() {
		return
	}
	if _, loaded := r.cgroups.LoadOrStore(leaf, b); loaded {
		return
	}
	// A registration may have taken the id from this binding before; then it is in the list already.
	if slices.Contains(b.leaves, leaf) {
		return
	}
	if len(b.leaves) < maxLeaves {
		b.leaves = append(b.leaves, leaf)
		return
	}
	r.dropCgroup(b.leaves[b.evict], b)
	b.leaves[b.evict] = leaf
	b.evict = (b.evict + 1) % maxLeaves
}
