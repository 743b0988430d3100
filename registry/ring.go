package registry

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"sync/atomic"
)

const (
	firstSlots = 16 // slots of a new ring; it doubles up to Options.RingEvents
	// eventOverhead is what an event is charged besides its two variants: structs, slot, position text, rounding by the allocator.
	eventOverhead = 256
)

// Ring holds the newest events of one life of a container, from its first subscriber to the end of that life or until the guest API
// is closed to the container, whichever comes first. The registry alone appends, one writer at a time; everything else is safe
// for concurrent use, never locks and never waits, except Watch and Close of a Watch, which take a short lock of their own.
// It stays readable after the container has stopped, as long as someone holds it.
//
// Offsets only grow: first <= offset held <= head. The writer stores a slot before head, and moves first before it clears a slot, so
// that a reader who finds another event in a slot than it came for knows that first has moved on.
type Ring struct {
	epoch      uint64
	frameEvent func(payload []byte) (frame []byte, offset int)
	maxEvents  int
	maxBytes   int64

	head    atomic.Uint64             // offset of the newest event, 0 before the first
	first   atomic.Uint64             // offset of the oldest event held, head+1 when there is none
	evicted [eventTypes]atomic.Uint64 // offset of the newest event of each type that has left the ring
	gone    atomic.Uint64             // see packGone; of the newest event that has left the ring
	slots   atomic.Pointer[slots]
	bytes   int64  // charge of the events held; owned by the writer
	configs uint32 // config events appended, modulo 1<<32; owned by the writer

	revoked   atomic.Bool // set once, before the watches are notified
	watches   atomic.Pointer[[]*Watch]
	watchesMu sync.Mutex // serialises Watch and Close
}

// slots is a power of two of places; the event with offset n is at n modulo their number.
type slots struct {
	mask  uint64
	slots []atomic.Pointer[Event]
}

func newSlots(n int) *slots {
	return &slots{mask: uint64(n) - 1, slots: make([]atomic.Pointer[Event], n)}
}

func (s *slots) at(offset uint64) *atomic.Pointer[Event] { return &s.slots[offset&s.mask] }

// newRing makes an empty ring whose last event had the offset head.
func newRing(o *Options, epoch, head uint64) *Ring {
	r := &Ring{epoch: epoch, frameEvent: o.FrameEvent, maxEvents: o.RingEvents, maxBytes: int64(o.RingBytes)}
	n := 1
	for n < firstSlots && n < o.RingEvents {
		n *= 2
	}
	r.slots.Store(newSlots(n))
	r.gone.Store(packGone(head, 0))
	r.head.Store(head)
	r.first.Store(head + 1)
	return r
}

// newEpoch draws an epoch that no earlier ring had, of this process or of one before it.
func newEpoch() uint64 {
	var b [8]byte
	for {
		rand.Read(b[:]) // never fails: the runtime ends the process when the kernel has no randomness
		if epoch := binary.LittleEndian.Uint64(b[:]); epoch != 0 {
			return epoch
		}
	}
}

// Epoch returns the random number, never 0, that sets this ring apart from all others.
func (r *Ring) Epoch() uint64 { return r.epoch }

// Revoked reports whether the guest API was closed to the container since the ring was made. It never becomes false again: access that
// is opened again comes with another ring.
func (r *Ring) Revoked() bool { return r.revoked.Load() }

// Position returns the place after the newest event.
func (r *Ring) Position() Position { return Position{Epoch: r.epoch, Offset: r.head.Load()} }

// Cursor is the place of one subscriber in one ring, and the types it asks for. It is a value owned by its subscriber: it costs the
// ring nothing, needs no closing, and is to be used with the ring that made it only.
type Cursor struct {
	next    uint64 // offset of the first event that was not looked at yet
	configs uint32 // config events before next, modulo 1<<32; not kept when no type is asked for
	types   EventType
}

// Offset returns the offset of the last event that the cursor has passed: what a Position to Resume from needs.
func (c *Cursor) Offset() uint64 { return c.next - 1 }

// Types returns the types that the cursor asks for.
func (c *Cursor) Types() EventType { return c.types }

// Subscribe returns a cursor that gets every event of the types published from now on.
func (r *Ring) Subscribe(types EventType) Cursor {
	for {
		if c := r.cursorAfter(r.head.Load(), types); !r.Overrun(&c) {
			return c
		}
	}
}

