package ws_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"testing"

	"devlxd/ws"
)

const rfcKey = "dGhlIHNhbXBsZSBub25jZQ==" // RFC 6455 §1.3

func goodHandshake() ws.Handshake {
	return ws.Handshake{
		Method:     []byte("GET"),
		Upgrade:    []byte("websocket"),
		Connection: []byte("Upgrade"),
		Key:        []byte(rfcKey),
		Version:    []byte("13"),
		Host:       []byte("lxd"),
		Minor:      1,
	}
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(h *ws.Handshake)
		want   *ws.HandshakeError
	}{
		{"good", func(h *ws.Handshake) {}, nil},
		{"POST", func(h *ws.Handshake) { h.Method = []byte("POST") }, ws.ErrMethod},
		{"get", func(h *ws.Handshake) { h.Method = []byte("get") }, ws.ErrMethod},
		{"no method", func(h *ws.Handshake) { h.Method = nil }, ws.ErrMethod},
		{"HTTP/1.0", func(h *ws.Handshake) { h.Minor = 0 }, ws.ErrHTTPVersion},
		{"no Host", func(h *ws.Handshake) { h.Host = nil }, ws.ErrHost},
		{"empty Host", func(h *ws.Handshake) { h.Host = []byte{} }, nil},
		{"Upgrade: WebSocket", func(h *ws.Handshake) { h.Upgrade = []byte("WebSocket") }, nil},
		{"Upgrade: h2c, websocket", func(h *ws.Handshake) { h.Upgrade = []byte("h2c, websocket") }, nil},
		{"Upgrade: websockets", func(h *ws.Handshake) { h.Upgrade = []byte("websockets") }, ws.ErrUpgrade},
		{"Upgrade: web socket", func(h *ws.Handshake) { h.Upgrade = []byte("web socket") }, ws.ErrUpgrade},
		{"Upgrade: websocket/13", func(h *ws.Handshake) { h.Upgrade = []byte("websocket/13") }, ws.ErrUpgrade},
		{"Upgrade: web\u017focket", func(h *ws.Handshake) { h.Upgrade = []byte("web\u017focket") }, ws.ErrUpgrade},
		{"no Upgrade", func(h *ws.Handshake) { h.Upgrade = nil }, ws.ErrUpgrade},
		{"Connection: keep-alive, Upgrade", func(h *ws.Handshake) { h.Connection = []byte("keep-alive, Upgrade") }, nil},
		{"Connection: ,upgrade\t,", func(h *ws.Handshake) { h.Connection = []byte(",upgrade\t,") }, nil},
		{"Connection: UPGRADE", func(h *ws.Handshake) { h.Connection = []byte("UPGRADE") }, nil},
		{"Connection: keep-alive", func(h *ws.Handshake) { h.Connection = []byte("keep-alive") }, ws.ErrConnection},
		{"Connection: no upgrade", func(h *ws.Handshake) { h.Connection = []byte("no upgrade") }, ws.ErrConnection},
		{"no Connection", func(h *ws.Handshake) { h.Connection = nil }, ws.ErrConnection},
		{"version 8", func(h *ws.Handshake) { h.Version = []byte("8") }, ws.ErrVersion},
		{"version 013", func(h *ws.Handshake) { h.Version = []byte("013") }, ws.ErrVersion},
		{"version 13, 8", func(h *ws.Handshake) { h.Version = []byte("13, 8") }, ws.ErrVersion},
		{"no version", func(h *ws.Handshake) { h.Version = nil }, ws.ErrVersion},
		{"no key", func(h *ws.Handshake) { h.Key = nil }, ws.ErrKey},
		{"key of 15 bytes", func(h *ws.Handshake) { h.Key = []byte("dGhlIHNhbXBsZSBub25j") }, ws.ErrKey},
		{"key of 17 bytes", func(h *ws.Handshake) { h.Key = []byte("dGhlIHNhbXBsZSBub25jZQA=") }, ws.ErrKey},
		{"key of 18 bytes", func(h *ws.Handshake) { h.Key = []byte("dGhlIHNhbXBsZSBub25jZWVl") }, ws.ErrKey},
		{"key not base64", func(h *ws.Handshake) { h.Key = []byte("dGhlIHNhbXBsZSBub25j!!==") }, ws.ErrKey},
		{"key for URLs", func(h *ws.Handshake) { h.Key = []byte("__________________-_-w==") }, ws.ErrKey},
		{"key with line end", func(h *ws.Handshake) { h.Key = []byte("dGhlIHNhbXBsZSBub25jZQ=\n") }, ws.ErrKey},
		{"key without padding", func(h *ws.Handshake) { h.Key = []byte("dGhlIHNhbXBsZSBub25jZQ") }, ws.ErrKey},
		{"key with loose bits", func(h *ws.Handshake) { h.Key = []byte("dGhlIHNhbXBsZSBub25jZR==") }, nil},
		{"method before key", func(h *ws.Handshake) { h.Method, h.Key = nil, nil }, ws.ErrMethod},
		{"version before key", func(h *ws.Handshake) { h.Version, h.Key = nil, nil }, ws.ErrVersion},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := goodHandshake()
			tt.change(&h)
			if got := h.Check(); got != tt.want {
				t.Errorf("Check = %v; want %v", got, tt.want)
			}
		})
	}
}

