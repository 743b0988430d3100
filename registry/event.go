package registry

import (
	"bytes"
	"sync/atomic"
	"time"
)

// EventType is the type of an event, and as a bit set the types that a subscriber asks for.
type EventType uint8

// The types of events, as LXD names them.
const (
	EventConfig EventType = 1 << iota // a user.* key was added, changed or removed
	EventDevice                       // a device was added, changed or removed

	eventTypes = 2
)

// AllEventTypes lists every single type.
func AllEventTypes() []EventType { return []EventType{EventConfig, EventDevice} }

// String returns the name of a single type as it stands in the "type" member and in the type parameter, "" for any other value.
func (t EventType) String() string {
	switch t {
	case EventConfig:
		return "config"
	case EventDevice:
		return "device"
	default:
		return ""
	}
}

// index returns the place of a single type in an array of eventTypes.
func (t EventType) index() int {
	if t == EventDevice {
		return 1
	}
	return 0
}

// ParseTypes returns the set that the value of the type parameter asks for. Empty means all. Names are divided by commas, not trimmed,
// and unknown ones are ignored, so that the set can be empty: such a subscriber waits for ever (LXD: devLXDEventsGetHandler).
func ParseTypes(s []byte) EventType {
	if len(s) == 0 {
		return EventConfig | EventDevice
	}
	var set EventType
	for name := range bytes.SplitSeq(s, []byte{','}) {
		for _, t := range [eventTypes]EventType{EventConfig, EventDevice} {
			if string(name) == t.String() {
				set |= t
			}
		}
	}
	return set
}

// encoded is a finished frame and the offset of the payload in it.
type encoded struct {
	frame   []byte
	payload int
}

// Event is one event of a ring, immutable and safe for concurrent use. It may be kept after it left the ring.
type Event struct {
	ring       *Ring
	offset     uint64
	plain      encoded
	positioned atomic.Pointer[encoded] // nil until asked for
	published  time.Duration
	configs    uint32 // config events of the ring up to this one, itself included, modulo 1<<32
	typ        EventType
}

// Type returns the one type of the event.
func (e *Event) Type() EventType { return e.typ }

// Offset returns the offset of the event in its ring; the first one is 1.
func (e *Event) Offset() uint64 { return e.offset }

// Published returns when the event was made, on the registry's Clock. It is 0 for one that a predecessor process made.
func (e *Event) Published() time.Duration { return e.published }

// Position returns the place just after the event.
func (e *Event) Position() Position { return Position{Epoch: e.ring.epoch, Offset: e.offset} }

// Frame returns what Options.FrameEvent made of the payload: the bytes that every subscriber is sent. With position the payload carries
// the position of the event as its last member. That variant is made for the first one who asks and kept. The bytes are shared and
// must not be changed.
func (e *Event) Frame(position bool) []byte {
	if position {
		return e.withPosition().frame
	}
	return e.plain.frame
}

// Payload returns the JSON text of the event with its final newline, a part of Frame.
func (e *Event) Payload(position bool) []byte {
	v := &e.plain
	if position {
		v = e.withPosition()
	}
	return v.frame[v.payload:len(v.frame):len(v.frame)]
}

func (e *Event) withPosition() *encoded {
	if v := e.positioned.Load(); v != nil {
		return v
	}
	plain := e.Payload(false)
	payload := make([]byte, 0, len(plain)+len(positionMember)+positionMaxLen+1)
	payload = append(payload, plain[:len(plain)-len(eventEnd)]...)
	payload = append(payload, positionMember...)
	payload = e.Position().Append(payload)
	payload = append(payload, '"')
	payload = append(payload, eventEnd...)
	frame, offset := e.ring.frameEvent(payload)
	e.positioned.CompareAndSwap(nil, &encoded{frame: frame, payload: offset})
	return e.positioned.Load()
}

const (
	positionMember = `,"position":"`
	eventEnd       = "}\n"
)

// appendEventStart appends an event up to the value of "metadata".
func appendEventStart(dst []byte, t EventType, at time.Time) []byte {
	dst = append(dst, `{"type":"`...)
	dst = append(dst, t.String()...)
	dst = append(dst, `","timestamp":"`...)
	dst = at.AppendFormat(dst, time.RFC3339Nano)
	return append(dst, `","metadata":`...)
}

func appendConfigEvent(dst []byte, at time.Time, key string, oldValue, value []byte) []byte {
	dst = appendEventStart(dst, EventConfig, at)
	dst = append(dst, `{"key":`...)
	dst = AppendJSONString(dst, key)
	dst = append(dst, `,"old_value":`...)
	dst = AppendJSONString(dst, oldValue)
	dst = append(dst, `,"value":`...)
	dst = AppendJSONString(dst, value)
	dst = append(dst, '}')
	return append(dst, eventEnd...)
}

// deviceAction is what happened to a device.
type deviceAction string

const (
	actionAdded   deviceAction = "added"   // the name is new, or stands for a device of another type now
	actionRemoved deviceAction = "removed" // the name is gone, or stands for a device of another type now
	actionUpdated deviceAction = "updated" // same name and type, other config
)

func appendDeviceEvent(dst []byte, at time.Time, action deviceAction, d *Device) []byte {
	dst = appendEventStart(dst, EventDevice, at)
	dst = append(dst, `{"action":"`...)
	dst = append(dst, action...)
	dst = append(dst, `","config":`...)
	dst = d.AppendJSON(dst)
	dst = append(dst, `,"name":`...)
	dst = AppendJSONString(dst, d.Name)
	dst = append(dst, '}')
	return append(dst, eventEnd...)
}
