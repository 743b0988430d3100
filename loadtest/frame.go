package loadtest

import (
	"bytes"
	"encoding/binary"
)

// Opcodes of RFC 6455 §5.2.
const (
	opText  = 1
	opClose = 8
	opPing  = 9
	opPong  = 10
)

// parseFrame reads an unmasked frame at the start of b (RFC 6455 §5.2). n is 0 when it is not complete. A server sends each event in one
// frame; a fragment, a mask or an extension is an error.
func parseFrame(b []byte) (op byte, payload []byte, n int, err error) {
	if len(b) < 2 {
		return 0, nil, 0, nil
	}
	if b[0]&0xf0 != 0x80 || b[1]&0x80 != 0 {
		return 0, nil, 0, errFrame
	}
	head, length := 2, uint64(b[1])
	switch {
	case length == 126:
		if head = 4; len(b) < head {
			return 0, nil, 0, nil
		}
		length = uint64(binary.BigEndian.Uint16(b[2:]))
	case length == 127:
		if head = 10; len(b) < head {
			return 0, nil, 0, nil
		}
		if length = binary.BigEndian.Uint64(b[2:]); length > maxEvent {
			return 0, nil, 0, errFrame
		}
	}
	if uint64(len(b)-head) < length {
		return 0, nil, 0, nil
	}
	n = head + int(length)
	return b[0] & 0x0f, b[head:n:n], n, nil
}

// maxEvent is the longest event that is waited for.
const maxEvent = 8 << 20

// appendMasked appends a client's frame with a payload of up to 125 bytes. The masking key is zero, which is as good as any here.
func appendMasked(dst []byte, op byte, payload []byte) []byte {
	payload = payload[:min(len(payload), 125)]
	dst = append(dst, 0x80|op, 0x80|byte(len(payload)), 0, 0, 0, 0)
	return append(dst, payload...)
}

// closeText names a close frame's code and reason.
func closeText(payload []byte) (code int, reason string) {
	if len(payload) < 2 {
		return 1005, ""
	}
	return int(binary.BigEndian.Uint16(payload)), string(payload[2:])
}

var (
	valueMember = []byte(`"value":"`)
	// fillerMember is in events that are there to fill sockets and rings only. Keys of fillers begin like this.
	fillerMember = []byte(`"key":"` + fillerKey)
)

const (
	eventKey  = "user.event"
	fillerKey = "user.filler"
)

// eventNumber reads the number that an event carries as the key's new value. It is the last member of that name: the members of an event
// are sorted, and "value" comes after "old_value".
func eventNumber(payload []byte) (uint64, bool) {
	at := bytes.LastIndex(payload, valueMember)
	if at < 0 {
		return 0, false
	}
	var n uint64
	digits := payload[at+len(valueMember):]
	for i, c := range digits {
		if c == '"' {
			return n, i > 0
		}
		if c < '0' || c > '9' || i > 18 {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return 0, false
}
