package ws

import (
	"encoding/binary"
	"slices"

	gobwas "github.com/gobwas/ws"
)

// DefaultMax is the message size limit of a Decoder whose Max is 0, in bytes.
const DefaultMax = 64 << 10

// Piece is what one call of [Decoder.Next] found.
type Piece struct {
	// Op is the opcode of the message, on each of its pieces; or OpClose,
	// OpPing or OpPong. It is never OpContinuation.
	Op OpCode
	// Data is the unmasked payload: a part of the buffer given to Next, valid
	// as long as the caller leaves that alone, with its capacity clipped. It
	// can be empty, also in the middle of a message.
	Data []byte
	// First and Last mark the first and last piece of a message. Control
	// frames are always whole and have both.
	First, Last bool
}

// Decoder takes apart the frames that a client sends. The zero value is ready.
// It is owned by the connection's loop: one goroutine at a time.
type Decoder struct {
	// Max is the most bytes of payload that a message may have over all its
	// fragments; 0 stands for DefaultMax. It is read at each frame.
	Max int

	size int64      // payload announced so far by the frames of the current message
	left int64      // payload of the current data frame still to come
	mask [4]byte    // masking key of the current data frame
	text utf8Stream // where the current text message ended
	pos  uint8      // offset of the next payload byte in the mask, 0 to 3
	op   OpCode     // opcode of the current message; OpContinuation between messages
	fin  bool       // the current data frame is the last one of its message
	end  uint8      // endOpen, endClosed, or 1 + an index of closeErrors
}

// Values of Decoder.end that stand for no fault of the peer.
const (
	endOpen   = 0
	endClosed = 0xff
)

// frame is the header of a data or control frame that was found in order.
type frame struct {
	op     OpCode
	fin    bool
	mask   [4]byte
	length int64
	size   int // of the header, in bytes
}

// Next takes the next piece off the front of buf and unmasks it in place: n
// bytes of buf are done, n > 0. Call it again with buf[n:].
//
// Otherwise n is 0 and err is
//   - ErrPartial: buf ends inside a header or a control frame, or is empty.
//     Nothing has changed, neither in buf nor in the decoder;
//   - a *CloseError: what to send back. The contents of buf are undefined, and
//     every later call returns the same error;
//   - ErrClosed: a close frame was handed out before.
//
// The piece with OpClose has been checked: [ParseClose] of its data cannot
// fail. A message is complete only with the piece that has Last: an error can
// come after pieces of a message were handed out.
//
// It does not allocate.
func (d *Decoder) Next(buf []byte) (p Piece, n int, err error) {
	if d.end != endOpen {
		return Piece{}, 0, d.endError()
	}
	if d.left > 0 {
		if len(buf) == 0 {
			return Piece{}, 0, ErrPartial
		}
		return d.payload(buf, 0, false)
	}
	f, err := d.header(buf)
	if err != nil {
		return Piece{}, 0, d.fail(err)
	}
	if f.op.IsControl() {
		return d.control(buf, &f)
	}
	first := f.op != OpContinuation
	if first {
		d.op = f.op
	}
	d.fin, d.mask, d.pos = f.fin, f.mask, 0
	d.left = f.length
	d.size += f.length
	return d.payload(buf, f.size, first)
}

