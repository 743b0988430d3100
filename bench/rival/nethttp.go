package rival

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// LXD's timeouts (lxd/endpoints, devLXD server).
const (
	headTimeout = 3 * time.Second
	idleTimeout = 30 * time.Second
)

// netHTTP is the NetHTTP rival.
type netHTTP struct {
	book   *book
	peers  credentials
	events listeners
	web    *httpServer

	mu     sync.RWMutex
	images map[string]string // path by fingerprint
}

func startNetHTTP(socket string) (server, error) {
	s := &netHTTP{book: newBook(), images: make(map[string]string)}
	s.peers.of = make(map[*net.UnixConn]unix.Ucred)
	s.events.all = make(map[*listener]struct{})
	web, err := serveHTTP(socket, &http.Server{
		Handler:           s.mux(),
		ConnState:         s.peers.connState,
		ConnContext:       withConn,
		ReadHeaderTimeout: headTimeout,
		ReadTimeout:       headTimeout,
		IdleTimeout:       idleTimeout,
	})
	if err != nil {
		return nil, err
	}
	s.web = web
	return s, nil
}

// register implements server.
func (s *netHTTP) register(containers []Container) error {
	for i := range containers {
		c := &container{Container: containers[i]}
		if c.PID > 0 {
			var err error
			if c.rootUID, err = rootUID(c.PID); err != nil {
				return err
			}
		}
		if err := s.book.put(c); err != nil {
			return err
		}
	}
	return nil
}

// unregister implements server.
func (s *netHTTP) unregister(name string) error { return s.book.remove(name) }

// set implements server.
func (s *netHTTP) set(name, key, value string) error {
	old, err := s.book.change(name, key, value)
	if err != nil || !makesEvent(key, old, value) {
		return err
	}
	e, err := configEvent(key, old, value)
	if err != nil {
		return err
	}
	s.events.broadcast(name, &e)
	return nil
}

// image implements server.
func (s *netHTTP) image(path string) (string, error) {
	fingerprint, err := fingerprintOf(path)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.images[fingerprint] = path
	return fingerprint, nil
}

// ended implements server.
func (s *netHTTP) ended() <-chan error { return s.web.ended }

// close implements server.
func (s *netHTTP) close() error {
	err := s.web.close()
	s.events.closeAll()
	return err
}

// httpServer is net/http on a Unix socket.
type httpServer struct {
	server *http.Server
	ended  chan error // the server has ended by itself
	done   chan struct{}
}

func serveHTTP(socket string, server *http.Server) (*httpServer, error) {
	ln, err := listen(socket)
	if err != nil {
		return nil, err
	}
	server.ErrorLog = log.New(io.Discard, "", 0) // not a line for each client that goes away
	h := &httpServer{server: server, ended: make(chan error, 1), done: make(chan struct{})}
	go func() {
		defer close(h.done)
		if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			h.ended <- err
		}
	}()
	return h, nil
}

func (h *httpServer) close() error {
	err := h.server.Close()
	<-h.done
	return err
}

// credentials has who connected, by connection, under one lock: LXD's pidMapper. It is safe for concurrent use.
type credentials struct {
	mu sync.Mutex
	of map[*net.UnixConn]unix.Ucred
}

// connState is a hook of net/http.
func (m *credentials) connState(conn net.Conn, state http.ConnState) {
	c := conn.(*net.UnixConn)
	switch state {
	case http.StateNew:
		// Without credentials each request of the connection is refused, as in LXD.
		if cred, err := peerCredentials(c); err == nil {
			m.mu.Lock()
			m.of[c] = *cred
			m.mu.Unlock()
		}
	case http.StateHijacked, http.StateClosed:
		m.mu.Lock()
		delete(m.of, c)
		m.mu.Unlock()
	}
}

func (m *credentials) get(c *net.UnixConn) (unix.Ucred, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	cred, ok := m.of[c]
	return cred, ok
}

// peerCredentials is SO_PEERCRED (unix(7)).
func peerCredentials(c *net.UnixConn) (cred *unix.Ucred, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	closed := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	return cred, errors.Join(closed, err)
}

// connKey is the key of the connection in a request's context.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// caller returns the credentials of the request's connection.
func (s *netHTTP) caller(r *http.Request) (unix.Ucred, bool) {
	c, ok := r.Context().Value(connKey{}).(*net.UnixConn)
	if !ok {
		return unix.Ucred{}, false
	}
	return s.peers.get(c)
}
