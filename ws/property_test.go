package ws_test

import (
	"testing"

	"pgregory.net/rapid"

	"devlxd/ws"
	"devlxd/ws/wstest"
)

// drawnMask is a masking key, often one with zeros.
func drawnMask(t *rapid.T) (mask [4]byte) {
	copy(mask[:], rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "mask"))
	return mask
}

// drawControls appends some pings and pongs.
func drawControls(t *rapid.T, stream []byte, want *[]wstest.Event) []byte {
	for range rapid.IntRange(0, 2).Draw(t, "controls") {
		op := rapid.SampledFrom([]ws.OpCode{ws.OpPing, ws.OpPong}).Draw(t, "control")
		payload := rapid.SliceOfN(rapid.Byte(), 0, ws.MaxControl).Draw(t, "control payload")
		stream = wstest.AppendFrame(stream, wstest.Frame{Op: op, Fin: true, Payload: payload}, drawnMask(t))
		*want = append(*want, wstest.Event{Op: op, Data: payload})
	}
	return stream
}

// TestAnyFragments: a message that is cut into any fragments, with any control
// frames between them, and written in any parts, is the same message.
func TestAnyFragments(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		var want []wstest.Event
		for range rapid.IntRange(1, 3).Draw(t, "messages") {
			message := wstest.Event{Op: ws.OpText}
			if rapid.Bool().Draw(t, "binary") {
				message.Op = ws.OpBinary
				message.Data = rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data")
			} else {
				message.Data = []byte(rapid.StringN(-1, -1, 300).Draw(t, "text"))
			}
			f := wstest.Frame{Op: message.Op}
			for rest := message.Data; !f.Fin; f.Op = ws.OpContinuation {
				n := rapid.IntRange(0, len(rest)).Draw(t, "fragment")
				f.Fin = n == len(rest) && rapid.Bool().Draw(t, "fin")
				f.Payload = rest[:n]
				rest = rest[n:]
				stream = wstest.AppendFrame(stream, f, drawnMask(t))
				if !f.Fin {
					stream = drawControls(t, stream, &want)
				}
			}
			want = append(want, message)
			stream = drawControls(t, stream, &want)
		}
		r := receiver{tb: t, d: ws.Decoder{Max: 300}, inPlace: rapid.Bool().Draw(t, "in place")}
		for len(stream) > 0 {
			n := rapid.IntRange(1, len(stream)).Draw(t, "write")
			r.write(stream[:n])
			stream = stream[n:]
		}
		if r.err != ws.ErrPartial || len(r.pending) != 0 {
			t.Fatalf("at the end: %v with %d bytes left", r.err, len(r.pending))
		}
		sameEvents(t, "event", r.events, want)
	})
}
