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

// RingEpoch returns the epoch of the binding's ring; false when it has none. Unlike Ring it makes none. It never locks.
func (b *Binding) RingEpoch() (epoch uint64, ok bool) {
	if ring := b.ring.Load(); ring != nil {
		return ring.epoch, true
	}
	return 0, false
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

// CursorState is all that is needed to carry a cursor over to the restored ring of a successor process.
type CursorState struct {
	Offset  uint64 // of the last event that the cursor has passed
	Types   EventType
	Configs uint32 // config events between it and the end of the ring, modulo 1<<32
}

// ExportCursor returns the state of a cursor. Nothing may be published meanwhile.
func (r *Ring) ExportCursor(c *Cursor) CursorState {
	s := CursorState{Offset: c.Offset(), Types: c.types}
	if configs, ok := r.configsUpTo(r.head.Load()); ok {
		s.Configs = configs - c.configs
	}
	return s
}

// RestoreCursor returns the cursor of a state that was exported with the ring's. It gets every event from where the state stands, and
// ErrOverrun where the exported one would have got it. It returns ErrGone for a state that is ahead of the ring. Nothing may be published meanwhile.
func (r *Ring) RestoreCursor(s CursorState) (Cursor, error) {
	head := r.head.Load()
	configs, ok := r.configsUpTo(head)
	if !ok || s.Offset > head || s.Types&^(EventConfig|EventDevice) != 0 {
		return Cursor{}, ErrGone
	}
	return Cursor{next: s.Offset + 1, configs: configs - s.Configs, types: s.Types}, nil
}
