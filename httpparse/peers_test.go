package httpparse

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// seenByPeer is what another HTTP implementation made of the first request.
type seenByPeer struct {
	err                               error
	method, target, path, query, host string
	body                              string
	consumed                          int
}

// readByNetHTTP uses the reader of Go's server. It does not check Host and Expect: see
// serveByNetHTTP.
func readByNetHTTP(raw []byte) (p seenByPeer) {
	src := bytes.NewReader(raw)
	br := bufio.NewReaderSize(src, 64<<10)
	req, err := http.ReadRequest(br)
	if err != nil {
		return seenByPeer{err: err}
	}
	body, err := io.ReadAll(req.Body)
	return seenByPeer{
		err: err, method: req.Method, target: req.RequestURI, path: req.URL.Path, query: req.URL.RawQuery,
		host: req.Host, body: string(body), consumed: len(raw) - src.Len() - br.Buffered(),
	}
}

func readByFasthttp(raw []byte) (p seenByPeer) {
	src := bytes.NewReader(raw)
	br := bufio.NewReaderSize(src, 64<<10)
	var req fasthttp.Request
	if err := req.Header.Read(br); err != nil {
		return seenByPeer{err: err}
	}
	err := req.ContinueReadBody(br, 0, false)
	return seenByPeer{
		err: err, method: string(req.Header.Method()), target: string(req.Header.RequestURI()),
		host: string(req.Header.Host()), body: string(req.Body()), consumed: len(raw) - src.Len() - br.Buffered(),
	}
}

// serveByNetHTTP runs a whole http.Server and returns the status of its first response,
// 0 for none. A request whose body cannot be read is answered with 400.
func serveByNetHTTP(raw []byte) int {
	c := &memoryConn{in: bytes.NewReader(raw), closed: make(chan struct{})}
	srv := &http.Server{
		ErrorLog: log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Connection", "close")
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				w.WriteHeader(400)
			}
		}),
	}
	l := &oneListener{conn: c}
	_ = srv.Serve(l) // ends with the error of the second Accept
	<-c.closed
	c.mu.Lock()
	defer c.mu.Unlock()
	for line := range bytes.SplitSeq(c.out.Bytes(), []byte("\r\n")) {
		var minor, code int
		if _, err := fmt.Sscanf(string(line), "HTTP/1.%d %d", &minor, &code); err == nil && code != 100 {
			return code
		}
	}
	return 0
}

// oneListener accepts one connection and no more.
type oneListener struct{ conn net.Conn }

func (l *oneListener) Accept() (net.Conn, error) {
	c := l.conn
	if l.conn = nil; c == nil {
		return nil, io.EOF
	}
	return c, nil
}
func (l *oneListener) Close() error   { return nil }
func (l *oneListener) Addr() net.Addr { return &net.UnixAddr{} }

// memoryConn is a client that has sent everything and closed its side.
type memoryConn struct {
	in     *bytes.Reader
	mu     sync.Mutex
	out    bytes.Buffer
	once   sync.Once
	closed chan struct{}
}

func (c *memoryConn) Read(b []byte) (int, error) { return c.in.Read(b) }
func (c *memoryConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(b)
}
func (c *memoryConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}
func (c *memoryConn) LocalAddr() net.Addr              { return &net.UnixAddr{} }
func (c *memoryConn) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
func (c *memoryConn) SetDeadline(time.Time) error      { return nil }
func (c *memoryConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memoryConn) SetWriteDeadline(time.Time) error { return nil }
