package ws_test

import (
	"bytes"
	"fmt"
	"math"
	"testing"
	"unicode/utf8"
	"unsafe"

	"devlxd/ws"
	"devlxd/ws/wstest"
)

var testMask = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// clientFrame is a whole masked frame.
func clientFrame(op ws.OpCode, fin bool, payload string) []byte {
	return wstest.AppendFrame(nil, wstest.Frame{Op: op, Fin: fin, Payload: []byte(payload)}, testMask)
}

func TestDecoderSize(t *testing.T) {
	if got := unsafe.Sizeof(ws.Decoder{}); got != 40 {
		t.Errorf("size of a Decoder = %d bytes; want 40, as the documentation says", got)
	}
}

// TestRFCExamples decodes the masked examples of RFC 6455 §5.7 as they stand there.
func TestRFCExamples(t *testing.T) {
	hello := []byte{0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58}
	pong := []byte{0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58}
	var d ws.Decoder
	for _, tt := range []struct {
		op    ws.OpCode
		bytes []byte
	}{{ws.OpText, hello}, {ws.OpPong, pong}} {
		p, n, err := d.Next(tt.bytes)
		if err != nil || n != len(tt.bytes) || p.Op != tt.op || string(p.Data) != "Hello" || !p.First || !p.Last {
			t.Errorf("Next = %+v, %d, %v; want a whole %v of \"Hello\"", p, n, err, tt.op)
		}
	}
}

// TestPieces checks how one message in two frames and three buffers is handed out.
func TestPieces(t *testing.T) {
	frames := append(clientFrame(ws.OpText, false, "abcdef"), clientFrame(ws.OpContinuation, true, "gh")...)
	var d ws.Decoder
	for i, step := range []struct {
		bytes       string
		n           int
		data        string
		first, last bool
	}{
		{string(frames[:6]), 6, "", true, false}, // a header alone is done with
		{string(frames[6:9]), 3, "abc", false, false},
		{string(frames[9:]), 3, "def", false, false}, // not beyond the frame
		{string(frames[12:]), 8, "gh", false, true},
	} {
		buf := []byte(step.bytes)
		p, n, err := d.Next(buf)
		want := ws.Piece{Op: ws.OpText, Data: []byte(step.data), First: step.first, Last: step.last}
		if err != nil || n != step.n || fmt.Sprint(p) != fmt.Sprint(want) {
			t.Errorf("piece %d: Next = %v, %d, %v; want %v, %d", i, p, n, err, want, step.n)
		}
		if len(p.Data) > 0 && &p.Data[0] != &buf[n-len(p.Data)] {
			t.Errorf("piece %d is a copy; want a part of the buffer", i)
		}
	}
}

// TestPartial checks every beginning of a header and of a control frame: nothing
// is used or changed, and the same bytes can be presented again.
func TestPartial(t *testing.T) {
	long := fmt.Sprintf("%0300d", 7)
	huge := fmt.Sprintf("%070000d", 7)
	for _, tt := range []struct {
		name    string
		frame   []byte
		partial int // how many bytes of it are not enough
	}{
		{"ping", clientFrame(ws.OpPing, true, "payload"), 6 + 7},
		{"close", clientFrame(ws.OpClose, true, "\x03\xe8why"), 6 + 5},
		{"text", clientFrame(ws.OpText, true, "payload"), 6},
		{"empty text", clientFrame(ws.OpText, true, ""), 6},
		{"2-byte length", clientFrame(ws.OpText, true, long), 8},
		{"8-byte length", clientFrame(ws.OpBinary, true, huge), 14},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := ws.Decoder{Max: 1 << 20}
			for n := range tt.partial {
				buf := bytes.Clone(tt.frame[:n:n])
				was := d
				p, used, err := d.Next(buf)
				if err != ws.ErrPartial || used != 0 || p.Data != nil {
					t.Fatalf("Next of %d bytes = %+v, %d, %v; want ErrPartial", n, p, used, err)
				}
				if d != was || !bytes.Equal(buf, tt.frame[:n]) {
					t.Fatalf("Next of %d bytes changed the decoder or the bytes", n)
				}
			}
			if _, n, err := d.Next(bytes.Clone(tt.frame[:tt.partial])); err != nil || n != tt.partial {
				t.Errorf("Next of %d bytes = %d, %v; want all used", tt.partial, n, err)
			}
		})
	}
}

