// Package httpparse turns bytes into HTTP/1.1 requests and writes the heads of
// responses. It is pure: no I/O, no goroutine, no clock, and no allocation for
// a request. It follows RFC 9110 (semantics) and RFC 9112 (HTTP/1.1).
//
// # Three outcomes
//
// A call ends in one of three ways: done, with the number of bytes used;
// [ErrPartial], call again when more bytes have arrived; or an [*Error], which
// carries the status to answer before closing the connection. After an [*Error]
// nothing that follows on the connection can be trusted to start a request.
//
// The verdict depends on the bytes alone, never on how they were cut into
// reads: whatever a prefix is refused for, the whole is refused for. Only the moment of a
// refusal may differ: it comes at the latest with the end of the head, with a byte that
// no head may hold, when the head has doubled since, or at [MaxHead].
//
// # What is promised
//
//   - Everything doubtful is refused, so that no two readers can disagree about
//     where a request ends: Content-Length together with Transfer-Encoding, a
//     second Content-Length or Host, a coding other than a lone "chunked",
//     folded lines, bare CR or LF, white space before a colon, control bytes.
//   - Limits are constants: [MaxTarget], [MaxHead], [MaxFields], [MaxBody],
//     [MaxTrailer], [MaxMethod]. A head that has no end within MaxHead bytes is refused
//     there and then.
//   - A client that sends one byte at a time costs time proportional to the
//     bytes sent: see [Parser].
//   - All slices of a [Request] and all data of a [Body] lie inside the buffer
//     of the caller, with their capacity cut to their length.
//
// # Where it is stricter than the RFCs
//
// Chunk extensions are refused: RFC 9112 §7.1.1 lets a server limit their length
// to what is reasonable for its service, and here that is zero bytes. A
// Content-Length that is repeated with the same value is refused. An absolute
// target must have the scheme http and name a host that is no IP literal, without
// user information. A line ends in CRLF, never in a lone LF. Only versions 1.0 and
// 1.1 are taken. An Expect other than a lone 100-continue is answered with 417.
//
// # Where it is laxer than net/http
//
// One empty line before a request is skipped for every request (RFC 9112 §2.2),
// not only after a POST. The Trailer field and the trailer section are not used, so
// it does not matter which names they hold.
package httpparse
