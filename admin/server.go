package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"devlxd/fault"
	"devlxd/internal/logging"
	"devlxd/registry"
	"devlxd/source"
)

// Limits of a request.
const (
	// MaxBody is the longest JSON body in bytes. It holds the largest config
	// and devices that a source takes (source.MaxConfigLen and
	// source.MaxDevicesLen), even where JSON needs six bytes for one.
	MaxBody = 64 << 20
	// StreamWriteTimeout is how long the reader of an event stream may take
	// nothing before it is disconnected.
	StreamWriteTimeout = 30 * time.Second

	headTimeout  = 10 * time.Second // for a request head, and for a body to go on
	idleTimeout  = 60 * time.Second // between requests
	writeTimeout = 60 * time.Second // for an answer
	maxHead      = 16 << 10         // bytes of a request head
	maxConns     = 1024             // connections of each listener
	maxStreams   = 256              // event streams
)

// Options configure a [Server].
type Options struct {
	// Registry is what is shown. Required.
	Registry *registry.Registry
	// Writer makes the changes. nil refuses every change with 403, for a
	// source that only mirrors another daemon.
	Writer source.Writer
	// Loading says that the registry is yet to be filled: what is about
	// containers and images is answered 503 until [Server.Loaded] gives the
	// writer, and Writer is not looked at.
	Loading bool
	// Status describes the daemon. nil shows what the registry knows.
	Status func() Status
	// Quotas tells what a container uses and may use, by the label of the
	// quota. nil: it is not shown.
	Quotas func(*registry.Container) map[string]Quota
	// Top tells what the daemon does and for which containers, at most limit of them; Sort and Health of the answer are filled in. nil:
	// GET /1.0/top is 501.
	Top func(by TopSort, limit int) Top
	// Health says what is wrong, but for what Ready says. It may wait for a second or two. nil: nothing is.
	Health func() []HealthReason
	// Gatherer is what /metrics shows. nil: /metrics is 404.
	Gatherer prometheus.Gatherer
	// Ready says whether guests are served, for /readyz. nil: always, once
	// the registry is filled.
	Ready func() bool
	// Upgrade replaces the process by another binary; "" is the one that it runs. It returns when the new process serves, or with the reason why
	// this one goes on. nil refuses it with 501.
	Upgrade func(ctx context.Context, binary string) (Upgraded, error)
	// LogLevel is the level of the daemon's log. nil refuses to show and to change it with 501.
	LogLevel LogLevel
	// Faults is told when connections cannot be accepted. nil: one that logs to
	// Log.
	Faults *fault.Board
	// Log gets a line for each change and each failure. nil is silent.
	Log *slog.Logger
}

// Server serves the admin API. Make one with [New]. Safe for concurrent use.
type Server struct {
	options Options
	log     *slog.Logger
	routes  []route
	api     *fasthttp.Server
	metrics *fasthttp.Server
	uid     uint32
	conns   connections
	loaded  atomic.Pointer[loaded] // nil while the registry is being filled

	changes gate

	streamTimeout time.Duration // StreamWriteTimeout

	stopping chan struct{} // closed when the streams are to end
	streams  sync.WaitGroup
	slots    chan struct{} // one for each event stream

	mu        sync.Mutex
	listeners []net.Listener
	stopped   bool
}

// loaded is what changes go to once the registry is filled.
type loaded struct{ writer source.Writer }

// New makes a server that listens nowhere yet.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Faults == nil {
		o.Faults = fault.NewBoard(o.Log, nil)
	}
	s := &Server{
		options:  o,
		log:      o.Log,
		uid:      uint32(os.Getuid()),
		stopping: make(chan struct{}),
		slots:    make(chan struct{}, maxStreams),

		streamTimeout: StreamWriteTimeout,
	}
	if !o.Loading {
		s.Loaded(o.Writer)
	}
	s.routes = s.table()
	s.api = s.newHTTP(s.serveAPI)
	s.metrics = s.newHTTP(s.serveMetrics)
	return s
}

