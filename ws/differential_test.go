package ws_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	gobwas "github.com/gobwas/ws"

	"devlxd/ws"
)

// verdict is what one of the two decoders says of a frame header.
type verdict struct {
	ok, partial bool
}

// gobwasVerdict reads a header as gobwas/ws does. gaps is true where its answer
// is known to be laxer than the RFC or our limit: lengths that are not in their
// shortest form, and messages without bound.
func gobwasVerdict(head []byte, state gobwas.State) (h gobwas.Header, v verdict, gap bool) {
	h, err := gobwas.ReadHeader(bytes.NewReader(head))
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return h, verdict{partial: true}, false
	case err != nil:
		return h, verdict{}, false
	}
	length := head[1] & 0x7f
	gap = length == 126 && h.Length < 126 || length == 127 && h.Length < 65536 ||
		h.OpCode.IsData() && h.Length > ws.DefaultMax
	return h, verdict{ok: gobwas.CheckHeader(h, state) == nil}, gap
}

// ours reads the same header with a Decoder that is inside a message or not.
func ours(head []byte, fragmented bool) (p ws.Piece, v verdict, err error) {
	var d ws.Decoder
	if fragmented {
		if _, _, err := d.Next([]byte{0x02, 0x80, 0, 0, 0, 0}); err != nil {
			return p, v, err
		}
	}
	p, _, err = d.Next(head)
	return p, verdict{ok: err == nil, partial: err == ws.ErrPartial}, err
}

// TestHeadersAgainstGobwas compares all first two bytes, with lengths at each
// border, inside a message and between messages, whole and cut short.
func TestHeadersAgainstGobwas(t *testing.T) {
	lengths := []uint64{0, 1, 125, 126, 127, 128, 65535, 65536, 65537, 1 << 32, 1<<63 - 1, 1 << 63, 1<<64 - 1}
	for b0 := range 256 {
		for b1 := range 256 {
			heads := [][]byte{{byte(b0), byte(b1)}}
			switch b1 & 0x7f {
			case 126:
				heads = heads[:0]
				for _, n := range lengths[:7] {
					heads = append(heads, binary.BigEndian.AppendUint16([]byte{byte(b0), byte(b1)}, uint16(n)))
				}
			case 127:
				heads = heads[:0]
				for _, n := range lengths {
					heads = append(heads, binary.BigEndian.AppendUint64([]byte{byte(b0), byte(b1)}, n))
				}
			}
			for _, head := range heads {
				if b1&0x80 != 0 {
					head = append(head, testMask[:]...)
				}
				compareHeader(t, head)
			}
		}
	}
}

func compareHeader(t *testing.T, head []byte) {
	t.Helper()
	for _, fragmented := range []bool{false, true} {
		state := gobwas.StateServerSide
		if fragmented {
			state = state.Set(gobwas.StateFragmented)
		}
		for n := range len(head) + 1 {
			h, theirs, gap := gobwasVerdict(head[:n], state)
			piece, own, err := ours(bytes.Clone(head[:n]), fragmented)
			control := theirs.ok && h.OpCode.IsControl()
			switch {
			case gap:
				if own.ok || own.partial {
					t.Fatalf("header %x: Next = %v; want an error where gobwas/ws has none", head[:n], err)
				}
			case theirs.partial && !own.ok && !own.partial:
				// A fault that shows early is told early: it must be one when whole.
				if _, whole, gap := gobwasVerdict(head, state); whole.ok && !gap {
					t.Fatalf("header %x (of %x): Next = %v; gobwas/ws accepts it", head[:n], head, err)
				}
			case control && h.OpCode == gobwas.OpClose && h.Length == 0, control && h.Length > 0:
				// A close is checked further, a control frame waited for.
				if !own.ok && !own.partial {
					t.Fatalf("header %x: Next = %v; gobwas/ws accepts it", head[:n], err)
				}
			case own != theirs:
				t.Fatalf("header %x, fragmented %t: Next = %+v (%v); gobwas/ws: %+v", head[:n], fragmented, own, err, theirs)
			case own.ok && !h.Fin == piece.Last && h.Length == 0:
				t.Fatalf("header %x: Last = %t; FIN is %t", head[:n], piece.Last, h.Fin)
			}
		}
	}
}

// TestPayloadAgainstGobwas decodes streams of random frames, cut at random,
// with both.
func TestPayloadAgainstGobwas(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 200 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			var stream []byte
			var want [][]byte
			for range 1 + rng.IntN(8) {
				payload := make([]byte, rng.IntN(400))
				for j := range payload {
					payload[j] = byte(rng.Uint32())
				}
				f, err := gobwas.CompileFrame(gobwas.MaskFrameWith(gobwas.NewBinaryFrame(payload), maskOf(rng)()))
				if err != nil {
					t.Fatal(err)
				}
				stream = append(stream, f...)
			}
			for in := bytes.NewReader(bytes.Clone(stream)); in.Len() > 0; {
				h, err := gobwas.ReadHeader(in)
				if err != nil {
					t.Fatal(err)
				}
				payload := make([]byte, h.Length)
				if _, err := io.ReadFull(in, payload); err != nil {
					t.Fatal(err)
				}
				gobwas.Cipher(payload, h.Mask, 0)
				want = append(want, payload)
			}
			r := receiver{tb: t, inPlace: i%2 == 0}
			for len(stream) > 0 {
				n := min(1+rng.IntN(300), len(stream))
				r.write(stream[:n])
				stream = stream[n:]
			}
			if len(r.events) != len(want) {
				t.Fatalf("%d messages; want %d", len(r.events), len(want))
			}
			for j, e := range r.events {
				if !bytes.Equal(e.Data, want[j]) {
					t.Fatalf("message %d is %x; want %x", j, e.Data, want[j])
				}
			}
		})
	}
}
