package httpparse

import "encoding/binary"

const (
	// bodyStateVersion is the first byte of what AppendBinary writes.
	bodyStateVersion = 1
	// bodyStateSize is the length of what AppendBinary writes, in bytes.
	bodyStateSize = 1 + 8 + 8 + 2 + 1
)

// AppendBinary appends the state of the decoder in a form for [Body.UnmarshalBinary], so that a connection can go on in
// another process in the middle of a body. The error is always nil.
func (b *Body) AppendBinary(dst []byte) ([]byte, error) {
	dst = append(dst, bodyStateVersion)
	dst = binary.BigEndian.AppendUint64(dst, uint64(b.left))
	dst = binary.BigEndian.AppendUint64(dst, uint64(b.total))
	dst = binary.BigEndian.AppendUint16(dst, b.count)
	return append(dst, byte(b.state)), nil
}

// UnmarshalBinary puts the decoder into the state that [Body.AppendBinary] wrote. It returns ErrBodyState, and changes nothing, if that
// is not a state that a decoder can be in.
func (b *Body) UnmarshalBinary(state []byte) error {
	if len(state) != bodyStateSize || state[0] != bodyStateVersion {
		return ErrBodyState
	}
	left, total := binary.BigEndian.Uint64(state[1:]), binary.BigEndian.Uint64(state[9:])
	s := Body{left: int64(left), total: int64(total), count: binary.BigEndian.Uint16(state[17:]), state: bodyState(state[19])}
	data := s.state == bodyPlain || s.state == chunkData
	if left > MaxBody || total > MaxBody || s.state > trailerEndLF || data && left == 0 || s.count > MaxTrailer {
		return ErrBodyState
	}
	*b = s
	return nil
}
