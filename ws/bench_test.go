package ws_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	gobwas "github.com/gobwas/ws"

	"devlxd/ws"
	"devlxd/ws/wstest"
)

// benchStream is 64 masked text frames of size bytes.
func benchStream(size int) []byte {
	var stream []byte
	for range 64 {
		f := wstest.Frame{Op: ws.OpText, Fin: true, Payload: bytes.Repeat([]byte{'e'}, size)}
		stream = wstest.AppendFrame(stream, f, testMask)
	}
	return stream
}

var benchSizes = []int{0, 100, 4096}

func BenchmarkDecode(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprint("ours/", size), func(b *testing.B) {
			stream := benchStream(size)
			buf := make([]byte, len(stream))
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			for b.Loop() {
				copy(buf, stream)
				var d ws.Decoder
				for rest := buf; len(rest) > 0; {
					_, n, err := d.Next(rest)
					if err != nil {
						b.Fatal(err)
					}
					rest = rest[n:]
				}
			}
		})
		// The same with gobwas/ws, at its best: it needs the header to be whole
		// already, checks neither UTF-8 nor sizes, and is not told to copy.
		b.Run(fmt.Sprint("gobwas/", size), func(b *testing.B) {
			stream := benchStream(size)
			buf := make([]byte, len(stream))
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			in := bytes.NewReader(nil)
			for b.Loop() {
				copy(buf, stream)
				for in.Reset(buf); in.Len() > 0; {
					h, err := gobwas.ReadHeader(in)
					if err == nil {
						err = gobwas.CheckHeader(h, gobwas.StateServerSide)
					}
					if err != nil {
						b.Fatal(err)
					}
					at := len(buf) - in.Len()
					gobwas.Cipher(buf[at:at+int(h.Length)], h.Mask, 0)
					if _, err := in.Seek(h.Length, io.SeekCurrent); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func BenchmarkTextFrame(b *testing.B) {
	payload := make([]byte, 200)
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ws.TextFrame(payload)
		}
	})
	b.Run("gobwas", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := gobwas.CompileFrame(gobwas.NewTextFrame(payload)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkHandshake(b *testing.B) {
	h := goodHandshake()
	dst := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		if err := h.Check(); err != nil {
			b.Fatal(err)
		}
		dst = ws.AppendUpgrade(dst[:0], h.Key)
	}
}
