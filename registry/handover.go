package registry

// RingState is all that is needed to carry a ring over to a successor process, so that cursors and positions stay good there. It shares
// its bytes with the ring; they must not be changed.
type RingState struct {
	Epoch   uint64
	Head    uint64 // offset of the last event
	Evicted EvictedOffsets
	Events  []RingEvent // what the ring holds, oldest first; the offsets run up to Head
}

// EvictedOffsets are the offsets of the newest event of each type that has left the ring, 0 for none.
type EvictedOffsets struct{ Config, Device uint64 }

// RingEvent is one event of a RingState.
type RingEvent struct {
	Type    EventType
	Payload []byte
}

// ExportRing returns the state of the binding's ring; false when it has none. Nothing is published meanwhile; what is published later
// is missing, so the caller ends its sources first.
func (r *Registry) ExportRing(b *Binding) (RingState, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ring := b.ring.Load()
	if ring == nil {
		return RingState{}, false
	}
	s := RingState{Epoch: ring.epoch, Head: ring.head.Load(), Events: make([]RingEvent, 0, ring.held())}
	s.Evicted.Config = ring.evicted[EventConfig.index()].Load()
	s.Evicted.Device = ring.evicted[EventDevice.index()].Load()
	for offset := ring.first.Load(); offset <= s.Head; offset++ {
		e := ring.slots.Load().at(offset).Load()
		s.Events = append(s.Events, RingEvent{Type: e.typ, Payload: e.Payload(false)})
	}
	return s, true
}

// RestoreRing gives the binding a ring in the exported state, cut to this registry's bounds. It returns ErrRingState for a state that
// contradicts itself, ErrStopped for a dead binding, ErrRevoked where the guest API is closed to the container and ErrRingExists when
// someone has called Ring already. The ring keeps the payloads.
func (r *Registry) RestoreRing(b *Binding, s RingState) error {
	if !s.consistent() {
		return ErrRingState
	}
	ring := newRing(&r.options, s.Epoch, s.Head-uint64(len(s.Events)))
	ring.evicted[EventConfig.index()].Store(s.Evicted.Config)
	ring.evicted[EventDevice.index()].Store(s.Evicted.Device)
	for _, e := range s.Events {
		ring.append(draft{typ: e.Type, payload: e.Payload})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.dead.Load() || b.registry != r:
		return ErrStopped
	case !b.container.Snapshot().Allowed():
		return ErrRevoked
	case b.ring.Load() != nil:
		return ErrRingExists
	}
	b.setRing(ring)
	return nil
}

func (s *RingState) consistent() bool {
	held := uint64(len(s.Events))
	if s.Epoch == 0 || s.Head < held || s.Head == 1<<64-1 {
		return false
	}
	// Whatever is not held has left the ring, and the newest of that was of one type or the other.
	if max(s.Evicted.Config, s.Evicted.Device) != s.Head-held {
		return false
	}
	for _, e := range s.Events {
		if e.Type.String() == "" || len(e.Payload) < len(eventEnd) || string(e.Payload[len(e.Payload)-len(eventEnd):]) != eventEnd {
			return false
		}
	}
	return true
}
