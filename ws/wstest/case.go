package wstest

import (
	"encoding/binary"
	"fmt"

	gobwas "github.com/gobwas/ws"

	"devlxd/ws"
)

// Case is one conversation. It is immutable.
type Case struct {
	ID    string // such as "5.6"
	Title string
	File  string // where it is written
	Line  int
	Max   int // message size limit of the server, in bytes; 0: its default
	Chop  int // ChopNone, ChopFrame or the size of one write in bytes
	Times int // how often the steps as written are in Steps; 0: once
	Steps []Step
}

// Values of Case.Chop that are not sizes.
const (
	ChopNone  = 0  // everything in one write
	ChopFrame = -1 // one write for each frame
)

// Kind is what a step does.
type Kind uint8

// The kinds of steps.
const (
	Send   Kind = iota + 1 // the client sends Frame
	Yield                  // the server has got Event
	Answer                 // the server sends Event
)

// Step is one line of a case, or one fragment of a line with "each".
type Step struct {
	Kind  Kind
	Frame Frame
	Event Event
}

// Frame is what the client sends, right or wrong.
type Frame struct {
	Op      ws.OpCode
	Fin     bool
	Rsv     byte   // 0 to 7
	Bare    bool   // not masked
	Form    int    // bytes to write the length in: 0 (shortest form), 2 or 8
	Claimed bool   // Claims holds the length to announce
	Claims  uint64 // instead of that of Payload
	Rest    bool   // only payload: more of the frame before
	Payload []byte
}

// Event is a whole message or a control frame.
type Event struct {
	Op   ws.OpCode
	Data []byte        // payload; nil for a close that the server sends
	Code ws.StatusCode // of a close; StatusNoStatusRcvd for an empty one
}

// String gives the event for messages of tests, a long payload in short.
func (e Event) String() string {
	names := map[ws.OpCode]string{ws.OpText: "text", ws.OpBinary: "binary", ws.OpClose: "close", ws.OpPing: "ping", ws.OpPong: "pong"}
	data := fmt.Sprintf("%q", e.Data)
	if len(e.Data) > 64 {
		data = fmt.Sprintf("%q... (%d bytes)", e.Data[:32], len(e.Data))
	}
	if e.Op == ws.OpClose {
		return fmt.Sprintf("close %d %s", e.Code, data)
	}
	return names[e.Op] + " " + data
}

// Events returns what the server gets, or what it sends, in order.
func (c *Case) Events(kind Kind) []Event {
	var events []Event
	for _, s := range c.Steps {
		if s.Kind == kind {
			events = append(events, s.Event)
		}
	}
	return events
}

// Encode returns the bytes of each step; nil for those that send nothing. mask
// is asked for the key of each frame.
func (c *Case) Encode(mask func() [4]byte) [][]byte {
	out := make([][]byte, len(c.Steps))
	var key [4]byte
	var offset int
	for i, s := range c.Steps {
		if s.Kind != Send {
			continue
		}
		if !s.Frame.Rest {
			key, offset = mask(), 0
			out[i] = AppendFrame(nil, s.Frame, key)
		} else {
			out[i] = append([]byte(nil), s.Frame.Payload...)
			gobwas.Cipher(out[i], key, offset)
		}
		offset += len(s.Frame.Payload)
	}
	return out
}

// Writes returns the bytes of the case as the client writes them, by its Chop.
func (c *Case) Writes(mask func() [4]byte) [][]byte {
	var writes [][]byte
	var all []byte
	for _, b := range c.Encode(mask) {
		if c.Chop == ChopFrame && b != nil {
			writes = append(writes, b)
		}
		all = append(all, b...)
	}
	switch c.Chop {
	case ChopFrame:
		return writes
	case ChopNone:
		return [][]byte{all}
	}
	for len(all) > 0 {
		n := min(c.Chop, len(all))
		writes = append(writes, all[:n:n])
		all = all[n:]
	}
	return writes
}

// AppendFrame appends the bytes of f as a client sends it. It writes what it is
// told, also where that breaks the RFC.
func AppendFrame(dst []byte, f Frame, mask [4]byte) []byte {
	length := uint64(len(f.Payload))
	if f.Claimed {
		length = f.Claims
	}
	b0 := f.Rsv<<4 | byte(f.Op)
	if f.Fin {
		b0 |= 0x80
	}
	b1 := byte(0x80)
	if f.Bare {
		b1 = 0
	}
	switch {
	case f.Form == 8, f.Form == 0 && length > 0xffff:
		dst = binary.BigEndian.AppendUint64(append(dst, b0, b1|127), length)
	case f.Form == 2, f.Form == 0 && length > 125:
		dst = binary.BigEndian.AppendUint16(append(dst, b0, b1|126), uint16(length))
	default:
		dst = append(dst, b0, b1|byte(length))
	}
	if f.Bare {
		return append(dst, f.Payload...)
	}
	dst = append(dst, mask[:]...)
	start := len(dst)
	dst = append(dst, f.Payload...)
	gobwas.Cipher(dst[start:], mask, 0)
	return dst
}
