// Package ws is the websocket side of the guest socket: the opening handshake,
// a decoder for frames that guests send, and builders of the frames that the
// server sends (RFC 6455). It is pure: bytes in, values out, no I/O, no
// goroutine, no lock, and no allocation where a guest's bytes decide the rate.
//
// # Outcomes
//
// [Decoder.Next] has three outcomes: a piece and the number of bytes that are
// done; [ErrPartial], which used nothing and needs more bytes; or a
// [*CloseError], which says what to send back before the connection is closed.
// After an error, or after a close frame, the decoder stays where it is: the
// bytes that follow are never looked at.
//
// # Memory
//
// The decoder holds no payload. A data message is handed out in pieces as its
// bytes arrive, unmasked in place in the caller's buffer, so a connection
// never needs room for a whole message. What may have to be kept between two
// reads is an incomplete frame header (13 bytes at most) or an incomplete
// control frame (130 bytes at most). Bytes are unmasked only when they are
// handed out, so bytes kept after ErrPartial can be presented again as they are.
// A Decoder is 40 bytes without pointers.
//
// # Strictness
//
// Guests are hostile. Everything that RFC 6455 forbids a client to send fails
// the connection with 1002, text and close reasons that are not UTF-8 with
// 1007 at the first byte that cannot be right, and a message beyond
// [Decoder.Max] with 1009 as soon as a header announces it. Extensions and
// subprotocols are never negotiated: an offer is ignored (RFC 6455 §9.1), so
// reserved bits are always an error.
//
// # Sending
//
// A server's frames are not masked and depend on nothing but their payload, so
// a frame is built once and written to every subscriber: see [TextFrame].
//
// Opcodes and status codes are the types of github.com/gobwas/ws, under the
// names of this package. Its blocking readers and its Upgrader are not used: a
// frame may arrive in any number of reads, and the request is already parsed.
package ws
