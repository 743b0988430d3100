package httpparse

import (
	"encoding/binary"
	"math/bits"
)

// class is a set of the byte classes of HTTP's grammar that a byte belongs to.
type class uint8

const (
	// RFC 9110 §5.6.2: tchar = "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" /
	// "-" / "." / "^" / "_" / "`" / "|" / "~" / DIGIT / ALPHA
	tokenByte class = 1 << iota
	// Any visible ASCII byte but "#". It is wider than RFC 3986 (curl and Go send
	// braces and bars as they are), but holds nothing that could end a target.
	targetByte
	// The bytes that net/http takes in a Host field: unreserved, sub-delims, "%"
	// and the colon and brackets of ports and IP literals (RFC 3986 §3.2.2).
	hostByte
	// RFC 3986 §3.2.2: reg-name without percent-encoding = *( unreserved / sub-delims ).
	nameByte
)

// classes is read only.
var classes = func() (t [256]class) {
	add := func(set string, c class) {
		for i := range len(set) {
			t[set[i]] |= c
		}
	}
	const alnum = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	const unreserved, subDelims = alnum + "-._~", "!$&'()*+,;="
	add(alnum+"!#$%&'*+-.^_`|~", tokenByte)
	add(unreserved+subDelims, hostByte|nameByte)
	add("%:[]", hostByte)
	for c := byte(0x21); c < 0x7f; c++ {
		if c != '#' {
			t[c] |= targetByte
		}
	}
	return t
}()

// all reports whether every byte of b is in class c.
func all(b []byte, c class) bool {
	for _, x := range b {
		if classes[x]&c == 0 {
			return false
		}
	}
	return true
}

// skipText returns the position of the first byte at or after i that may not be
// in a field value, or len(b). RFC 9110 §5.5: a value consists of visible bytes,
// obs-text (0x80 and up), spaces and tabs.
//
// It looks at eight bytes at a time: a subtraction borrows into the top bit of
// each byte below 0x20, and of each byte that is zero once xored with DEL. A borrow
// can run into higher bytes, so only the lowest hit counts.
func skipText(b []byte, i int) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for i+8 <= len(b) {
		w := binary.LittleEndian.Uint64(b[i:])
		del := w ^ ones*0x7f
		hit := ((w-ones*0x20)&^w | (del-ones)&^del) & tops
		if hit == 0 {
			i += 8
			continue
		}
		i += bits.TrailingZeros64(hit) >> 3
		if b[i] != '\t' {
			return i
		}
		i++
	}
	for i < len(b) && isText(b[i]) {
		i++
	}
	return i
}

func isText(c byte) bool { return c >= 0x20 && c != 0x7f || c == '\t' }

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// trim removes optional white space at both ends (RFC 9110 §5.6.3).
func trim(b []byte) []byte {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isSpace(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c |= 0x20
	}
	return c
}

// equalFold compares as ASCII without regard to case.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range len(s) {
		if lower(b[i]) != lower(s[i]) {
			return false
		}
	}
	return true
}

// unhex returns the value of a hexadecimal digit.
func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// nextElement cuts the first element off a comma-separated list (RFC 9110 §5.6.1).
func nextElement(list []byte) (element, rest []byte) {
	for i, c := range list {
		if c == ',' {
			return trim(list[:i]), list[i+1:]
		}
	}
	return trim(list), nil
}

// HasToken reports whether the comma-separated list, such as the value of
// Connection or Upgrade, has token among its elements. ASCII case does not matter.
func HasToken(list []byte, token string) bool {
	for len(list) > 0 {
		var element []byte
		if element, list = nextElement(list); equalFold(element, token) {
			return true
		}
	}
	return false
}
