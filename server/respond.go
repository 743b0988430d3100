package server

import (
	"devlxd/httpparse"
)

// versionPolicy is how an answer speaks about the connection.
type versionPolicy struct {
	close bool // "Connection: close", and the connection ends
	keep  bool // HTTP/1.0: "Connection: keep-alive"
	head  bool // the answer to a HEAD request: no body
}

func policyOf(req *httpparse.Request) versionPolicy {
	return versionPolicy{
		close: !req.KeepAlive,
		keep:  req.KeepAlive && req.Minor == 0,
		head:  string(req.Method) == "HEAD",
	}
}

const (
	typeJSON = "application/json"
	typeText = "text/plain; charset=utf-8"
	typeRaw  = "application/octet-stream"
)

// startHead gathers the status line and the fields that every answer has, and
// counts the answer.
func (l *loop) startHead(c *conn, status int, v versionPolicy) {
	l.countAnswer(c, l.route, status)
	l.answered++
	l.out = httpparse.AppendStatus(l.out, status)
	l.out = l.date.Append(l.out, l.now)
	switch {
	case v.close || l.draining:
		l.out = append(l.out, "Connection: close\r\n"...)
		l.end(c, CloseDone)
	case v.keep:
		l.out = append(l.out, "Connection: keep-alive\r\n"...)
	}
}

// respondRendered answers with a response that was rendered when its content
// changed: the rest of the head, an empty line and the body.
func (l *loop) respondRendered(c *conn, rendered []byte, bodyLen int, v versionPolicy) {
	l.startHead(c, 200, v)
	if v.head {
		l.out = append(l.out, rendered[:len(rendered)-bodyLen]...)
		return
	}
	if len(rendered) <= copyLimit {
		l.out = append(l.out, rendered...)
		return
	}
	// Too large to copy for each reader: the kernel copies from the snapshot.
	if !l.push(c) {
		return
	}
	whole := segment{bytes: rendered, length: int64(len(rendered))}
	if c.out != nil { // the head did not fit
		c.out.segments = append(c.out.segments, whole)
		return
	}
	c.out = &pending{segments: []segment{whole}}
	l.startOutput(c)
}

// startOutput writes the pending output of c as far as the first turn goes.
func (l *loop) startOutput(c *conn) {
	n, done, err := l.advance(c.out, int(c.fd))
	l.sent += int(n)
	l.countSent(c.group.account, int(n))
	if err != nil {
		l.close(c, CloseSocketError)
		return
	}
	if done {
		c.out.release()
		c.out = nil
	}
}

// respondBody answers with a body that was made for this request.
func (l *loop) respondBody(c *conn, status int, contentType string, body []byte, v versionPolicy) {
	l.startHead(c, status, v)
	l.out = append(l.out, "Content-Type: "...)
	l.out = append(l.out, contentType...)
	l.out = append(l.out, "\r\n"...)
	l.out = httpparse.AppendInt(l.out, "Content-Length", int64(len(body)))
	l.out = append(l.out, "\r\n"...)
	if !v.head {
		l.out = append(l.out, body...)
	}
}

// respondText answers with an error text, in the form of Go's http.Error.
func (l *loop) respondText(c *conn, status int, text string, v versionPolicy, fields ...string) {
	l.startHead(c, status, v)
	l.out = append(l.out, "Content-Type: "+typeText+"\r\nX-Content-Type-Options: nosniff\r\n"...)
	for _, f := range fields {
		l.out = append(l.out, f...)
	}
	l.out = httpparse.AppendInt(l.out, "Content-Length", int64(len(text)+1))
	l.out = append(l.out, "\r\n"...)
	if !v.head {
		l.out = append(l.out, text...)
		l.out = append(l.out, '\n')
	}
}

// renderValue is registry.Options.RenderValue: the answer to GET
// /1.0/config/KEY from behind the Date field on.
func renderValue(value string) (response []byte, body int) {
	b := make([]byte, 0, len(rawHead)+24+len(value))
	b = append(b, rawHead...)
	b = httpparse.AppendInt(b, "Content-Length", int64(len(value)))
	b = append(b, "\r\n"...)
	return append(b, value...), len(b)
}

const (
	rawHead  = "Content-Type: " + typeRaw + "\r\n"
	jsonHead = "Content-Type: " + typeJSON + "\r\n"
)

// renderWith puts head fields before a body.
func renderWith(fields string, body []byte) []byte {
	b := make([]byte, 0, len(fields)+24+len(body))
	b = append(b, fields...)
	b = httpparse.AppendInt(b, "Content-Length", int64(len(body)))
	b = append(b, "\r\n"...)
	return append(b, body...)
}
