package ws

import (
	"encoding/binary"
	"math"
)

// stateVersion is the first byte of what AppendBinary writes.
const stateVersion = 1

// stateSize is the length of what AppendBinary writes, in bytes.
const stateSize = 1 + 8 + 8 + 4 + 4 + 4

// AppendBinary appends the state of the decoder in a form for
// [Decoder.UnmarshalBinary], so that a connection can go on in another process
// in the middle of a message. Max is not part of it. The error is always nil.
func (d *Decoder) AppendBinary(dst []byte) ([]byte, error) {
	dst = append(dst, stateVersion)
	dst = binary.BigEndian.AppendUint64(dst, uint64(d.size))
	dst = binary.BigEndian.AppendUint64(dst, uint64(d.left))
	dst = append(dst, d.mask[:]...)
	dst = append(dst, d.text.tail[:]...)
	dst = append(dst, d.text.n, d.pos, byte(d.op), 0, d.end)
	if d.fin {
		dst[len(dst)-2] = 1
	}
	return dst, nil
}

// UnmarshalBinary puts the decoder into the state that [Decoder.AppendBinary]
// wrote, and leaves Max as it is. It returns ErrState, and changes nothing, if
// that is not a state that a decoder can be in.
func (d *Decoder) UnmarshalBinary(state []byte) error {
	if len(state) != stateSize || state[0] != stateVersion {
		return ErrState
	}
	size, left := binary.BigEndian.Uint64(state[1:]), binary.BigEndian.Uint64(state[9:])
	s := Decoder{Max: d.Max, size: int64(size), left: int64(left)}
	copy(s.mask[:], state[17:])
	copy(s.text.tail[:], state[21:])
	flags := state[24:]
	s.text.n, s.pos, s.op, s.fin, s.end = flags[0], flags[1], OpCode(flags[2]), flags[3] == 1, flags[4]
	switch {
	case size > math.MaxInt64 || left > size:
	case s.op != OpContinuation && s.op != OpText && s.op != OpBinary:
	case s.op == OpContinuation && size != 0:
	case int(s.pos) >= len(s.mask) || flags[3] > 1:
	case int(s.text.n) > len(s.text.tail) || s.op != OpText && s.text.n != 0 && s.end == endOpen:
	case int(s.end) > len(closeErrors) && s.end != endClosed:
	default:
		*d = s
		return nil
	}
	return ErrState
}