func TestPartialInsidePayload(t *testing.T) {
	var d ws.Decoder
	if _, _, err := d.Next(clientFrame(ws.OpBinary, true, "abc")[:7]); err != nil {
		t.Fatal(err)
	}
	if _, n, err := d.Next(nil); err != ws.ErrPartial || n != 0 {
		t.Errorf("Next(nil) = %d, %v; want ErrPartial", n, err)
	}
}

// TestEndStays checks that the last word of a decoder is its last.
func TestEndStays(t *testing.T) {
	good := clientFrame(ws.OpText, true, "good")
	for _, tt := range []struct {
		name  string
		frame []byte
		want  error
	}{
		{"fault", clientFrame(ws.OpContinuation, true, ""), ws.ErrContinuation},
		{"late fault", append(clientFrame(ws.OpText, false, "a"), clientFrame(ws.OpBinary, true, "")...), ws.ErrInterrupted},
		{"close", clientFrame(ws.OpClose, true, ""), ws.ErrClosed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var d ws.Decoder
			buf := tt.frame
			for range 2 {
				if _, n, err := d.Next(buf); err == nil {
					buf = buf[n:]
				}
			}
			for i := range 3 {
				if p, n, err := d.Next(bytes.Clone(good)); err != tt.want || n != 0 || p.Data != nil {
					t.Errorf("call %d: Next = %+v, %d, %v; want %v", i, p, n, err, tt.want)
				}
			}
			if _, n, err := d.Next(nil); err != tt.want || n != 0 {
				t.Errorf("Next(nil) = %d, %v; want %v", n, err, tt.want)
			}
		})
	}
}

// TestFaultsEarly checks that a fault is told from the fewest bytes that show it.
func TestFaultsEarly(t *testing.T) {
	for _, tt := range []struct {
		bytes string
		want  error
	}{
		{"\xc1\x80", ws.ErrReservedBits},
		{"\xa1\x80", ws.ErrReservedBits},
		{"\x91\x80", ws.ErrReservedBits},
		{"\x83\x80", ws.ErrReservedOpcode},
		{"\x8f\x80", ws.ErrReservedOpcode},
		{"\x81\x00", ws.ErrUnmasked},
		{"\x89\x00", ws.ErrUnmasked},
		{"\x09\x80", ws.ErrControlFragmented},
		{"\x08\x80", ws.ErrControlFragmented},
		{"\x89\xfe", ws.ErrControlTooLong},
		{"\x88\xff", ws.ErrControlTooLong},
		{"\x80\x80", ws.ErrContinuation},
		{"\x00\x80", ws.ErrContinuation},
		{"\x81\xfe\x00\x7d", ws.ErrLengthForm},
		{"\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff", ws.ErrLengthForm},
		{"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00", ws.ErrLengthHighBit},
		{"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff", ws.ErrLengthHighBit},
		{"\x82\xff\x00\x00\x00\x00\x00\x01\x00\x01", ws.ErrMessageTooBig},
		{"\x81\x81\x00\x00\x00\x00\xff", ws.ErrTextUTF8},
		{"\x88\x81\x00\x00\x00\x00\x03", ws.ErrCloseBody},
		{"\x88\x82\x00\x00\x00\x00\x03\xed", ws.ErrCloseCode},
		{"\x88\x83\x00\x00\x00\x00\x03\xe8\x80", ws.ErrCloseUTF8},
	} {
		t.Run(fmt.Sprintf("%x", tt.bytes), func(t *testing.T) {
			var d ws.Decoder
			if _, n, err := d.Next([]byte(tt.bytes)); err != tt.want || n != 0 {
				t.Errorf("Next = %d, %v; want %v", n, err, tt.want)
			}
			d = ws.Decoder{}
			short := []byte(tt.bytes[:len(tt.bytes)-1])
			p, n, err := d.Next(short)
			if err == nil { // the header of the text message
				_, _, err = d.Next(short[n:])
			}
			if err != ws.ErrPartial {
				t.Errorf("one byte less: Next = %+v, %v; want ErrPartial", p, err)
			}
		})
	}
}