func TestCheckOrigin(t *testing.T) {
	for _, tt := range []struct {
		origin, host string
		want         *ws.HandshakeError
	}{
		{"http://lxd", "lxd", nil},
		{"https://lxd", "lxd", nil},
		{"HTTP://LXD", "lxd", nil},
		{"http://lxd", "LXD", nil},
		{"http://lxd:8443", "lxd:8443", nil},
		{"http://[::1]:80", "[::1]:80", nil},
		{"http://lxd/", "lxd", nil},
		{"http://lxd/page?q#f", "lxd", nil},
		{"http://lxd?q", "lxd", nil},
		{"chrome-extension://abc", "abc", nil},
		{"", "lxd", ws.ErrOrigin},
		{"", "", ws.ErrOrigin},
		{"null", "lxd", ws.ErrOrigin},
		{"null", "null", ws.ErrOrigin},
		{"lxd", "lxd", ws.ErrOrigin},
		{"//lxd", "lxd", ws.ErrOrigin},
		{"://lxd", "lxd", ws.ErrOrigin},
		{"1http://lxd", "lxd", ws.ErrOrigin},
		{"ht tp://lxd", "lxd", ws.ErrOrigin},
		{"http:/lxd", "lxd", ws.ErrOrigin},
		{"http://", "", ws.ErrOrigin},
		{"http:///lxd", "lxd", ws.ErrOrigin},
		{"http://evil", "lxd", ws.ErrOrigin},
		{"http://lxd.evil", "lxd", ws.ErrOrigin},
		{"http://evil/lxd", "lxd", ws.ErrOrigin},
		{"http://evil#lxd", "lxd", ws.ErrOrigin},
		{"http://lxd@evil", "lxd", ws.ErrOrigin},
		{"http://evil@lxd", "lxd", ws.ErrOrigin},
		{"http://evil@lxd", "evil@lxd", ws.ErrOrigin},
		{"http://lxd:80", "lxd", ws.ErrOrigin},
		{"http://lxd http://evil", "lxd", ws.ErrOrigin},
		{"http://\u212A", "k", ws.ErrOrigin},
	} {
		t.Run(tt.origin+" to "+tt.host, func(t *testing.T) {
			h := goodHandshake()
			h.Origin, h.Host = []byte(tt.origin), []byte(tt.host)
			if got := h.Check(); got != tt.want {
				t.Errorf("Check = %v; want %v", got, tt.want)
			}
		})
	}
}

func TestAppendAccept(t *testing.T) {
	if got := ws.AppendAccept([]byte("a: "), []byte(rfcKey)); string(got) != "a: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("AppendAccept = %q; want the value of RFC 6455 §1.3", got)
	}
	for _, key := range []string{"", "x", rfcKey + rfcKey} { // not checked, but no reason to panic
		sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		want := base64.StdEncoding.EncodeToString(sum[:])
		if got := ws.AppendAccept(nil, []byte(key)); string(got) != want {
			t.Errorf("AppendAccept(%q) = %q; want %q", key, got, want)
		}
	}
}

func TestAppendUpgrade(t *testing.T) {
	want := "HTTP/1.1 101 Switching Protocols\r\n" +
		"Upgrade: websocket\r\n" +
		"Connection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
	if got := ws.AppendUpgrade([]byte("x"), []byte(rfcKey)); string(got) != "x"+want {
		t.Errorf("AppendUpgrade = %q; want %q", got[1:], want)
	}
}

func TestCheckAllocations(t *testing.T) {
	good, bad := goodHandshake(), goodHandshake()
	good.Origin = []byte("http://lxd/")
	bad.Key = bytes.Repeat([]byte{'!'}, 24)
	if n := testing.AllocsPerRun(200, func() {
		if good.Check() != nil || bad.Check() != ws.ErrKey {
			t.Fatal("Check is wrong")
		}
	}); n != 0 {
		t.Errorf("Check allocates %v times; want 0", n)
	}
}