// Resume returns a cursor that gets every event of the types published after p. It returns ErrGone when that cannot be promised: the
// epoch is another one, p is ahead of the ring, or an event of the types after p has left the ring. ErrRevoked: the ring is revoked.
func (r *Ring) Resume(p Position, types EventType) (Cursor, error) {
	if r.Revoked() {
		return Cursor{}, ErrRevoked
	}
	if p.Epoch != r.epoch || p.Offset > r.head.Load() {
		return Cursor{}, ErrGone
	}
	c := r.cursorAfter(p.Offset, types)
	if r.Overrun(&c) {
		return Cursor{}, ErrGone
	}
	return c, nil
}

// Next returns the next event of the types the cursor asks for and moves the cursor behind it, or nil when there is none yet, or
// ErrOverrun, then and for ever, when one of them has left the ring unread, or ErrRevoked, then and for ever, when the ring is revoked: what
// it still holds is not given out any more. It allocates nothing. Each cursor is for one goroutine at a time.
func (r *Ring) Next(c *Cursor) (*Event, error) {
	for {
		if r.Revoked() {
			return nil, ErrRevoked
		}
		if first := r.first.Load(); c.next < first {
			if r.lost(c) {
				return nil, ErrOverrun
			}
			c.skip(first)
		}
		// head before slots: slots of a smaller ring cannot lack an event that head announced.
		if c.next > r.head.Load() {
			return nil, nil
		}
		e := r.slots.Load().at(c.next).Load()
		if e == nil || e.offset != c.next {
			continue // left the ring just now, so first has moved
		}
		c.next++
		c.configs = e.configs
		if e.typ&c.types != 0 {
			return e, nil
		}
	}
}

// Overrun reports whether an event that the cursor asks for has left the ring unread, as Next would by ErrOverrun, without moving the cursor: for a subscriber that cannot be written to just now.
func (r *Ring) Overrun(c *Cursor) bool { return c.next < r.first.Load() && r.lost(c) }

// lost reports whether an event that the cursor asks for left the ring before the cursor saw it. Events of other types do not count:
// the cursor would have passed over them.
func (r *Ring) lost(c *Cursor) bool {
	for i := range r.evicted {
		if c.types&(1<<i) != 0 && r.evicted[i].Load() >= c.next {
			return true
		}
	}
	return false
}

// append encodes and adds one event and returns how much the charge of the ring has changed. For the writer only; it wakes nobody.
func (r *Ring) append(d draft) (delta int64) {
	frame, offset := r.frameEvent(d.payload)
	if d.typ == EventConfig {
		r.configs++
	}
	e := &Event{
		ring: r, offset: r.head.Load() + 1, plain: encoded{frame: frame, payload: offset}, published: d.at, configs: r.configs, typ: d.typ,
	}
	before := r.bytes
	for r.held() > 0 && (r.held() >= r.maxEvents || r.bytes+e.charge() > r.maxBytes) {
		r.evict()
	}
	s := r.slots.Load()
	if r.held() == len(s.slots) {
		s = r.grow(s)
	}
	s.at(e.offset).Store(e)
	r.bytes += e.charge()
	r.head.Store(e.offset)
	return r.bytes - before
}

// charge is what the event counts against RingBytes. Both variants count whether the second one is made or not: a guest decides
// that later, and must not be able to push the ring over its bound.
func (e *Event) charge() int64 { return 2*int64(len(e.plain.frame)) + eventOverhead }

func (r *Ring) held() int { return int(r.head.Load() + 1 - r.first.Load()) }

// evict drops the oldest event. The order of the stores is what Next and lost rely on.
func (r *Ring) evict() {
	offset := r.first.Load()
	slot := r.slots.Load().at(offset)
	e := slot.Load()
	r.gone.Store(packGone(offset, e.configs))
	r.evicted[e.typ.index()].Store(offset)
	r.first.Store(offset + 1)
	slot.Store(nil)
	r.bytes -= e.charge()
}

// grow doubles the slots. Readers that still hold the old ones find the same events there.
func (r *Ring) grow(old *slots) *slots {
	s := newSlots(2 * len(old.slots))
	for offset := r.first.Load(); offset <= r.head.Load(); offset++ {
		s.at(offset).Store(old.at(offset).Load())
	}
	r.slots.Store(s)
	return s
}
