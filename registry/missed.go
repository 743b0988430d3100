package registry

// Missed returns how many events of each type, of those that the cursor asks for and has not been given, were published until now,
// whether the ring still holds them or not. It allocates nothing.
//
// The ring cannot look at events that it has dropped. So each event knows how many of those up to it were config events, and a cursor
// remembers that count for the place where it is; the rest is subtraction.
func (r *Ring) Missed(c *Cursor) (config, device uint64) {
	for {
		head := r.head.Load()
		if c.next > head {
			return 0, 0
		}
		configs, ok := r.configsUpTo(head)
		if !ok {
			continue // another event was appended
		}
		if c.types&EventConfig != 0 {
			config = uint64(configs - c.configs)
		}
		if c.types&EventDevice != 0 {
			device = head + 1 - c.next - uint64(configs-c.configs)
		}
		return config, device
	}
}

// configsUpTo returns how many events up to offset are config events, modulo 1<<32, for an offset that the ring holds or the one just
// before; false when the ring has moved on.
func (r *Ring) configsUpTo(offset uint64) (uint32, bool) {
	if e := r.slots.Load().at(offset).Load(); e != nil && e.offset == offset {
		return e.configs, true
	}
	gone := r.gone.Load()
	return uint32(gone), uint32(gone>>32) == uint32(offset)
}

// packGone makes a value of Ring.gone: that many config events up to offset.
func packGone(offset uint64, configs uint32) uint64 { return offset<<32 | uint64(configs) }

// cursorAfter returns a cursor that has passed offset, which must not be ahead of the ring. The events after it that are not held any
// more were not asked for, or else the cursor is overrun from the start and of no use.
func (r *Ring) cursorAfter(offset uint64, types EventType) Cursor {
	for {
		at := max(offset, r.first.Load()-1)
		configs, ok := r.configsUpTo(at)
		if !ok {
			continue // another event has left the ring
		}
		if types == EventDevice {
			configs -= uint32(at - offset)
		}
		return Cursor{next: offset + 1, configs: configs, types: types}
	}
}

// skip moves the cursor to first, past events that it did not ask for.
func (c *Cursor) skip(first uint64) {
	if c.types == EventDevice {
		c.configs += uint32(first - c.next)
	}
	c.next = first
}
