package httpparse

import (
	"bytes"
	"encoding"
	"testing"
)

var (
	_ encoding.BinaryAppender    = (*Body)(nil)
	_ encoding.BinaryUnmarshaler = (*Body)(nil)
)

// TestBodyStateMovesAnywhere goes on with another decoder behind every byte.
func TestBodyStateMovesAnywhere(t *testing.T) {
	for _, tt := range []struct {
		name, wire, want string
		start            Body
	}{
		{"plain", "0123456789", "0123456789", Body{state: bodyPlain, left: 10}},
		{"chunked", "3\r\nabc\r\n0a\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n", "abc0123456789", Body{state: chunkSize}},
	} {
		for cut := range len(tt.wire) + 1 {
			b, got := tt.start, []byte(nil)
			feed := func(data []byte) {
				for len(data) > 0 && !b.Done() {
					chunk, n, err := b.Next(data)
					if err != nil {
						t.Fatalf("%s cut at %d: %v", tt.name, cut, err)
					}
					got, data = append(got, chunk...), data[n:]
				}
			}
			feed([]byte(tt.wire[:cut]))
			state, err := b.AppendBinary([]byte("before"))
			if err != nil || string(state[:6]) != "before" {
				t.Fatalf("AppendBinary = %q, %v", state, err)
			}
			var moved Body
			if err := moved.UnmarshalBinary(state[6:]); err != nil || moved != b {
				t.Fatalf("%s cut at %d: %+v, %v; want %+v", tt.name, cut, moved, err, b)
			}
			b = moved
			feed([]byte(tt.wire[cut:]))
			if string(got) != tt.want || !b.Done() {
				t.Errorf("%s cut at %d: %q, done %v", tt.name, cut, got, b.Done())
			}
		}
	}
}

func TestBodyStateRefuses(t *testing.T) {
	b := Body{state: bodyPlain, left: 10}
	good, _ := b.AppendBinary(nil)
	for i := range good {
		var c Body
		if err := c.UnmarshalBinary(good[:i]); err != ErrBodyState {
			t.Errorf("cut to %d bytes = %v", i, err)
		}
	}
	for name, change := range map[string]func([]byte){
		"version":       func(s []byte) { s[0]++ },
		"too much left": func(s []byte) { s[1] = 0xff },
		"nothing left":  func(s []byte) { clear(s[1:9]) },
		"total":         func(s []byte) { s[9] = 1 },
		"count":         func(s []byte) { s[17] = 0xff },
		"state":         func(s []byte) { s[19] = 0xff },
	} {
		state, was := bytes.Clone(good), Body{left: 1, state: chunkData}
		c := was
		change(state)
		if err := c.UnmarshalBinary(state); err != ErrBodyState || c != was {
			t.Errorf("%s = %v, %+v", name, err, c)
		}
	}
}