// Loaded says that the registry is filled, and by whom changes are made from
// now on; nil refuses them with 403. Safe for concurrent use with requests.
func (s *Server) Loaded(w source.Writer) { s.loaded.Store(&loaded{w}) }

// writer makes the changes. Only for the handlers of what is held back until
// the registry is filled.
func (s *Server) writer() source.Writer { return s.loaded.Load().writer }

func (s *Server) newHTTP(h fasthttp.RequestHandler) *fasthttp.Server {
	return &fasthttp.Server{
		Handler:                      s.recovered(h),
		ErrorHandler:                 s.badRequest,
		Name:                         "devlxd",
		Concurrency:                  maxConns,
		ReadBufferSize:               maxHead,
		ReadTimeout:                  headTimeout,
		WriteTimeout:                 writeTimeout,
		IdleTimeout:                  idleTimeout,
		DisablePreParseMultipartForm: true,
		StreamRequestBody:            true,
		CloseOnShutdown:              true,
		NoDefaultContentType:         true,
		Logger:                       httpLog{s.log},
	}
}

// httpLog takes what fasthttp has to say: connections that broke.
type httpLog struct{ log *slog.Logger }

func (l httpLog) Printf(format string, args ...any) {
	l.log.Debug("admin connection", "detail", logging.Guest(fmt.Sprintf(format, args...)))
}

// Serve serves the admin API on ln, a listener of unix sockets, until
// [Server.Shutdown]. It closes ln. It returns nil after a shutdown,
// [ErrNotUnix], [ErrShutdown], or what ended accepting.
func (s *Server) Serve(ln net.Listener) error {
	if ln.Addr().Network() != "unix" {
		return errors.Join(fmt.Errorf("%s: %w", ln.Addr(), ErrNotUnix), ln.Close())
	}
	return s.serve(s.api, &guard{Listener: ln, owner: &s.conns, faults: s.options.Faults, ask: true, self: s.uid})
}

// ServeMetrics serves /metrics, /healthz and /readyz on ln, of any kind and to
// anyone, until [Server.Shutdown]. It closes ln. It returns as Serve does.
func (s *Server) ServeMetrics(ln net.Listener) error {
	return s.serve(s.metrics, &guard{Listener: ln, owner: &s.conns, faults: s.options.Faults})
}

func (s *Server) serve(h *fasthttp.Server, ln net.Listener) error {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return errors.Join(ErrShutdown, ln.Close())
	}
	s.listeners = append(s.listeners, ln)
	s.mu.Unlock()
	if err := h.Serve(ln); err != nil {
		return errors.Join(fmt.Errorf("cannot accept on %s: %w", ln.Addr(), err), ln.Close())
	}
	return nil
}

// Shutdown stops to accept, ends the event streams with an error line, lets
// the requests that are being answered finish until ctx is done, and closes
// what is left then. It returns ctx.Err() if anything was. A second call
// waits like the first.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.stopAccepting()
	// A client that has connected and said nothing would be waited for.
	s.conns.end(func(c *conn) bool { return !c.used.Load() })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.streams.Wait()
	}()
	cut := errors.Join(s.api.ShutdownWithContext(ctx), s.metrics.ShutdownWithContext(ctx)) != nil
	select {
	case <-ended:
	case <-ctx.Done():
		cut = true
	}
	s.conns.end(func(*conn) bool { return true })
	<-ended
	if cut && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// stopAccepting closes the listeners and has event streams end. A second call
// does nothing.
func (s *Server) stopAccepting() (err error) {
	s.mu.Lock()
	if !s.stopped {
		s.stopped = true
		close(s.stopping)
	}
	listeners := s.listeners
	s.listeners = nil
	s.mu.Unlock()
	for _, ln := range listeners {
		err = errors.Join(err, ln.Close())
	}
	return err
}
