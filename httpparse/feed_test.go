package httpparse

import (
	"fmt"
	"hash/crc32"
	"unsafe"
)

// outcome is what became of one request of a connection, copied out of the buffers.
type outcome struct {
	err     *Error // refused
	partial bool   // the bytes ended first

	method, target, path    string
	query, host, connection *string
	minor                   int
	keepAlive, expect100    bool
	chunked                 bool
	fields                  [][2]string
	body                    string
	consumed                int // bytes of head and body
}

func (o *outcome) kind() string {
	switch {
	case o.err != nil:
		return "refuse"
	case o.partial:
		return "partial"
	}
	return "accept"
}

func (o outcome) String() string {
	if o.err != nil {
		return fmt.Sprintf("refuse %d %s", o.err.Status, o.err.Text)
	}
	deref := func(s *string) string {
		if s == nil {
			return "none"
		}
		return fmt.Sprintf("%q", *s)
	}
	return fmt.Sprintf("%s %q %q %q %s %s %s %d %t %t %t %q %d:%.1000q %d", o.kind(), o.method, o.target, o.path,
		deref(o.query), deref(o.host), deref(o.connection), o.minor, o.keepAlive, o.expect100, o.chunked,
		o.fields, crc32.ChecksumIEEE([]byte(o.body)), o.body, o.consumed)
}

// conn plays a connection: bytes arrive, requests come out. Each time it hands on a
// fresh copy whose capacity ends with the data, so that one byte read too far panics
// and a slice kept from an earlier call holds rubbish.
type conn struct {
	parser  Parser
	req     Request
	body    Body
	inBody  bool
	current outcome
	unread  []byte
	out     []outcome
}

// feed delivers raw in the pieces that end at the cuts and at its end.
func feed(raw []byte, cuts ...int) []outcome {
	var c conn
	from := 0
	for _, to := range append(cuts, len(raw)) {
		c.arrive(raw[from:to])
		from = to
	}
	if n := len(c.out); n == 0 || c.out[n-1].err == nil && (c.inBody || len(c.unread) > 0) {
		c.out = append(c.out, outcome{partial: true})
	}
	return c.out
}

func (c *conn) arrive(b []byte) {
	old := c.unread
	c.unread = clip(old, b)
	for i := range old {
		old[i] = '!'
	}
	for len(c.out) == 0 || c.out[len(c.out)-1].err == nil {
		n, err := c.advance()
		if err == ErrPartial {
			return
		}
		if err != nil {
			c.out = append(c.out, outcome{err: err.(*Error)})
			return
		}
		c.unread = c.unread[n:]
		if !c.inBody {
			c.out = append(c.out, c.current)
			if len(c.unread) == 0 {
				return
			}
		}
	}
}

// advance does one call of the package and returns the bytes used.
func (c *conn) advance() (n int, err error) {
	if !c.inBody {
		n, err = c.parser.Head(c.unread, &c.req)
		if err != nil {
			mustUse(n == 0, "Head: n = %d with an error", n)
			return n, err
		}
		mustUse(n > 0 && n <= len(c.unread), "Head: n = %d of %d", n, len(c.unread))
		mustBeInside(&c.req, c.unread[:n])
		c.current = copyOut(&c.req, n)
		c.body = c.req.Body()
	} else {
		var data []byte
		data, n, err = c.body.Next(c.unread)
		if err != nil {
			mustUse(n == 0 && data == nil, "Next: n = %d with an error", n)
			return n, err
		}
		mustUse(n > 0 && n <= len(c.unread) && len(data) <= n, "Next: n = %d of %d, %d data", n, len(c.unread), len(data))
		mustUse(inside(data, c.unread[:n]), "Next: data outside of the buffer")
		c.current.body += string(data)
		c.current.consumed += n
	}
	c.inBody = !c.body.Done()
	return n, nil
}

func mustUse(ok bool, format string, args ...any) {
	if !ok {
		panic(fmt.Sprintf(format, args...))
	}
}

// clip joins a and b in a slice without spare capacity.
func clip(a, b []byte) []byte {
	buf := append(append(make([]byte, 0, len(a)+len(b)), a...), b...)
	return buf[:len(buf):len(buf)]
}

func copyOut(r *Request, n int) outcome {
	optional := func(b []byte) *string {
		if b == nil {
			return nil
		}
		s := string(b)
		return &s
	}
	o := outcome{
		method: string(r.Method), target: string(r.Target), path: string(r.Path),
		query: optional(r.Query), host: optional(r.Host), connection: optional(r.Connection),
		minor: r.Minor, keepAlive: r.KeepAlive, expect100: r.Expect100, chunked: r.Chunked, consumed: n,
	}
	for _, f := range r.Fields() {
		o.fields = append(o.fields, [2]string{string(f.Name), string(f.Value)})
	}
	return o
}

// inside reports whether s is a part of buf and its capacity does not reach further.
func inside(s, buf []byte) bool {
	if cap(s) == 0 {
		return true
	}
	from := uintptr(unsafe.Pointer(unsafe.SliceData(s)))
	start := uintptr(unsafe.Pointer(unsafe.SliceData(buf)))
	return from >= start && from+uintptr(cap(s)) <= start+uintptr(len(buf)) && cap(s) == len(s)
}

func mustBeInside(r *Request, head []byte) {
	all := [][]byte{
		r.Method, r.Target, r.Path, r.Query, r.Host, r.Upgrade, r.Origin, r.ContentType, r.Range, r.IfRange,
		r.IfModifiedSince, r.Connection, r.SecWebSocketKey, r.SecWebSocketVersion, r.SecWebSocketProtocol,
		r.SecWebSocketExtensions,
	}
	for _, f := range r.Fields() {
		all = append(all, f.Name, f.Value)
	}
	for i, s := range all {
		mustUse(inside(s, head), "slice %d of the request is not inside its head: %q", i, s)
	}
}
