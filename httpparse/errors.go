package httpparse

import "errors"

// Error is a request that is refused: the status to answer and why. The values
// below are the only ones; compare them by pointer. Nothing of the request is in
// Text, so it is safe to send and to log.
type Error struct {
	Status int    // 400, 413, 414, 417, 431, 501 or 505
	Text   string // one line, lower case
}

// Error returns the text.
func (e *Error) Error() string { return e.Text }

// ErrPartial says that the bytes so far are the beginning of something valid.
var ErrPartial = errors.New("request is incomplete: more bytes are needed")

// ErrBodyState is returned for bytes that are not the state of a [Body].
var ErrBodyState = errors.New("body state is malformed: give what AppendBinary wrote")

// The reasons to refuse a request. Each is final for its connection.
var (
	// Request line: RFC 9112 §3.
	ErrRequestLine   = &Error{400, "request line is not METHOD, space, target, space, HTTP/1.1: separate them by single spaces"}
	ErrMethod        = &Error{400, "method is not a token: send plain HTTP/1.1"}
	ErrMethodTooLong = &Error{501, "method is longer than 32 bytes: no such method is implemented"}
	ErrConnect       = &Error{501, "method CONNECT is not implemented: this is not a proxy"}
	ErrTarget        = &Error{400, "request target is neither a path nor a http URL: start it with a slash"}
	ErrTargetByte    = &Error{400, "request target holds a control byte, a byte above ASCII or a '#': percent-encode it"}
	ErrTargetTooLong = &Error{414, "request target is longer than 8192 bytes: shorten it"}
	ErrAuthority     = &Error{400, "request target names no valid host: write http://host or http://host:port"}
	ErrPercent       = &Error{400, "'%' is not followed by two hexadecimal digits: write %25 for a percent sign"}
	ErrVersion       = &Error{505, "version is not supported: use HTTP/1.1 or HTTP/1.0"}

	// Lines and fields: RFC 9112 §2.2 and §5, RFC 9110 §5.
	ErrBareCR        = &Error{400, "bare carriage return: end each line with CR LF"}
	ErrBareLF        = &Error{400, "bare line feed: end each line with CR LF"}
	ErrFold          = &Error{400, "line starts with white space: a field must be on one line"}
	ErrNoColon       = &Error{400, "field line has no colon: write name, colon, value"}
	ErrSpaceColon    = &Error{400, "white space between field name and colon: remove it"}
	ErrFieldName     = &Error{400, "field name is empty or not a token: use letters, digits and hyphens"}
	ErrFieldValue    = &Error{400, "field value holds a control byte: remove it"}
	ErrTooManyFields = &Error{431, "more than 64 fields: send fewer"}
	ErrHeadTooLarge  = &Error{431, "request head is larger than 16384 bytes: shorten it"}

	// Host: RFC 9112 §3.2.
	ErrHostMissing = &Error{400, "field Host is missing: HTTP/1.1 requires it"}
	ErrHostTwice   = &Error{400, "field Host is given twice: send it once"}
	ErrHost        = &Error{400, "field Host holds a byte that no host name has: send host or host:port"}

	// Length of the body: RFC 9112 §6.
	ErrContentLength      = &Error{400, "field Content-Length is not a decimal number: send digits only"}
	ErrContentLengthTwice = &Error{400, "field Content-Length is given twice: send it once"}
	ErrTransferEncoding   = &Error{400, "field Transfer-Encoding is not a single \"chunked\": send it once, last and alone"}
	ErrTransferCoding     = &Error{501, "transfer coding is not implemented: use chunked"}
	ErrTransferVersion    = &Error{400, "field Transfer-Encoding in a HTTP/1.0 request: use Content-Length"}
	ErrTwoLengths         = &Error{400, "both Content-Length and Transfer-Encoding: send one of them"}
	ErrExpect             = &Error{417, "field Expect asks for something else than 100-continue: remove it"}
	ErrBodyTooLarge       = &Error{413, "body is larger than 1048576 bytes: send less"}

	// Chunked coding: RFC 9112 §7.1.
	ErrChunkSize       = &Error{400, "chunk size is not one to eight hexadecimal digits: send the size and CR LF"}
	ErrChunkExtension  = &Error{400, "chunk extension: send the chunk size alone"}
	ErrChunkEnd        = &Error{400, "chunk is longer than its size: end its data with CR LF"}
	ErrTrailer         = &Error{400, "trailer is not a list of fields: write name, colon, value"}
	ErrTrailerTooLarge = &Error{431, "trailer is larger than 1024 bytes: shorten it"}
)

// AllErrors returns every reason to refuse a request, for tables and counters.
func AllErrors() []*Error {
	return []*Error{
		ErrRequestLine, ErrMethod, ErrMethodTooLong, ErrConnect, ErrTarget, ErrTargetByte, ErrTargetTooLong,
		ErrAuthority, ErrPercent, ErrVersion,
		ErrBareCR, ErrBareLF, ErrFold, ErrNoColon, ErrSpaceColon, ErrFieldName, ErrFieldValue,
		ErrTooManyFields, ErrHeadTooLarge,
		ErrHostMissing, ErrHostTwice, ErrHost,
		ErrContentLength, ErrContentLengthTwice, ErrTransferEncoding, ErrTransferCoding, ErrTransferVersion,
		ErrTwoLengths, ErrExpect, ErrBodyTooLarge,
		ErrChunkSize, ErrChunkExtension, ErrChunkEnd, ErrTrailer, ErrTrailerTooLarge,
	}
}
