package server

import "fmt"

// upgradeRequest is an opening handshake (RFC 6455 §1.2).
func upgradeRequest(path string, fields ...string) string {
	request := "GET " + path + " HTTP/1.1\r\nHost: lxd\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
	for _, f := range fields {
		request += fmt.Sprintf("%s\r\n", f)
	}
	return request + "\r\n"
}
