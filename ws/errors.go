package ws

import (
	"errors"
	"slices"
	"strconv"
)

// Outcomes of [Decoder.Next] that are no fault of the peer.
var (
	// ErrPartial says that the buffer ends inside a frame header or a control
	// frame. Nothing was used or changed: keep the bytes and call again with
	// more behind them.
	ErrPartial = errors.New("frame is incomplete: call again with more bytes")

	// ErrClosed says that the peer's close frame was handed out before. RFC
	// 6455 §5.5.1: nothing may follow it, so whatever does is not looked at.
	ErrClosed = errors.New("peer has closed the websocket: ignore what follows")

	// ErrState says that [Decoder.UnmarshalBinary] was given something that
	// [Decoder.AppendBinary] did not write.
	ErrState = errors.New("decoder state is not in a known form: close the connection")
)

// CloseError is a fault of the peer that ends the connection. The values are
// the variables of this package, so they can be compared with ==. They are
// never changed.
type CloseError struct {
	// Code is the status code to send back (RFC 6455 §7.4.1).
	Code StatusCode
	// Reason is the text to send back with it: lower case, at most 123 bytes.
	Reason string
	// Label names the fault in metrics: words joined by underscores.
	Label string
}

// Error gives the code and the reason.
func (e *CloseError) Error() string {
	return "websocket close " + strconv.Itoa(int(e.Code)) + ": " + e.Reason
}

// Faults of the peer, in the order in which a frame is checked.
var (
	// ErrReservedBits: RFC 6455 §5.2, "MUST be 0 unless an extension is
	// negotiated that defines meanings for non-zero values".
	ErrReservedBits = &CloseError{StatusProtocolError, "reserved bits are set: no extension was negotiated", "reserved_bits"}

	// ErrReservedOpcode: RFC 6455 §5.2, "If an unknown opcode is received, the
	// receiving endpoint MUST _Fail the WebSocket Connection_".
	ErrReservedOpcode = &CloseError{StatusProtocolError, "opcode is reserved: use text, binary, close, ping or pong", "reserved_opcode"}

	// ErrUnmasked: RFC 6455 §5.1, "The server MUST close the connection upon
	// receiving a frame that is not masked".
	ErrUnmasked = &CloseError{StatusProtocolError, "frame is not masked: a client must mask every frame", "unmasked"}

	// ErrControlFragmented: RFC 6455 §5.5, control frames "MUST NOT be fragmented".
	ErrControlFragmented = &CloseError{StatusProtocolError, "control frame is fragmented: send it whole", "control_fragmented"}

	// ErrControlTooLong: RFC 6455 §5.5, "All control frames MUST have a payload
	// length of 125 bytes or less".
	ErrControlTooLong = &CloseError{StatusProtocolError, "control frame is too long: send at most 125 bytes", "control_too_long"}

	// ErrContinuation: RFC 6455 §5.4, a continuation frame belongs to a message
	// whose first frame was sent before.
	ErrContinuation = &CloseError{StatusProtocolError, "continuation frame without a message to continue", "continuation"}

	// ErrInterrupted: RFC 6455 §5.4, "The fragments of one message MUST NOT be
	// interleaved between the fragments of another message".
	ErrInterrupted = &CloseError{StatusProtocolError, "new message inside a fragmented one: finish it first", "interrupted"}

	// ErrLengthForm: RFC 6455 §5.2, "the minimal number of bytes MUST be used
	// to encode the length".
	ErrLengthForm = &CloseError{StatusProtocolError, "payload length is not in its shortest form", "length_form"}

	// ErrLengthHighBit: RFC 6455 §5.2, a 64-bit length: "the most significant
	// bit MUST be 0".
	ErrLengthHighBit = &CloseError{StatusProtocolError, "payload length has its highest bit set", "length_high_bit"}

	// ErrMessageTooBig: the fragments announced so far exceed [Decoder.Max].
	ErrMessageTooBig = &CloseError{StatusMessageTooBig, "message is too big", "message_too_big"}

	// ErrTextUTF8: RFC 6455 §8.1, a text message must be UTF-8.
	ErrTextUTF8 = &CloseError{StatusInvalidFramePayloadData, "text message is not UTF-8", "text_utf8"}

	// ErrCloseBody: RFC 6455 §5.5.1, "If there is a body, the first two bytes of
	// the body MUST be a 2-byte unsigned integer".
	ErrCloseBody = &CloseError{StatusProtocolError, "close frame has one byte: a status code needs two", "close_body"}

	// ErrCloseCode: RFC 6455 §7.4, the status code is not one that an endpoint
	// may send.
	ErrCloseCode = &CloseError{StatusProtocolError, "close frame has a status code that must not be sent", "close_code"}

	// ErrCloseUTF8: RFC 6455 §5.5.1, the reason must be UTF-8.
	ErrCloseUTF8 = &CloseError{StatusInvalidFramePayloadData, "close reason is not UTF-8", "close_utf8"}
)

