package loadtest

import (
	"errors"
	"strings"
	"testing"
)

func TestParseHead(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     answerHead
		n        int // 0: more is needed
		err      error
	}{
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nbody", answerHead{status: 200, length: 12}, 39, nil},
		{"length 0", "HTTP/1.1 404 Not Found\r\nA: b\r\nContent-Length: 0\r\n\r\n", answerHead{status: 404}, 51, nil},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", answerHead{status: 200, chunked: true}, 47, nil},
		{"upgrade has no body", "HTTP/1.1 101 Switching Protocols\r\n\r\n\x81", answerHead{status: 101}, 36, nil},
		{"nothing", "", answerHead{}, 0, nil},
		{"part", "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r", answerHead{}, 0, nil},
		{"not HTTP", "SSH-2.0-OpenSSH\r\n\r\n", answerHead{}, 19, errHead},
		{"status is no number", "HTTP/1.1 2x0 OK\r\n\r\n", answerHead{}, 19, errHead},
		{"no end of body", "HTTP/1.1 200 OK\r\nA: b\r\n\r\n", answerHead{}, 25, errFraming},
		{"length is no number", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", answerHead{}, 38, errFraming},
		{"length with a tail", "HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n", answerHead{}, 39, errFraming},
		{"endless", "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", maxHead), answerHead{}, 0, errHead},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, n, err := parseHead([]byte(c.in))
			if !errors.Is(err, c.err) || (err == nil && (h != c.want || n != c.n)) {
				t.Errorf("parseHead = %+v, %d, %v; want %+v, %d, %v", h, n, err, c.want, c.n, c.err)
			}
			if err != nil || n == 0 {
				return
			}
			for cut := range n {
				if _, m, err := parseHead([]byte(c.in)[:cut]); m != 0 || err != nil {
					t.Errorf("the first %d bytes: %d, %v; want 0 and no error", cut, m, err)
				}
			}
		})
	}
}

func TestChunkedBody(t *testing.T) {
	const whole = "5\r\nhello\r\n1\r\n \r\nA\r\n0123456789\r\n0\r\n\r\n"
	body, n, err := chunkedBody([]byte(whole + "HTTP"))
	if string(body) != "hello 0123456789" || n != len(whole) || err != nil {
		t.Errorf("chunkedBody = %q, %d, %v", body, n, err)
	}
	for cut := range whole {
		if _, n, err := chunkedBody([]byte(whole[:cut])); n != 0 || err != nil {
			t.Errorf("the first %d bytes: %d, %v; want 0 and no error", cut, n, err)
		}
	}
	if _, _, err := chunkedBody([]byte("x\r\n")); !errors.Is(err, errFraming) {
		t.Errorf("a size that is no number: %v; want %v", err, errFraming)
	}
}
