package ws_test

import (
	"bytes"
	"net/url"
	"strings"
	"testing"

	"devlxd/ws"
)

// FuzzDecode: no panic, no byte read or used beyond the buffer, no message over
// Max (receiver checks these), and the parts of a stream say what the whole says.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), uint16(0), uint8(3))
	f.Fuzz(func(t *testing.T, stream []byte, limit uint16, part uint8) {
		whole := receiver{tb: t, d: ws.Decoder{Max: int(limit)}}
		whole.write(stream)
		for _, size := range []int{1, 1 + int(part)} {
			split := receiver{tb: t, d: ws.Decoder{Max: int(limit)}, inPlace: part%2 == 0}
			for rest := stream; len(rest) > 0; rest = rest[min(size, len(rest)):] {
				split.write(rest[:min(size, len(rest))])
			}
			if len(stream) == 0 {
				split.write(nil)
			}
			sameEvents(t, "event", split.events, whole.events)
			sameEvents(t, "answer", split.answers, whole.answers)
			// What is unfinished is the same, too, unless it was given up: a part may
			// be handed out before the byte comes that is wrong.
			unfinished := whole.err == ws.ErrPartial
			if unfinished && !(bytes.Equal(split.message, whole.message) && len(split.pending) == len(whole.pending)) {
				t.Fatalf("in parts of %d: %x unfinished; whole: %x", size, split.message, whole.message)
			}
			if split.err != whole.err {
				t.Fatalf("in parts of %d: %v; whole: %v", size, split.err, whole.err)
			}
		}
	})
}

// FuzzHandshake: no panic, each reason is one of the list, a request that is
// accepted has what RFC 6455 asks for, and an Origin that passes has the host that
// net/url finds in it, which is what gorilla/websocket compares.
func FuzzHandshake(f *testing.F) {
	f.Add("GET", "websocket", "Upgrade", rfcKey, "13", "lxd", "http://lxd", 1)
	f.Fuzz(func(t *testing.T, method, upgrade, connection, key, version, host, origin string, minor int) {
		h := ws.Handshake{
			Method: []byte(method), Upgrade: []byte(upgrade), Connection: []byte(connection), Key: []byte(key),
			Version: []byte(version), Host: []byte(host), Origin: []byte(origin), Minor: minor,
		}
		if origin == "" {
			h.Origin = nil
		}
		if err := h.Check(); err != nil {
			known := false
			for _, e := range ws.AllHandshakeErrors() {
				known = known || e == err
			}
			if !known {
				t.Fatalf("Check = %+v, which is not in AllHandshakeErrors", err)
			}
			return
		}
		if method != "GET" || minor < 1 || version != "13" || len(key) != 24 ||
			!strings.Contains(strings.ToLower(upgrade), "websocket") || !strings.Contains(strings.ToLower(connection), "upgrade") {
			t.Fatalf("Check = nil for %+v", h)
		}
		// net/url decodes "%25" in an IPv6 zone; no origin has one.
		u, err := url.Parse(origin)
		if origin != "" && err == nil && !strings.Contains(origin, "%") && !strings.EqualFold(u.Host, host) {
			t.Fatalf("Check = nil for origin %q (host %q) and host %q", origin, u.Host, host)
		}
		head := ws.AppendUpgrade(nil, h.Key)
		if bytes.Count(head, []byte("\r\n")) != 4 || !bytes.HasSuffix(head, []byte("=\r\n")) {
			t.Fatalf("AppendUpgrade = %q", head)
		}
	})
}
