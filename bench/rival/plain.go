package rival

import (
	"io"
	"net/http"
	"strconv"
	"sync"

	"github.com/gorilla/websocket"
)

// plain is the Plain rival.
type plain struct {
	fixed
	web      *httpServer
	upgraded connections
}

func startPlain(socket string) (server, error) {
	s := &plain{}
	s.init()
	s.upgraded.init()
	web, err := serveHTTP(socket, &http.Server{
		Handler: s, ReadHeaderTimeout: headTimeout, ReadTimeout: headTimeout, IdleTimeout: idleTimeout,
	})
	if err != nil {
		return nil, err
	}
	s.web = web
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *plain) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "" {
		s.upgrade(w, r)
		return
	}
	body := s.answer.Load().body
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

// upgrade keeps the connection until the client leaves.
func (s *plain) upgrade(w http.ResponseWriter, r *http.Request) {
	upgrader := websocket.Upgrader{HandshakeTimeout: handshakeTimeout}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // the client was told
	}
	defer conn.Close()
	if !s.upgraded.add(conn) {
		return
	}
	defer s.upgraded.remove(conn)
	_, _, _ = conn.NextReader()
}

// ended implements server.
func (s *plain) ended() <-chan error { return s.web.ended }

// close implements server.
func (s *plain) close() error {
	err := s.web.close()
	s.upgraded.closeAll()
	return err
}

// connections are those that the HTTP server does not close itself, so that they end with it. It is safe for concurrent use.
type connections struct {
	mu  sync.Mutex
	all map[io.Closer]struct{} // nil once all were closed
}

func (c *connections) init() { c.all = make(map[io.Closer]struct{}) }

// add reports whether the server still runs.
func (c *connections) add(conn io.Closer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		return false
	}
	c.all[conn] = struct{}{}
	return true
}

func (c *connections) remove(conn io.Closer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.all, conn)
}

func (c *connections) closeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.all {
		_ = conn.Close()
	}
	c.all = nil
}
