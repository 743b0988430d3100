package httpparse

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

// curlRequest and browserRequest are also what the benchmarks parse.
const (
	curlRequest = "GET /1.0/config/user.foo HTTP/1.1\r\nHost: lxd\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n"

	browserRequest = "GET /1.0/events?type=config,device HTTP/1.1\r\n" +
		"Host: localhost:8080\r\n" +
		"Connection: keep-alive\r\n" +
		"sec-ch-ua: \"Chromium\";v=\"124\", \"Not-A.Brand\";v=\"99\"\r\n" +
		"sec-ch-ua-mobile: ?0\r\n" +
		"sec-ch-ua-platform: \"Linux\"\r\n" +
		"Upgrade-Insecure-Requests: 1\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36\r\n" +
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n" +
		"Sec-Fetch-Site: none\r\n" +
		"Sec-Fetch-Mode: navigate\r\n" +
		"Sec-Fetch-User: ?1\r\n" +
		"Sec-Fetch-Dest: document\r\n" +
		"Accept-Encoding: gzip, deflate, br, zstd\r\n" +
		"Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n" +
		"Cookie: id=0123456789abcdef0123456789abcdef; theme=dark\r\n" +
		"\r\n"
)

// A drip costs time proportional to its bytes: the head is parsed again only when it has
// doubled, and the search for its end does not go back.
func TestDripIsLinear(t *testing.T) {
	drips := map[string]string{
		"one long value":  "GET / HTTP/1.1\r\nHost: lxd\r\nX: " + strings.Repeat("y", MaxHead-40) + "\r\n\r\n",
		"many lines":      "GET / HTTP/1.1\r\nHost: lxd\r\n" + strings.Repeat("X: 0123456789\r\n", 60) + "\r\n",
		"line ends":       "GET / HTTP/1.1\r\nHost: lxd\r\n" + strings.Repeat("X:\r\n", 60) + "\r\n",
		"one long target": "GET /" + strings.Repeat("a", MaxTarget-1) + " HTTP/1.1\r\nHost: lxd\r\n\r\n",
	}
	for name, text := range drips {
		t.Run(name, func(t *testing.T) {
			var p Parser
			var req Request
			raw := []byte(text)
			parses := 0
			for i := 1; i < len(raw); i++ {
				before := p
				if _, err := p.Head(raw[:i:i], &req); err != ErrPartial {
					t.Fatalf("after %d bytes: %v", i, err)
				}
				if p.seen < before.seen || int(p.seen) < i-1 {
					t.Fatalf("after %d bytes: seen = %d, was %d", i, p.seen, before.seen)
				}
				if p.again != before.again {
					parses++
				}
			}
			if n, err := p.Head(raw, &req); n != len(raw) || err != nil {
				t.Fatalf("whole: %d, %v", n, err)
			}
			if parses > 16 {
				t.Errorf("parsed %d times", parses)
			}
		})
	}
}

// Text that never becomes a request is refused before it has doubled.
func TestNonsenseIsRefusedEarly(t *testing.T) {
	var p Parser
	var req Request
	raw := []byte("SSH-2.0-OpenSSH_9.2 this is no request at all, and no line end ever follows it")
	for i := range raw {
		_, err := p.Head(raw[:i:i], &req)
		if err == ErrPartial {
			continue
		}
		// "SSH-2.0-OpenSSH_9.2 this is" is wrong from its second space on.
		if err != ErrRequestLine || i > 2*len("SSH-2.0-OpenSSH_9.2 this i") {
			t.Fatalf("after %d bytes: %v", i, err)
		}
		return
	}
	t.Fatal("not refused")
}

func TestParserIsReady(t *testing.T) {
	head := []byte(curlRequest)
	first := func(p *Parser, req *Request) {
		_, _ = p.Head(head[:40], req)
	}
	tests := map[string]func(p *Parser, req *Request){
		"zero":            func(*Parser, *Request) {},
		"after a head":    func(p *Parser, req *Request) { first(p, req); _, _ = p.Head(head, req) },
		"after a refusal": func(p *Parser, req *Request) { first(p, req); _, _ = p.Head([]byte("\x00"+curlRequest), req) },
		"after the limit": func(p *Parser, req *Request) {
			first(p, req)
			_, _ = p.Head(bytes.Repeat([]byte("A: b"), MaxHead), req)
		},
		"after Reset":      func(p *Parser, req *Request) { first(p, req); p.Reset() },
		"buffer shortened": func(p *Parser, req *Request) { _, _ = p.Head([]byte("GET /"+strings.Repeat("a", 4000)), req) },
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			var p Parser
			var req Request
			prepare(&p, &req)
			if n, err := p.Head(head, &req); n != len(head) || err != nil {
				t.Fatalf("Head = %d, %v", n, err)
			}
			if p != (Parser{}) {
				t.Errorf("parser keeps %+v", p)
			}
		})
	}
}

