package ws

import "unicode/utf8"

// utf8Stream checks that bytes which arrive in pieces are UTF-8 (RFC 3629). The
// zero value is at the start of a text.
type utf8Stream struct {
	tail [utf8.UTFMax - 1]byte // start of a character whose end has not come yet
	n    uint8                 // how many bytes of tail are in use
}

// open reports whether the text so far ends inside a character.
func (s *utf8Stream) open() bool { return s.n > 0 }

// write takes the next bytes of the text. It returns false at the first byte
// that cannot be part of UTF-8, also if that is the middle of a character.
func (s *utf8Stream) write(p []byte) bool {
	p, ok := s.closeTail(p)
	if !ok {
		return false
	}
	whole := len(p) - openTail(p)
	if !utf8.Valid(p[:whole]) {
		return false
	}
	if whole < len(p) { // else the tail, which closeTail may have left open, stays
		s.n = uint8(copy(s.tail[:], p[whole:]))
	}
	return true
}

// closeTail gives the open character the bytes that it lacks, and returns the
// rest of p.
func (s *utf8Stream) closeTail(p []byte) (rest []byte, ok bool) {
	if s.n == 0 {
		return p, true
	}
	var char [utf8.UTFMax]byte
	n := copy(char[:], s.tail[:s.n])
	for i, b := range p {
		char[n] = b
		n++
		// A start that can no longer become a character counts as full.
		if !utf8.FullRune(char[:n]) {
			continue
		}
		s.n = 0
		_, size := utf8.DecodeRune(char[:n])
		return p[i+1:], size == n
	}
	s.n = uint8(copy(s.tail[:], char[:n]))
	return nil, true
}

// openTail is how many bytes at the end of p are the start of a character that
// more bytes could complete.
func openTail(p []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		end := p[len(p)-n:]
		if !utf8.RuneStart(end[0]) {
			continue
		}
		if utf8.FullRune(end) {
			return 0
		}
		return n
	}
	return 0
}