func TestMax(t *testing.T) {
	for _, tt := range []struct {
		max, size int
		want      error
	}{
		{0, ws.DefaultMax, nil},
		{0, ws.DefaultMax + 1, ws.ErrMessageTooBig},
		{-1, ws.DefaultMax + 1, ws.ErrMessageTooBig},
		{1, 1, nil},
		{1, 2, ws.ErrMessageTooBig},
		{1 << 20, 1 << 20, nil},
		{1 << 20, 1<<20 + 1, ws.ErrMessageTooBig},
		{math.MaxInt, 1 << 20, nil},
	} {
		t.Run(fmt.Sprintf("max %d size %d", tt.max, tt.size), func(t *testing.T) {
			d := ws.Decoder{Max: tt.max}
			frame := clientFrame(ws.OpBinary, true, string(make([]byte, tt.size)))
			if _, _, err := d.Next(frame); err != tt.want {
				t.Errorf("Next = %v; want %v", err, tt.want)
			}
		})
	}
}

// TestCharacters sends code points of all ranges, and each pair of bytes that are
// not ASCII, cut at every byte, and compares with the standard library.
func TestCharacters(t *testing.T) {
	check := func(text []byte) {
		t.Helper()
		for cut := range len(text) + 1 {
			frame := wstest.AppendFrame(nil, wstest.Frame{Op: ws.OpText, Fin: true, Payload: text}, testMask)
			var d ws.Decoder
			_, n, err := d.Next(frame[: 6+cut : 6+cut])
			if err == nil && cut < len(text) {
				_, _, err = d.Next(frame[n:])
			}
			if valid := utf8.Valid(text); valid != (err == nil) {
				t.Fatalf("text %x cut at %d: Next = %v; valid is %t", text, cut, err, valid)
			}
		}
	}
	for r := rune(0); r <= utf8.MaxRune; r += 11 {
		check(utf8.AppendRune(nil, r))
	}
	for a := 0x7f; a <= 0xff; a++ {
		for b := 0x7f; b <= 0xff; b++ {
			check([]byte{byte(a), byte(b)})
			check([]byte{byte(a), byte(b), 0x80})
			check([]byte{byte(a), byte(b), 0xbf, 0x80})
		}
	}
}

func TestDecoderAllocations(t *testing.T) {
	var stream []byte
	for _, f := range [][]byte{
		clientFrame(ws.OpText, false, "grüße, "), clientFrame(ws.OpPing, true, "?"),
		clientFrame(ws.OpContinuation, true, "高"), clientFrame(ws.OpBinary, true, string(make([]byte, 300))),
	} {
		stream = append(stream, f...)
	}
	fault := clientFrame(ws.OpContinuation, true, "")
	buf := make([]byte, len(stream))
	allocs := testing.AllocsPerRun(200, func() {
		var d ws.Decoder
		copy(buf, stream)
		total := 0
		for {
			_, n, err := d.Next(buf[total:])
			if err != nil {
				break
			}
			total += n
		}
		if _, _, err := d.Next(fault); total != len(buf) || err != ws.ErrContinuation {
			t.Fatalf("used %d bytes of %d, then %v", total, len(buf), err)
		}
	})
	if allocs != 0 {
		t.Errorf("Next allocates %v times; want 0", allocs)
	}
}
