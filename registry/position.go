package registry

import "strconv"

const (
	epochDigits    = 16
	positionMaxLen = epochDigits + 1 + 20 // 20 decimal digits hold every uint64
)

// Position names a place in the history of one ring: just after the event with this offset. It is a value, safe to copy and compare.
type Position struct {
	Epoch  uint64 // identifies the ring; never 0
	Offset uint64 // of the last event seen; 0 is the place before the first event
}

// String returns "EPOCH.OFFSET": the epoch as 16 lower-case hexadecimal digits, the offset in decimal.
func (p Position) String() string { return string(p.Append(nil)) }

// Append appends the text of String to dst.
func (p Position) Append(dst []byte) []byte {
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, hexDigits[p.Epoch>>shift&0xf])
	}
	dst = append(dst, '.')
	return strconv.AppendUint(dst, p.Offset, 10)
}

// ParsePosition is the inverse of String. It takes that one spelling only, so that equal positions have equal texts, and returns
// ErrPosition for anything else, the epoch 0 included. It does not allocate.
func ParsePosition(s []byte) (Position, error) {
	if len(s) < epochDigits+2 || len(s) > positionMaxLen || s[epochDigits] != '.' {
		return Position{}, ErrPosition
	}
	var p Position
	for _, c := range s[:epochDigits] {
		switch {
		case c >= '0' && c <= '9':
			p.Epoch = p.Epoch<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			p.Epoch = p.Epoch<<4 | uint64(c-'a'+10)
		default:
			return Position{}, ErrPosition
		}
	}
	offset, ok := parseOffset(s[epochDigits+1:])
	if !ok || p.Epoch == 0 {
		return Position{}, ErrPosition
	}
	p.Offset = offset
	return p, nil
}

func parseOffset(s []byte) (offset uint64, ok bool) {
	if s[0] == '0' && len(s) > 1 {
		return 0, false
	}
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		d := uint64(c - '0')
		if offset > (1<<64-1-d)/10 {
			return 0, false
		}
		offset = offset*10 + d
	}
	return offset, true
}
