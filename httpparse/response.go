package httpparse

import (
	"strconv"
	"time"
)

// AppendStatus appends the status line, for example "HTTP/1.1 200 OK\r\n". A code
// without a [StatusText] has an empty reason, which RFC 9112 §4 allows; a code that has
// not three digits is a fault of the caller and is sent as 500.
func AppendStatus(dst []byte, code int) []byte {
	if code == 200 {
		return append(dst, "HTTP/1.1 200 OK\r\n"...)
	}
	if code < 100 || code > 999 {
		code = 500
	}
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(code), 10)
	dst = append(dst, ' ')
	dst = append(dst, StatusText(code)...)
	return append(dst, "\r\n"...)
}

// AppendField appends a field line. The name is a constant of the caller and is not
// checked. Control bytes of the value other than tab become spaces, so that a value
// cannot start another field (RFC 9110 §5.5).
func AppendField(dst []byte, name, value string) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	start := len(dst)
	dst = append(dst, value...)
	for i := skipText(dst, start); i < len(dst); i = skipText(dst, i) {
		dst[i] = ' '
	}
	return append(dst, "\r\n"...)
}

// AppendInt appends a field line with a decimal number.
func AppendInt(dst []byte, name string, v int64) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = strconv.AppendInt(dst, v, 10)
	return append(dst, "\r\n"...)
}

// AppendTime appends a field line with a date, in whole seconds of UTC.
func AppendTime(dst []byte, name string, t time.Time) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = t.UTC().AppendFormat(dst, timeFormat)
	return append(dst, "\r\n"...)
}

// AppendContentRange appends the Content-Range field of a 206 for the part that
// [ParseRange] found; with length 0, that of a 416 (RFC 9110 §14.4).
func AppendContentRange(dst []byte, start, length, size int64) []byte {
	dst = append(dst, "Content-Range: bytes "...)
	if length == 0 {
		dst = append(dst, '*')
	} else {
		dst = strconv.AppendInt(dst, start, 10)
		dst = append(dst, '-')
		dst = strconv.AppendInt(dst, start+length-1, 10)
	}
	dst = append(dst, '/')
	dst = strconv.AppendInt(dst, size, 10)
	return append(dst, "\r\n"...)
}

// Date keeps the "Date: ...\r\n" line of the current second. Its zero value is ready.
// It is owned by a loop; it allocates on the first use only.
type Date struct {
	second int64 // Unix time of line
	line   []byte
}

// Append appends the line for now.
func (d *Date) Append(dst []byte, now time.Time) []byte {
	if second := now.Unix(); len(d.line) == 0 || second != d.second {
		d.second = second
		d.line = AppendTime(d.line[:0], "Date", now)
	}
	return append(dst, d.line...)
}

// StatusText returns the reason of a status code (RFC 9110 §15), or "" for one that
// neither this package nor its callers answer with.
func StatusText(code int) string {
	switch code {
	case 100:
		return "Continue"
	case 101:
		return "Switching Protocols"
	case 200:
		return "OK"
	case 204:
		return "No Content"
	case 206:
		return "Partial Content"
	case 304:
		return "Not Modified"
	case 307:
		return "Temporary Redirect"
	case 400:
		return "Bad Request"
	case 401:
		return "Unauthorized"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 405:
		return "Method Not Allowed"
	case 408:
		return "Request Timeout"
	case 409:
		return "Conflict"
	case 410:
		return "Gone"
	case 412:
		return "Precondition Failed"
	case 413:
		return "Request Entity Too Large"
	case 414:
		return "Request URI Too Long"
	case 415:
		return "Unsupported Media Type"
	case 416:
		return "Requested Range Not Satisfiable"
	case 417:
		return "Expectation Failed"
	case 426:
		return "Upgrade Required"
	case 429:
		return "Too Many Requests"
	case 431:
		return "Request Header Fields Too Large"
	case 500:
		return "Internal Server Error"
	case 501:
		return "Not Implemented"
	case 503:
		return "Service Unavailable"
	case 505:
		return "HTTP Version Not Supported"
	}
	return ""
}
