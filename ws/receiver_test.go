package ws_test

import (
	"bytes"
	"errors"
	"slices"

	"devlxd/ws"
	"devlxd/ws/wstest"
)

// tester is the part of testing.TB that rapid.T has, too.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
}

// receiver feeds a decoder as a connection does: it keeps what ErrPartial
// leaves over, and notes what came and what a server must answer. It checks the
// promises of Next at every call. What is called for each byte of the cases does
// without tb.Helper, which would cost more than the decoder.
type receiver struct {
	tb      tester
	d       ws.Decoder
	inPlace bool // keep the rest where it is, instead of in a buffer of its own

	pending []byte
	op      ws.OpCode
	message []byte
	open    bool // a message has begun
	events  []wstest.Event
	answers []wstest.Event
	err     error // ErrPartial, ErrClosed or a *CloseError
}

// write is one read of the connection: p is copied and then decoded.
func (r *receiver) write(p []byte) {
	if r.inPlace {
		r.pending = append(r.pending, p...)
	} else {
		r.pending = slices.Concat(r.pending, p)
	}
	buf := r.pending
	for {
		clipped := buf[:len(buf):len(buf)] // one byte read too far is a panic
		var before [160]byte               // more than can be kept
		kept := copy(before[:], buf)
		piece, n, err := r.d.Next(clipped)
		if err != nil {
			if n != 0 {
				r.tb.Fatalf("Next = %d bytes used with %v; want 0", n, err)
			}
			if err == ws.ErrPartial && !bytes.Equal(before[:kept], buf[:kept]) {
				r.tb.Fatalf("Next changed the buffer from %x to %x and returned ErrPartial", before[:kept], buf[:kept])
			}
			r.end(err)
			if err != ws.ErrPartial {
				buf = nil // a connection keeps nothing for a decoder that has ended
			}
			break
		}
		if n <= 0 || n > len(buf) {
			r.tb.Fatalf("Next used %d bytes of %d", n, len(buf))
		}
		if cap(piece.Data) != len(piece.Data) || len(piece.Data) > n {
			r.tb.Fatalf("piece of %d bytes, capacity %d, of %d used; want its capacity clipped", len(piece.Data), cap(piece.Data), n)
		}
		r.piece(piece)
		buf = buf[n:]
	}
	r.pending = buf
}

// piece notes what one call of Next found.
func (r *receiver) piece(p ws.Piece) {
	if p.Op.IsControl() {
		if !p.First || !p.Last {
			r.tb.Fatalf("control frame %v is not whole: %+v", p.Op, p)
		}
		r.control(p)
		return
	}
	if p.First == r.open || !p.First && p.Op != r.op {
		r.tb.Fatalf("piece %+v inside of a message: %t (opcode %v)", p, r.open, r.op)
	}
	r.op = p.Op
	r.message = append(r.message, p.Data...)
	limit := r.d.Max
	if limit <= 0 {
		limit = ws.DefaultMax
	}
	if len(r.message) > limit {
		r.tb.Fatalf("message has %d bytes; the limit is %d", len(r.message), limit)
	}
	if r.open = !p.Last; p.Last {
		r.events = append(r.events, wstest.Event{Op: p.Op, Data: r.message})
		r.message = nil
	}
}

// control notes a control frame and its answer.
func (r *receiver) control(p ws.Piece) {
	r.tb.Helper()
	e := wstest.Event{Op: p.Op, Data: bytes.Clone(p.Data)}
	switch p.Op {
	case ws.OpPing:
		r.answers = append(r.answers, wstest.Event{Op: ws.OpPong, Data: e.Data})
	case ws.OpClose:
		code, _, err := ws.ParseClose(p.Data)
		if err != nil {
			r.tb.Fatalf("ParseClose(%x) = %v after Next handed it out", p.Data, err)
		}
		e.Code = code
		r.answers = append(r.answers, wstest.Event{Op: ws.OpClose, Code: code})
	}
	r.events = append(r.events, e)
}

// end notes why Next stopped.
func (r *receiver) end(err error) {
	var fault *ws.CloseError
	if ended := r.err != nil && r.err != ws.ErrPartial; ended && err != r.err {
		r.tb.Fatalf("Next = %v after %v; want the same again", err, r.err)
	} else if errors.As(err, &fault) && !ended {
		r.answers = append(r.answers, wstest.Event{Op: ws.OpClose, Code: fault.Code})
	}
	r.err = err
}

// sameEvents compares what came with what should, and says where they differ.
func sameEvents(tb tester, what string, got, want []wstest.Event) {
	tb.Helper()
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			tb.Fatalf("%s %d is missing; want %v", what, i, want[i])
		case i >= len(want):
			tb.Fatalf("%s %d is %v; want none", what, i, got[i])
		case got[i].Op != want[i].Op || got[i].Code != want[i].Code || !bytes.Equal(got[i].Data, want[i].Data):
			tb.Fatalf("%s %d is %v; want %v", what, i, got[i], want[i])
		}
	}
}
