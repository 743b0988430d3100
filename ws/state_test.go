package ws_test

import (
	"bytes"
	"encoding"
	"fmt"
	"math/rand/v2"
	"testing"

	"devlxd/ws"
	"devlxd/ws/wstest"
)

var (
	_ encoding.BinaryAppender    = (*ws.Decoder)(nil)
	_ encoding.BinaryUnmarshaler = (*ws.Decoder)(nil)
)

// TestStateMovesAnywhere goes on with another decoder behind every byte.
func TestStateMovesAnywhere(t *testing.T) {
	forEachCase(t, func(t *testing.T, c *wstest.Case, rng *rand.Rand) {
		all := join(c, maskOf(rng))
		if len(all) > 2048 {
			all = nil
		}
		for cut := range all {
			r := receiver{tb: t, d: ws.Decoder{Max: c.Max}}
			r.write(all[:cut])
			state, err := r.d.AppendBinary([]byte("before"))
			if err != nil || string(state[:6]) != "before" {
				t.Fatalf("AppendBinary = %q, %v", state, err)
			}
			moved := ws.Decoder{Max: c.Max}
			if err := moved.UnmarshalBinary(state[6:]); err != nil {
				t.Fatalf("UnmarshalBinary(%x) = %v", state[6:], err)
			}
			if moved != r.d {
				t.Fatalf("decoder moved at %d is %+v; want %+v", cut, moved, r.d)
			}
			r.d = moved
			r.write(all[cut:])
			checkEvents(t, c, &r)
		}
	})
}

func TestUnmarshalBinary(t *testing.T) {
	d := ws.Decoder{}
	if _, _, err := d.Next(clientFrame(ws.OpText, true, "a\xe2\x82\xac")[:9]); err != nil {
		t.Fatal(err)
	}
	good, err := d.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		at   int
		to   byte
		want error
	}{
		{"nothing", 0, 1, nil},
		{"version", 0, 2, ws.ErrState},
		{"size negative", 1, 0x80, ws.ErrState},
		{"left negative", 9, 0x80, ws.ErrState},
		{"left beyond size", 16, 5, ws.ErrState},
		{"tail too long", 24, 4, ws.ErrState},
		{"mask offset", 25, 4, ws.ErrState},
		{"opcode", 26, 9, ws.ErrState},
		{"no message", 26, 0, ws.ErrState},
		{"binary with a tail of text", 26, 2, ws.ErrState},
		{"flag", 27, 2, ws.ErrState},
		{"end at a fault", 28, byte(len(ws.AllCloseErrors())), nil},
		{"end beyond the faults", 28, byte(len(ws.AllCloseErrors()) + 1), ws.ErrState},
		{"end closed", 28, 0xff, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			state := bytes.Clone(good)
			state[tt.at] = tt.to
			was := ws.Decoder{Max: 77}
			got := was
			if err := got.UnmarshalBinary(state); err != tt.want {
				t.Errorf("UnmarshalBinary = %v; want %v", err, tt.want)
			}
			if tt.want != nil && got != was {
				t.Errorf("decoder changed to %+v", got)
			}
			if got.Max != 77 {
				t.Errorf("Max = %d; want it left alone", got.Max)
			}
			_, _, _ = got.Next([]byte{0x82}) // must not panic
		})
	}
	t.Run("payload without a message", func(t *testing.T) {
		state := bytes.Clone(good)
		state[24], state[26] = 0, 0
		var d ws.Decoder
		if err := d.UnmarshalBinary(state); err != ws.ErrState {
			t.Errorf("UnmarshalBinary = %v; want ErrState", err)
		}
	})
	for _, n := range []int{0, 1, len(good) - 1, len(good) + 1} {
		t.Run(fmt.Sprintf("%d bytes", n), func(t *testing.T) {
			var d ws.Decoder
			if err := d.UnmarshalBinary(append(bytes.Clone(good), 0)[:n]); err != ws.ErrState {
				t.Errorf("UnmarshalBinary = %v; want ErrState", err)
			}
		})
	}
}

// TestSmallerMax checks a message that goes on where the limit is lower.
func TestSmallerMax(t *testing.T) {
	var d ws.Decoder
	if _, _, err := d.Next(clientFrame(ws.OpBinary, false, "twelve bytes")); err != nil {
		t.Fatal(err)
	}
	d.Max = 10
	if _, _, err := d.Next(clientFrame(ws.OpContinuation, true, "x")); err != ws.ErrMessageTooBig {
		t.Errorf("Next = %v; want ErrMessageTooBig", err)
	}
}
