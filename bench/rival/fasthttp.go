package rival

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/valyala/fasthttp"
)

// shutdownTimeout is how long fasthttp may take to close its connections.
const shutdownTimeout = 10 * time.Second

// fastHTTP is the FastHTTP rival.
type fastHTTP struct {
	fixed
	server   *fasthttp.Server
	listener net.Listener
	conns    connections
	fail     chan error
	done     chan struct{}
}

func startFastHTTP(socket string) (server, error) {
	s := &fastHTTP{fail: make(chan error, 1), done: make(chan struct{})}
	s.init()
	s.conns.init()
	ln, err := listen(socket)
	if err != nil {
		return nil, err
	}
	s.listener = ln
	s.server = &fasthttp.Server{
		Handler: s.handle, ConnState: s.connState, NoDefaultServerHeader: true, IdleTimeout: idleTimeout, Logger: silent{},
	}
	go func() {
		defer close(s.done)
		if err := s.server.Serve(ln); err != nil {
			s.fail <- err
		}
	}()
	return s, nil
}

func (s *fastHTTP) handle(ctx *fasthttp.RequestCtx) {
	if ctx.Request.Header.ConnectionUpgrade() {
		// The answer is written by us, so that it is the same as that of the other rivals.
		answer := switchingFor(ctx.Request.Header.Peek("Sec-WebSocket-Key"))
		ctx.HijackSetNoResponse(true)
		ctx.Hijack(func(conn net.Conn) { s.keep(conn, answer) })
		return
	}
	ctx.SetContentType("application/octet-stream")
	ctx.SetBody(s.answer.Load().body)
}

// connState is a hook of fasthttp. Its Shutdown waits for connections that have not sent a whole request, so they are known here.
func (s *fastHTTP) connState(conn net.Conn, state fasthttp.ConnState) {
	switch state {
	case fasthttp.StateNew:
		if !s.conns.add(conn) {
			_ = conn.Close()
		}
	case fasthttp.StateClosed:
		s.conns.remove(conn)
	}
}

// silent keeps fasthttp from writing a line for each client that goes away.
type silent struct{}

// Printf implements fasthttp.Logger.
func (silent) Printf(string, ...any) {}

// keep reads from an upgraded connection until the client leaves.
func (s *fastHTTP) keep(conn net.Conn, answer []byte) {
	if raw, ok := conn.(interface{ UnsafeConn() net.Conn }); ok {
		defer s.conns.remove(raw.UnsafeConn()) // connState does not hear of the end of a hijacked one
	}
	if _, err := conn.Write(answer); err != nil {
		return
	}
	var buf [512]byte
	for {
		if _, err := conn.Read(buf[:]); err != nil {
			return
		}
	}
}

// ended implements server.
func (s *fastHTTP) ended() <-chan error { return s.fail }

// close implements server.
func (s *fastHTTP) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	// Shutdown knows the listener only once Serve has begun, so it is closed here.
	err := s.listener.Close()
	<-s.done
	s.conns.closeAll()
	if stopped := s.server.ShutdownWithContext(ctx); !errors.Is(stopped, net.ErrClosed) {
		err = errors.Join(err, stopped)
	}
	return err
}
