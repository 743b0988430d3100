package loadtest

import (
	"bytes"
	"strconv"
)

// answerHead is what matters of a response head.
type answerHead struct {
	status  int
	length  int64 // of the body
	chunked bool
}

var (
	headEnd       = []byte("\r\n\r\n")
	fieldLength   = []byte("\r\nContent-Length: ")
	fieldChunked  = []byte("\r\nTransfer-Encoding: chunked")
	statusPrefix  = []byte("HTTP/1.1 ")
	acceptField   = []byte("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") // of handshakeKey (RFC 6455 §1.3)
	handshakeKey  = "dGhlIHNhbXBsZSBub25jZQ=="
	lastChunk     = []byte("0\r\n\r\n")
	chunkBoundary = []byte("\r\n")
)

// parseHead reads a response head at the start of b. n is its length, 0 when it is not complete yet. Servers write the names of the two
// fields that frame a body as Go does; one that does not is answered with errFraming, never with a guess.
func parseHead(b []byte) (h answerHead, n int, err error) {
	end := bytes.Index(b, headEnd)
	if end < 0 {
		if len(b) > maxHead {
			return h, 0, errHead
		}
		return h, 0, nil
	}
	head := b[:end+2]
	n = end + len(headEnd)
	if len(head) < len(statusPrefix)+3 || !bytes.HasPrefix(head, statusPrefix) {
		return h, n, errHead
	}
	for _, c := range head[len(statusPrefix) : len(statusPrefix)+3] {
		if c < '0' || c > '9' {
			return h, n, errHead
		}
		h.status = h.status*10 + int(c-'0')
	}
	if h.status == 101 || h.status == 204 || h.status == 304 {
		return h, n, nil
	}
	if at := bytes.Index(head, fieldLength); at >= 0 {
		rest := head[at+len(fieldLength):]
		digits := 0
		for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
			h.length = h.length*10 + int64(rest[digits]-'0')
			digits++
		}
		if digits == 0 || digits > 18 || rest[digits] != '\r' {
			return h, n, errFraming
		}
		return h, n, nil
	}
	if h.chunked = bytes.Contains(head, fieldChunked); !h.chunked {
		return h, n, errFraming
	}
	return h, n, nil
}

// maxHead is the longest response head that is waited for.
const maxHead = 64 << 10

// chunkedBody joins the chunks of a whole body at the start of b (RFC 9112 §7.1). n is 0 when it is not complete.
func chunkedBody(b []byte) (body []byte, n int, err error) {
	for {
		line := bytes.Index(b[n:], chunkBoundary)
		if line < 0 {
			return nil, 0, nil
		}
		size, err := strconv.ParseUint(string(b[n:n+line]), 16, 31)
		if err != nil {
			return nil, 0, errFraming
		}
		start := n + line + len(chunkBoundary)
		if size == 0 {
			if len(b) < n+len(lastChunk) {
				return nil, 0, nil
			}
			return body, n + len(lastChunk), nil
		}
		end := start + int(size)
		if len(b) < end+len(chunkBoundary) {
			return nil, 0, nil
		}
		body = append(body, b[start:end]...)
		n = end + len(chunkBoundary)
	}
}
