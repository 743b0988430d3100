package apitest

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"

	"github.com/gobwas/ws"
)

// maxRecord bounds what is kept of a connection in each direction, in bytes.
const maxRecord = 1 << 20

// Recorder takes what goes over one connection, and has it checked when the
// connection has ended. Safe for concurrent use; a nil one takes nothing.
type Recorder struct {
	checker *Checker
	dialect string

	mu       sync.Mutex
	requests recording
	answers  recording
	done     bool
}

// recording is one direction. It is full for good once something did not fit.
type recording struct {
	bytes.Buffer
	full bool
}

func (r *recording) add(p []byte) {
	if r.full = r.full || r.Len()+len(p) > maxRecord; !r.full {
		r.Write(p)
	}
}

// Record returns a recorder of one connection.
func (c *Checker) Record(dialect string) *Recorder { return &Recorder{checker: c, dialect: dialect} }

// Sent takes bytes that went to the server.
func (r *Recorder) Sent(p []byte) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests.add(p)
}

// Received takes bytes that came from the server.
func (r *Recorder) Received(p []byte) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers.add(p)
}

// End checks all answers that came. What is wrong is in [Checker.Failures]. A
// second call does nothing.
func (r *Recorder) End() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done {
		return
	}
	r.done = true
	requests, answers := bufio.NewReader(&r.requests.Buffer), bufio.NewReader(&r.answers.Buffer)
	lost := false // what was sent is no sequence of requests any more
	for {
		if _, err := answers.Peek(1); err != nil {
			return
		}
		var x Exchange
		var req *http.Request
		if !lost {
			req = readRequest(requests, &x, r.requests.full)
			lost = req == nil
		}
		if !readAnswer(answers, req, &x, r.answers.full) {
			return
		}
		r.checker.fail(r.checker.Check(r.dialect, x))
		if x.Status == http.StatusSwitchingProtocols {
			return
		}
	}
}

// readRequest takes one request. It returns nil when there is none.
func readRequest(from *bufio.Reader, x *Exchange, full bool) *http.Request {
	req, err := http.ReadRequest(from)
	if err != nil {
		return nil
	}
	x.Method, x.Target, x.RequestType = req.Method, req.RequestURI, req.Header.Get("Content-Type")
	if x.Status != http.StatusSwitchingProtocols {
		x.RequestBody, err = io.ReadAll(req.Body)
		x.Cut = err != nil || full
	}
	return req
}

// readAnswer takes one answer, over those that only say "go on". It returns
// false when there is no whole head.
func readAnswer(from *bufio.Reader, req *http.Request, x *Exchange, full bool) bool {
	for {
		resp, err := http.ReadResponse(from, req)
		if err != nil {
			return false
		}
		if resp.StatusCode == http.StatusContinue {
			continue
		}
		x.Status, x.Header = resp.StatusCode, resp.Header
		if x.Status == http.StatusSwitchingProtocols {
			x.Body, _ = io.ReadAll(from)
			return true
		}
		x.Body, err = io.ReadAll(resp.Body)
		x.Partial = err != nil || full
		return true
	}
}

// messages returns the text messages of what a server sent over a websocket, up
// to the first that is not whole.
func messages(frames []byte) (list [][]byte) {
	from := bytes.NewReader(frames)
	for {
		header, err := ws.ReadHeader(from)
		if err != nil || header.Length > int64(from.Len()) {
			return list
		}
		payload := make([]byte, header.Length)
		if _, err := io.ReadFull(from, payload); err != nil {
			return list
		}
		if header.OpCode == ws.OpText {
			list = append(list, payload)
		}
	}
}

// Tap returns a listener of which every connection is recorded until it is
// closed. The dialect is that of the server. A server may close one after it
// has sent the answer, and even after its own end: see [Checker.Settle].
func (c *Checker) Tap(ln net.Listener, dialect string) net.Listener {
	return &tap{Listener: ln, checker: c, dialect: dialect}
}

type tap struct {
	net.Listener
	checker *Checker
	dialect string
}

// Accept implements net.Listener.
func (t *tap) Accept() (net.Conn, error) {
	inner, err := t.Listener.Accept()
	if err != nil {
		return nil, err
	}
	t.checker.tapped.Add(1)
	return &tapped{Conn: inner, recorder: t.checker.Record(t.dialect), checker: t.checker}, nil
}

// tapped is the server's end of a connection.
type tapped struct {
	net.Conn
	recorder *Recorder
	checker  *Checker
	closed   sync.Once
}

// SyscallConn implements syscall.Conn, so that the server can ask who its peer is.
func (c *tapped) SyscallConn() (syscall.RawConn, error) {
	inner, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return inner.SyscallConn()
}

// Read implements net.Conn.
func (c *tapped) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.recorder.Sent(p[:n])
	return n, err
}

// Write implements net.Conn.
func (c *tapped) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.recorder.Received(p[:n])
	return n, err
}

// Close implements net.Conn.
func (c *tapped) Close() error {
	c.closed.Do(func() {
		c.recorder.End()
		c.checker.tapped.Add(-1)
	})
	return c.Conn.Close()
}
