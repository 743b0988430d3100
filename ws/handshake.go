package ws

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
)

// Handshake holds what the opening handshake needs of a request (RFC 6455
// §4.2.1). The fields are parts of the caller's buffer and are not kept. A
// header field that the request does not have is nil.
type Handshake struct {
	Method     []byte
	Upgrade    []byte // Upgrade
	Connection []byte // Connection
	Key        []byte // Sec-WebSocket-Key
	Version    []byte // Sec-WebSocket-Version
	Host       []byte // Host
	Origin     []byte // Origin
	Minor      int    // HTTP/1.Minor
}

// Check returns nil if the request can become a websocket, else what is wrong
// with it. It does not allocate. (The result is a pointer and not an error: do
// not store a nil one in an error.)
//
// Origin is for browsers, and no guest has one: without it there is nothing to
// check; with it its host must be that of Host, as in gorilla/websocket, which
// LXD uses. Extensions and subprotocols that the client offers do not matter,
// since the answer accepts none.
func (h *Handshake) Check() *HandshakeError {
	switch {
	case string(h.Method) != "GET":
		return ErrMethod
	case h.Minor < 1:
		return ErrHTTPVersion
	case h.Host == nil:
		return ErrHost
	// RFC 6455 §4.2.1: "treated as an ASCII case-insensitive value".
	case !hasToken(h.Upgrade, "websocket"):
		return ErrUpgrade
	case !hasToken(h.Connection, "upgrade"):
		return ErrConnection
	case string(h.Version) != "13":
		return ErrVersion
	case !validKey(h.Key):
		return ErrKey
	case h.Origin != nil && !sameHost(h.Origin, h.Host):
		return ErrOrigin
	}
	return nil
}

// acceptGUID is the constant of RFC 6455 §1.3.
const acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// keySize is the length of a Sec-WebSocket-Key, keyBytes that of the nonce in
// it (RFC 6455 §4.1).
const (
	keySize  = 24
	keyBytes = 16
)

// AppendAccept appends the value of Sec-WebSocket-Accept for a key that
// [Handshake.Check] has passed (RFC 6455 §4.2.2, point 5.4). It does not
// allocate if dst has room for 28 bytes.
func AppendAccept(dst, key []byte) []byte {
	var room [keySize + len(acceptGUID)]byte
	text := append(append(room[:0], key...), acceptGUID...)
	sum := sha1.Sum(text)
	return base64.StdEncoding.AppendEncode(dst, sum[:])
}

// AppendUpgrade appends the answer that makes the connection a websocket: the
// status line and the fields of RFC 6455 §4.2.2, each with its CRLF, without
// the empty line that ends the head. The key must have passed
// [Handshake.Check]. It does not allocate if dst has room for 160 bytes.
func AppendUpgrade(dst, key []byte) []byte {
	dst = append(dst, "HTTP/1.1 101 Switching Protocols\r\n"+
		"Upgrade: websocket\r\n"+
		"Connection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: "...)
	dst = AppendAccept(dst, key)
	return append(dst, "\r\n"...)
}

// validKey reports whether key is the base64 of 16 bytes. Its bits past the
// last byte may be anything, as in other servers.
func validKey(key []byte) bool {
	if len(key) != keySize {
		return false
	}
	var nonce [keySize / 4 * 3]byte
	n, err := base64.StdEncoding.Decode(nonce[:], key)
	return err == nil && n == keyBytes
}

// hasToken reports whether the comma-separated list has the token, in any case
// of letters (RFC 9110 §5.6.1). token is lower case.
func hasToken(list []byte, token string) bool {
	for len(list) > 0 {
		var item []byte
		item, list, _ = bytes.Cut(list, []byte{','})
		if equalFold(bytes.Trim(item, " \t"), token) {
			return true
		}
	}
	return false
}

// sameHost reports whether origin, "scheme://host[:port]" (RFC 6454 §6.2), has
// the host and port that the request was sent to. gorilla/websocket compares
// the text; so no port is never the same as the default port.
func sameHost(origin, host []byte) bool {
	scheme, rest, found := bytes.Cut(origin, []byte("://"))
	if !found || !isScheme(scheme) {
		return false // "null", too: an origin that must not be named
	}
	if end := bytes.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end] // not part of an origin, but gorilla/websocket passes over it
	}
	// User information is not part of an origin either, and hides a host.
	return len(rest) > 0 && bytes.IndexByte(rest, '@') < 0 && equalFoldBytes(rest, host)
}

// isScheme reports whether s can be the scheme of a URI (RFC 3986 §3.1).
func isScheme(s []byte) bool {
	for i, c := range s {
		switch {
		case lower(c) >= 'a' && lower(c) <= 'z':
		case i > 0 && (c >= '0' && c <= '9' || c == '+' || c == '-' || c == '.'):
		default:
			return false
		}
	}
	return len(s) > 0
}

// equalFold compares without regard to the case of ASCII letters only: other
// folds of Unicode (such as the Kelvin sign for k) are different bytes here.
// lowered has no capital letter.
func equalFold(s []byte, lowered string) bool {
	if len(s) != len(lowered) {
		return false
	}
	for i, c := range s {
		if lower(c) != lowered[i] {
			return false
		}
	}
	return true
}

// equalFoldBytes is equalFold for two values of any case.
func equalFoldBytes(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i, c := range a {
		if lower(c) != lower(b[i]) {
			return false
		}
	}
	return true
}

// lower is the small letter for an ASCII capital, else c.
func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
