package registry_test

import (
	"bytes"
	"testing"

	"devlxd/registry"

	"pgregory.net/rapid"
)

// ringModel is a ring as one would write it without regard to cost: every event ever published, in a slice.
type ringModel struct {
	ring      *registry.Ring
	publish   func(registry.EventType, []byte)
	maxEvents int
	maxBytes  int64

	events  []modelEvent // offset n is events[n-1]
	first   int          // offset of the oldest event held
	cursors []modelCursor
}

type modelEvent struct {
	typ     registry.EventType
	payload []byte
}

type modelCursor struct {
	cursor registry.Cursor
	next   int
	types  registry.EventType
}

func newRingModel(t *rapid.T) *ringModel {
	m := &ringModel{maxEvents: rapid.IntRange(1, 40).Draw(t, "maxEvents"), first: 1}
	m.maxBytes = int64(rapid.IntRange(1, 40).Draw(t, "maxBytes")) * (registry.EventOverhead + 100)
	m.ring, m.publish = registry.NewTestRing(registry.Options{RingEvents: m.maxEvents, RingBytes: int(m.maxBytes)})
	return m
}

func (e modelEvent) charge() int64 { return 2*int64(len(e.payload)) + registry.EventOverhead }

func (m *ringModel) charge() (sum int64) {
	for _, e := range m.events[m.first-1:] {
		sum += e.charge()
	}
	return sum
}

// lost reports whether an event of the types at or after offset next is not held any more.
func (m *ringModel) lost(next int, types registry.EventType) bool {
	for offset := next; offset < m.first; offset++ {
		if m.events[offset-1].typ&types != 0 {
			return true
		}
	}
	return false
}

func (m *ringModel) Publish(t *rapid.T) {
	for range rapid.IntRange(1, 20).Draw(t, "n") {
		e := modelEvent{typ: rapid.SampledFrom(registry.AllEventTypes()).Draw(t, "type")}
		e.payload = append(bytes.Repeat([]byte{'x'}, rapid.IntRange(0, 300).Draw(t, "size")), "{}\n"...)
		m.publish(e.typ, e.payload)
		m.events = append(m.events, e)
		for held := len(m.events) - m.first + 1; held > 1 && (held > m.maxEvents || m.charge() > m.maxBytes); held-- {
			m.first++
		}
	}
}

func drawTypes(t *rapid.T) registry.EventType {
	return registry.EventType(rapid.IntRange(0, int(registry.EventConfig|registry.EventDevice)).Draw(t, "types"))
}

func (m *ringModel) Subscribe(t *rapid.T) {
	types := drawTypes(t)
	m.cursors = append(m.cursors, modelCursor{m.ring.Subscribe(types), len(m.events) + 1, types})
}

func (m *ringModel) Resume(t *rapid.T) {
	types := drawTypes(t)
	p := m.ring.Position()
	p.Offset = uint64(rapid.IntRange(0, len(m.events)+2).Draw(t, "offset"))
	wrongEpoch := rapid.IntRange(0, 9).Draw(t, "wrong epoch") == 0
	if wrongEpoch {
		p.Epoch++
	}
	cursor, err := m.ring.Resume(p, types)
	next := int(p.Offset) + 1
	gone := wrongEpoch || next > len(m.events)+1 || m.lost(next, types)
	if (err == registry.ErrGone) != gone || (err == nil) == gone {
		t.Fatalf("Resume(%v, %b) = %v; gone should be %v", p, types, err, gone)
	}
	if !gone {
		m.cursors = append(m.cursors, modelCursor{cursor, next, types})
	}
}

func (m *ringModel) Next(t *rapid.T) {
	if len(m.cursors) == 0 {
		t.Skip("no cursor")
	}
	c := &m.cursors[rapid.IntRange(0, len(m.cursors)-1).Draw(t, "cursor")]
	for range rapid.IntRange(1, 30).Draw(t, "reads") {
		m.step(t, c)
	}
}

// step reads one event and checks it against the model.
func (m *ringModel) step(t *rapid.T, c *modelCursor) {
	lost := m.lost(c.next, c.types)
	if got := m.ring.Overrun(&c.cursor); got != lost {
		t.Fatalf("Overrun = %v; want %v", got, lost)
	}
	e, err := m.ring.Next(&c.cursor)
	if lost {
		if e != nil || err != registry.ErrOverrun {
			t.Fatalf("Next = %v, %v; want ErrOverrun", e, err)
		}
		return
	}
	want := c.next
	for want <= len(m.events) && m.events[want-1].typ&c.types == 0 {
		want++
	}
	if err != nil || (e == nil) != (want > len(m.events)) {
		t.Fatalf("Next = %v, %v; want offset %d of %d", e, err, want, len(m.events))
	}
	c.next = want
	if e != nil {
		if w := m.events[want-1]; e.Offset() != uint64(want) || e.Type() != w.typ || !bytes.Equal(e.Payload(false), w.payload) {
			t.Fatalf("Next = offset %d type %v; want offset %d type %v", e.Offset(), e.Type(), want, w.typ)
		}
		c.next++
	}
}

// Check is run after each action.
func (m *ringModel) Check(t *rapid.T) {
	for i := range m.cursors {
		c := &m.cursors[i]
		var config, device uint64
		for _, e := range m.events[c.next-1:] {
			switch e.typ & c.types {
			case registry.EventConfig:
				config++
			case registry.EventDevice:
				device++
			}
		}
		if gotConfig, gotDevice := m.ring.Missed(&c.cursor); gotConfig != config || gotDevice != device {
			t.Fatalf("Missed = %d, %d; want %d, %d", gotConfig, gotDevice, config, device)
		}
	}
	if got := m.ring.Position(); got.Epoch == 0 || got.Epoch != m.ring.Epoch() || got.Offset != uint64(len(m.events)) {
		t.Fatalf("Position = %v; want offset %d", got, len(m.events))
	}
	if got := m.ring.Held(); got != len(m.events)-m.first+1 {
		t.Fatalf("ring holds %d events; want %d", got, len(m.events)-m.first+1)
	}
	if got := m.ring.Charge(); got != m.charge() || got > m.maxBytes && m.ring.Held() > 1 {
		t.Fatalf("ring is charged %d; want %d, bound %d", got, m.charge(), m.maxBytes)
	}
	if slots := m.ring.Slots(); slots > registry.FirstSlots && slots >= 2*m.maxEvents {
		t.Fatalf("%d slots for at most %d events", slots, m.maxEvents)
	}
}

func TestRingAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newRingModel(t)
		t.Repeat(map[string]func(*rapid.T){
			"publish": m.Publish, "subscribe": m.Subscribe, "resume": m.Resume, "next": m.Next, "": m.Check,
		})
		for i := range m.cursors { // every cursor, to its end
			for range len(m.events) + 1 {
				m.step(t, &m.cursors[i])
			}
		}
	})
}