// closeErrors numbers the faults, so that a decoder remembers one in a byte.
// A number is part of what AppendBinary writes: add at the end only.
var closeErrors = [...]*CloseError{
	ErrReservedBits, ErrReservedOpcode, ErrUnmasked, ErrControlFragmented, ErrControlTooLong,
	ErrContinuation, ErrInterrupted, ErrLengthForm, ErrLengthHighBit, ErrMessageTooBig,
	ErrTextUTF8, ErrCloseBody, ErrCloseCode, ErrCloseUTF8,
}

// AllCloseErrors lists every fault that [Decoder.Next] and [ParseClose] can
// return, so that each can have its counter from the start.
func AllCloseErrors() []*CloseError { return slices.Clone(closeErrors[:]) }

// HandshakeError is a request that cannot become a websocket. The values are
// the variables of this package, so they can be compared with ==. They are
// never changed.
type HandshakeError struct {
	// Status is the HTTP status to answer with.
	Status int
	// Text is the reason, lower case, for the body of the answer.
	Text string
	// Fields are header lines that the answer must carry, each with its CRLF;
	// empty when there are none.
	Fields string
}

// Error gives the reason.
func (e *HandshakeError) Error() string { return e.Text }

// Reasons to refuse a handshake, in the order in which they are checked.
var (
	// ErrMethod: RFC 6455 §4.1, "The method of the request MUST be GET".
	ErrMethod = &HandshakeError{405, "websocket handshake must be a GET request", "Allow: GET\r\n"}

	// ErrHTTPVersion: RFC 6455 §4.1, "the HTTP version MUST be at least 1.1".
	ErrHTTPVersion = &HandshakeError{400, "websocket handshake needs HTTP/1.1", ""}

	// ErrHost: RFC 6455 §4.2.1, point 2: a Host field is required.
	ErrHost = &HandshakeError{400, "websocket handshake needs a Host field", ""}

	// ErrUpgrade: RFC 6455 §4.2.1, point 3.
	ErrUpgrade = &HandshakeError{400, "websocket handshake needs \"Upgrade: websocket\"", ""}

	// ErrConnection: RFC 6455 §4.2.1, point 4.
	ErrConnection = &HandshakeError{400, "websocket handshake needs \"Connection: Upgrade\"", ""}

	// ErrVersion: RFC 6455 §4.2.2, the answer names the version that the server
	// speaks. RFC 9110 §15.5.22: a 426 must carry an Upgrade field.
	ErrVersion = &HandshakeError{426, "websocket version must be 13",
		"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"}

	// ErrKey: RFC 6455 §4.2.1, point 5.
	ErrKey = &HandshakeError{400, "Sec-WebSocket-Key must be 16 bytes in base64", ""}

	// ErrOrigin: RFC 6455 §10.2, a browser's page from another host.
	ErrOrigin = &HandshakeError{403, "Origin does not match Host", ""}
)

// AllHandshakeErrors lists every error of [Handshake.Check].
func AllHandshakeErrors() []*HandshakeError {
	return []*HandshakeError{ErrMethod, ErrHTTPVersion, ErrHost, ErrUpgrade, ErrConnection, ErrVersion, ErrKey, ErrOrigin}
}
