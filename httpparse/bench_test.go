package httpparse

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

var benchRequests = []struct{ name, text string }{
	{"curl", curlRequest},
	{"browser", browserRequest},
	{"long", "GET /1.0 HTTP/1.1\r\nHost: lxd\r\nCookie: " + strings.Repeat("0123456789abcdef", 900) + "\r\n\r\n"},
}

// BenchmarkHead parses the same requests here, with fasthttp and with net/http. The
// others read from a bufio.Reader that has the whole request, which is what they offer.
func BenchmarkHead(b *testing.B) {
	for _, r := range benchRequests {
		raw := []byte(r.text)
		b.Run(r.name+"/httpparse", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(raw)))
			var p Parser
			var req Request
			for b.Loop() {
				if n, err := p.Head(raw, &req); n != len(raw) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
		src := bytes.NewReader(nil)
		br := bufio.NewReaderSize(src, MaxHead)
		rewind := func() { src.Reset(raw); br.Reset(src) }
		b.Run(r.name+"/fasthttp", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(raw)))
			var h fasthttp.RequestHeader
			for b.Loop() {
				rewind()
				if err := h.Read(br); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(r.name+"/nethttp", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				rewind()
				if _, err := http.ReadRequest(br); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDrip delivers a head of 8 KiB in pieces: the time must not depend much on
// their size.
func BenchmarkDrip(b *testing.B) {
	raw := []byte("GET / HTTP/1.1\r\nHost: lxd\r\nX: " + strings.Repeat("y", 8<<10) + "\r\n\r\n")
	for _, piece := range []struct {
		name string
		size int
	}{{"1 byte", 1}, {"16 bytes", 16}, {"1 KiB", 1 << 10}, {"whole", len(raw)}} {
		b.Run(piece.name, func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			var p Parser
			var req Request
			for b.Loop() {
				n := 0
				for end := piece.size; n == 0; end += piece.size {
					n, _ = p.Head(raw[:min(end, len(raw))], &req)
				}
			}
		})
	}
}

func BenchmarkChunked(b *testing.B) {
	raw := []byte(strings.Repeat("400\r\n"+strings.Repeat("x", 0x400)+"\r\n", 64) + "0\r\n\r\n")
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		body := (&Request{Chunked: true}).Body()
		for rest := raw; !body.Done(); {
			_, n, err := body.Next(rest)
			if err != nil {
				b.Fatal(err)
			}
			rest = rest[n:]
		}
	}
}

// BenchmarkResponse writes the head of a response as a config value has it.
func BenchmarkResponse(b *testing.B) {
	b.ReportAllocs()
	var d Date
	now := time.Now()
	buf := make([]byte, 0, 512)
	for b.Loop() {
		out := AppendStatus(buf, 200)
		out = d.Append(out, now)
		out = AppendField(out, "Content-Type", "application/octet-stream")
		out = AppendInt(out, "Content-Length", 3)
		_ = append(out, "\r\n"...)
	}
}
