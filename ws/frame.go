package ws

import (
	"encoding/binary"
	"unicode/utf8"
)

// Bits of a frame header (RFC 6455 §5.2).
const (
	bitFin     = 0x80 // byte 0
	maskRsv    = 0x70
	maskOpcode = 0x0f

	bitMask    = 0x80 // byte 1
	maskLength = 0x7f
	length16   = 126 // the length is in the next 2 bytes
	length64   = 127 // the length is in the next 8 bytes
)

// Frames without a payload, ready to be written by a server.
const (
	PingFrame  = "\x89\x00"
	PongFrame  = "\x8a\x00"
	CloseFrame = "\x88\x00" // no status code
)

// TextFrame builds the frame of a whole text message, to be written to any
// number of clients. The payload starts at offset. It allocates the frame, and
// does not keep payload.
func TextFrame(payload []byte) (frame []byte, offset int) {
	offset = headerSize(len(payload))
	frame = make([]byte, 0, offset+len(payload))
	return AppendFrame(frame, OpText, payload), offset
}

// AppendFrame appends a whole frame as a server sends it: final, not masked.
// A control frame has room for [MaxControl] bytes; the rest of its payload is
// left out. For a close frame use [AppendClose]. It does not allocate if dst
// has room for 10 bytes more than the payload.
func AppendFrame(dst []byte, op OpCode, payload []byte) []byte {
	if op.IsControl() && len(payload) > MaxControl {
		payload = payload[:MaxControl]
	}
	dst = appendHeader(dst, op, len(payload))
	return append(dst, payload...)
}

// AppendClose appends a close frame as a server sends it. A reason longer than
// [MaxReason] bytes is cut at the end of a character, and so is one that is not
// UTF-8, before the fault. A code that must not be sent gives a frame without
// code and reason: AppendClose of what [ParseClose] returned is always the
// right answer to a close frame (RFC 6455 §5.5.1). It does not allocate if dst
// has room for 127 bytes.
func AppendClose(dst []byte, code StatusCode, reason string) []byte {
	if !ValidCode(code) {
		return append(dst, CloseFrame...)
	}
	reason = reason[:reasonEnd(reason)]
	dst = appendHeader(dst, OpClose, 2+len(reason))
	dst = binary.BigEndian.AppendUint16(dst, uint16(code))
	return append(dst, reason...)
}

// ParseClose takes apart the payload of a close frame. An empty one is
// StatusNoStatusRcvd (RFC 6455 §7.1.5). reason is a part of payload. err is nil
// or one of ErrCloseBody, ErrCloseCode and ErrCloseUTF8.
func ParseClose(payload []byte) (code StatusCode, reason []byte, err error) {
	switch len(payload) {
	case 0:
		return StatusNoStatusRcvd, nil, nil
	case 1:
		return 0, nil, ErrCloseBody
	}
	code, reason = StatusCode(binary.BigEndian.Uint16(payload)), payload[2:]
	if !ValidCode(code) {
		return 0, nil, ErrCloseCode
	}
	if !utf8.Valid(reason) {
		return 0, nil, ErrCloseUTF8
	}
	return code, reason, nil
}

// headerSize is the size of a server's frame header for n bytes of payload.
func headerSize(n int) int {
	switch {
	case n < length16:
		return 2
	case n>>16 == 0:
		return 4
	}
	return 10
}

// appendHeader appends the header of a final frame with n bytes of payload.
func appendHeader(dst []byte, op OpCode, n int) []byte {
	dst = append(dst, bitFin|byte(op)&maskOpcode)
	switch headerSize(n) {
	case 2:
		return append(dst, byte(n))
	case 4:
		return binary.BigEndian.AppendUint16(append(dst, length16), uint16(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, length64), uint64(n))
}

// reasonEnd is the length of the longest start of s that fits a close frame and
// is UTF-8.
func reasonEnd(s string) int {
	end := 0
	for end < len(s) {
		r, size := utf8.DecodeRuneInString(s[end:])
		if r == utf8.RuneError && size == 1 || end+size > MaxReason {
			break
		}
		end += size
	}
	return end
}
