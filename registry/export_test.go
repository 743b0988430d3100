package registry

// NewTestRing returns a ring without a registry and a function that appends one event and wakes its watches.
func NewTestRing(o Options) (ring *Ring, publish func(t EventType, payload []byte)) {
	o.fill()
	ring = newRing(&o, newEpoch(), 0)
	return ring, func(t EventType, payload []byte) {
		ring.append(draft{typ: t, payload: payload})
		ring.wake()
	}
}

// Slots returns how many slots the ring has.
func (r *Ring) Slots() int { return len(r.slots.Load().slots) }

// Held returns how many events the ring holds; for the writer's goroutine.
func (r *Ring) Held() int { return r.held() }

// Charge returns what the events in the ring are charged; for the writer's goroutine.
func (r *Ring) Charge() int64 { return r.bytes }

// Exported for tests of the bounds.
const (
	EventOverhead = eventOverhead
	MaxLeaves     = maxLeaves
	FirstSlots    = firstSlots
)
