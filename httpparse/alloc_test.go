package httpparse

import (
	"strings"
	"testing"
	"time"
)

// Nothing that runs for each request allocates.
func TestAllocations(t *testing.T) {
	var (
		p    Parser
		req  Request
		date Date
		now  = time.Unix(1_800_000_000, 0)
		buf  = make([]byte, 0, 1024)
		text = strings.Repeat("x", 100)
	)
	head := func(s string) func() {
		raw := []byte(s)
		return func() { _, _ = p.Head(raw, &req) }
	}
	drip, refused := []byte(curlRequest), []byte("GET / HTTP/1.1\r\nHost : lxd\r\n\r\n")
	chunks := []byte("5\r\nhello\r\n5\r\nworld\r\n0\r\nX: y\r\n\r\n")
	path, plain, coded := []byte("user.a%2Fb"), []byte("a=b&type=config"), []byte("a=b&type=a%2Cb")
	rng, at, list := []byte("bytes=5-10"), []byte("Sun, 06 Nov 1994 08:49:37 GMT"), []byte("keep-alive, Upgrade")
	tests := map[string]func(){
		"Head of curl":      head(curlRequest),
		"Head of a browser": head(browserRequest),
		"Head refused":      func() { _, _ = p.Head(refused, &req) },
		"Head byte by byte": func() {
			for i := range drip {
				_, _ = p.Head(drip[:i+1], &req)
			}
		},
		"Get": func() { _ = req.Get("accept") },
		"Body plain": func() {
			b := (&Request{ContentLength: int64(len(chunks))}).Body()
			_, _, _ = b.Next(chunks)
		},
		"Body chunked": func() {
			b := (&Request{Chunked: true}).Body()
			for rest := chunks; !b.Done(); {
				_, n, _ := b.Next(rest)
				rest = rest[n:]
			}
		},
		"AppendDecodedPath": func() { _, _ = AppendDecodedPath(buf[:0], path) },
		"QueryValue plain":  func() { _, _ = QueryValue(plain, "type", nil) },
		"QueryValue coded":  func() { _, _ = QueryValue(coded, "type", buf) },
		"HasToken":          func() { _ = HasToken(list, "upgrade") },
		"AppendStatus":      func() { _ = AppendStatus(buf[:0], 404) },
		"AppendField":       func() { _ = AppendField(buf[:0], "Content-Disposition", text) },
		"AppendInt":         func() { _ = AppendInt(buf[:0], "Content-Length", 1234) },
		"AppendTime":        func() { _ = AppendTime(buf[:0], "Last-Modified", now) },
		"AppendRange":       func() { _ = AppendContentRange(buf[:0], 1, 2, 3) },
		"Date":              func() { _ = date.Append(buf[:0], now) },
		"Date of each time": func() { now = now.Add(time.Second); _ = date.Append(buf[:0], now) },
		"ParseRange":        func() { _, _, _ = ParseRange(rng, 100) },
		"ParseHTTPTime":     func() { _, _ = ParseHTTPTime(at) },
	}
	for name, f := range tests {
		t.Run(name, func(t *testing.T) {
			if got := testing.AllocsPerRun(100, f); got != 0 {
				t.Errorf("%v allocations; want 0", got)
			}
		})
	}
}