// Everything that Head can set is forgotten by Reset, and by the next Head.
func TestRequestIsReset(t *testing.T) {
	all := "POST /a?b HTTP/1.1\r\nHost: h\r\nUpgrade: u\r\nOrigin: o\r\nContent-Type: c\r\nRange: r\r\nIf-Range: i\r\n" +
		"If-Modified-Since: m\r\nConnection: upgrade, close, keep-alive\r\nSec-WebSocket-Key: k\r\n" +
		"Sec-WebSocket-Version: v\r\nSec-WebSocket-Protocol: p\r\nSec-WebSocket-Extensions: e\r\nExpect: 100-continue\r\n"
	var req Request
	set := map[string]bool{}
	for _, length := range []string{"Content-Length: 5\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"} {
		if _, err := new(Parser).Head([]byte(all+length), &req); err != nil {
			t.Fatal(err)
		}
		v := reflect.ValueOf(&req).Elem()
		for i := range v.NumField() {
			if !v.Field(i).IsZero() {
				set[v.Type().Field(i).Name] = true
			}
		}
	}
	for i := range reflect.TypeFor[Request]().NumField() {
		// A request that stays open is the other request of this test.
		if name := reflect.TypeFor[Request]().Field(i).Name; !set[name] && name != "KeepAlive" {
			t.Errorf("the request of this test does not set %s", name)
		}
	}
	req.KeepAlive = true
	req.Reset()
	if !reflect.DeepEqual(req, Request{}) {
		t.Errorf("after Reset: %+v", req)
	}
}

func TestWellKnownFields(t *testing.T) {
	var req Request
	tests := map[string]*[]byte{
		"Upgrade": &req.Upgrade, "Origin": &req.Origin, "Content-Type": &req.ContentType, "Range": &req.Range,
		"If-Range": &req.IfRange, "If-Modified-Since": &req.IfModifiedSince, "Connection": &req.Connection,
		"Sec-WebSocket-Key": &req.SecWebSocketKey, "Sec-WebSocket-Version": &req.SecWebSocketVersion,
		"Sec-WebSocket-Protocol": &req.SecWebSocketProtocol, "Sec-WebSocket-Extensions": &req.SecWebSocketExtensions,
	}
	for name, got := range tests {
		t.Run(name, func(t *testing.T) {
			head := "GET / HTTP/1.0\r\n" + strings.ToUpper(name) + ": first\r\n" + name + ": second\r\n\r\n"
			if _, err := new(Parser).Head([]byte(head), &req); err != nil {
				t.Fatal(err)
			}
			if string(*got) != "first" || string(req.Get(strings.ToLower(name))) != "first" {
				t.Errorf("field %q, Get %q; want %q", *got, req.Get(name), "first")
			}
			for other, value := range tests {
				if other != name && *value != nil {
					t.Errorf("%s = %q; want nil", other, *value)
				}
			}
			if req.Get("X-Absent") != nil {
				t.Error("Get of an absent field is not nil")
			}
		})
	}
}

// A body that is done takes nothing of what follows it.
func TestBodyDone(t *testing.T) {
	next := []byte(curlRequest)
	plain := (&Request{ContentLength: 4}).Body()
	if data, n, err := plain.Next(next); string(data) != "GET " || n != 4 || err != nil {
		t.Fatalf("Next = %q, %d, %v", data, n, err)
	}
	for name, b := range map[string]Body{"zero": {}, "without a length": (&Request{}).Body(), "read": plain} {
		t.Run(name, func(t *testing.T) {
			for _, buf := range [][]byte{next, nil} {
				if data, n, err := b.Next(buf); data != nil || n != 0 || err != nil || !b.Done() {
					t.Errorf("Next = %q, %d, %v, Done = %t", data, n, err, b.Done())
				}
			}
		})
	}
}
