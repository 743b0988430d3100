package server

import (
	"fmt"
	"io"
)

// upgradeRequest is an opening handshake (RFC 6455 §1.2).
func upgradeRequest(path string, fields ...string) string {
	request := "GET " + path + " HTTP/1.1\r\nHost: lxd\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
	for _, f := range fields {
		request += fmt.Sprintf("%s\r\n", f)
	}
	return request + "\r\n"
}

// maskedClose is a client's close frame with status 1001 (RFC 6455 §5.5.1).
const maskedClose = "\x88\x82\x00\x00\x00\x00\x03\xe9"

// frame reads one server frame: complete, unmasked.
func (c *client) frame() (opcode byte, payload []byte) {
	c.t.Helper()
	var head [2]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		c.t.Fatalf("waiting for a frame: %v", err)
	}
	if head[0]&0xf0 != 0x80 || head[1]&0x80 != 0 {
		c.t.Fatalf("frame begins with %x; want one that is final and not masked", head)
	}
	length := uint64(head[1])
	if length >= 126 {
		extended := make([]byte, 2)
		if length == 127 {
			extended = make([]byte, 8)
		}
		if _, err := io.ReadFull(c.r, extended); err != nil {
			c.t.Fatal(err)
		}
		length = 0
		for _, b := range extended {
			length = length<<8 | uint64(b)
		}
	}
	payload = make([]byte, length)
	if _, err := io.ReadFull(c.r, payload); err != nil {
		c.t.Fatal(err)
	}
	return head[0] & 0xf, payload
}

// closeFrame reads up to the server's close frame, over pings and events.
func (c *client) closeFrame() (code int, text string) {
	c.t.Helper()
	for {
		opcode, payload := c.frame()
		if opcode != 8 {
			continue
		}
		if len(payload) < 2 {
			return 1005, ""
		}
		return int(payload[0])<<8 | int(payload[1]), string(payload[2:])
	}
}

// masked builds a client frame with a mask of its own (RFC 6455 §5.3).
func masked(fin bool, opcode byte, payload string) string {
	mask := [4]byte{0xa1, 0x07, 0xff, 0x33}
	head := []byte{opcode, 0x80}
	if fin {
		head[0] |= 0x80
	}
	switch n := len(payload); {
	case n < 126:
		head[1] |= byte(n)
	case n < 1<<16:
		head[1] |= 126
		head = append(head, byte(n>>8), byte(n))
	default:
		head[1] |= 127
		head = append(head, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	head = append(head, mask[:]...)
	for i := range len(payload) {
		head = append(head, payload[i]^mask[i%4])
	}
	return string(head)
}

// subscribe opens a websocket, and returns it with the answer to the handshake.
func (r *rig) subscribe(name, query string) (*client, *answer) {
	r.t.Helper()
	c := r.dial(name)
	c.send(upgradeRequest("/1.0/events" + query))
	a := c.answer("GET")
	if a.status != 101 {
		r.t.Fatalf("subscribing to %q: %q", query, a.raw())
	}
	return c, a
}

// event reads one text frame, over pings.
func (c *client) event() string {
	c.t.Helper()
	for {
		switch opcode, payload := c.frame(); opcode {
		case 1:
			return string(payload)
		case 9:
		default:
			c.t.Fatalf("frame %d %q; want an event", opcode, payload)
		}
	}
}