// header reads the frame header at the front of buf and checks it against RFC
// 6455 §5 and the state of the message. It changes nothing.
func (d *Decoder) header(buf []byte) (f frame, err error) {
	if len(buf) < 2 {
		return f, ErrPartial
	}
	if err := d.checkStart(buf[0], buf[1]); err != nil {
		return f, err
	}
	f.fin = buf[0]&bitFin != 0
	f.op = OpCode(buf[0] & maskOpcode)

	length := uint64(buf[1] & maskLength)
	f.size = 2
	switch length {
	case length16:
		if f.size = 4; len(buf) < f.size {
			return f, ErrPartial
		}
		length = uint64(binary.BigEndian.Uint16(buf[2:]))
		// RFC 6455 §5.2: "the minimal number of bytes MUST be used to encode
		// the length".
		if length < length16 {
			return f, ErrLengthForm
		}
	case length64:
		if f.size = 10; len(buf) < f.size {
			return f, ErrPartial
		}
		length = binary.BigEndian.Uint64(buf[2:])
		if length>>63 != 0 {
			return f, ErrLengthHighBit
		}
		if length>>16 == 0 {
			return f, ErrLengthForm
		}
	}
	if !f.op.IsControl() && length > d.room() {
		return f, ErrMessageTooBig
	}
	f.length = int64(length)

	if f.size += len(f.mask); len(buf) < f.size {
		return f, ErrPartial
	}
	copy(f.mask[:], buf[f.size-len(f.mask):])
	return f, nil
}

// checkStart applies the rules that need no more than the first two bytes of a
// frame, so that a peer that breaks one is not waited for.
func (d *Decoder) checkStart(b0, b1 byte) error {
	op := OpCode(b0 & maskOpcode)
	switch {
	case b0&maskRsv != 0:
		return ErrReservedBits
	case op.IsReserved():
		return ErrReservedOpcode
	case b1&bitMask == 0:
		return ErrUnmasked
	case op.IsControl() && b0&bitFin == 0:
		return ErrControlFragmented
	case op.IsControl() && b1&maskLength > MaxControl:
		return ErrControlTooLong
	case op == OpContinuation && d.op == OpContinuation:
		return ErrContinuation
	case op.IsData() && op != OpContinuation && d.op != OpContinuation:
		return ErrInterrupted
	}
	return nil
}

// room is how many bytes more the current message may announce.
func (d *Decoder) room() uint64 {
	limit := int64(d.Max)
	if limit <= 0 {
		limit = DefaultMax
	}
	return uint64(max(limit-d.size, 0))
}

// payload hands out what buf holds of the current data frame, from offset at.
func (d *Decoder) payload(buf []byte, at int, first bool) (Piece, int, error) {
	n := at + int(min(int64(len(buf)-at), d.left))
	data := buf[at:n:n]
	gobwas.Cipher(data, d.mask, int(d.pos))
	d.pos = uint8((int(d.pos) + len(data)) % len(d.mask))
	d.left -= int64(len(data))

	p := Piece{Op: d.op, Data: data, First: first, Last: d.fin && d.left == 0}
	// RFC 6455 §8.1: bytes that are not UTF-8 fail the connection. Not waiting
	// for the end of the message is allowed by §5.4 and spares the rest of it.
	if p.Op == OpText && (!d.text.write(data) || p.Last && d.text.open()) {
		return Piece{}, 0, d.fail(ErrTextUTF8)
	}
	if p.Last {
		d.op, d.size = OpContinuation, 0
	}
	return p, n, nil
}

// control hands out the control frame f at the front of buf once it is whole.
// Only then is it unmasked: the bytes of an incomplete one will be presented
// again, and unmasking them twice would mask them.
func (d *Decoder) control(buf []byte, f *frame) (Piece, int, error) {
	n := f.size + int(f.length)
	if len(buf) < n {
		return Piece{}, 0, ErrPartial
	}
	data := buf[f.size:n:n]
	gobwas.Cipher(data, f.mask, 0)
	if f.op == OpClose {
		if _, _, err := ParseClose(data); err != nil {
			return Piece{}, 0, d.fail(err)
		}
		d.end = endClosed
	}
	return Piece{Op: f.op, Data: data, First: true, Last: true}, n, nil
}

// fail makes a fault of the peer the decoder's last word; ErrPartial passes.
func (d *Decoder) fail(err error) error {
	if e, ok := err.(*CloseError); ok {
		d.end = uint8(1 + slices.Index(closeErrors[:], e))
	}
	return err
}

// endError is what every call of Next returns once the decoder has ended.
func (d *Decoder) endError() error {
	if d.end == endClosed {
		return ErrClosed
	}
	return closeErrors[d.end-1]
}
