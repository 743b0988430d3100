package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"devlxd/fault"
	"devlxd/internal/logging"
	"devlxd/peer"
	"devlxd/registry"
	"devlxd/ws"
)

// Options configure a Server. The zero value of each field is its default.
type Options struct {
	Dialect  Dialect
	Location string // of GET /1.0 in the lxd and incus dialects; default: the host name

	Loops          int   // event loops; default: max(1, cores-1)
	MaxConnections int64 // beyond it connections wait in the backlog; default: what RLIMIT_NOFILE leaves, see budget

	Limits registry.Limits // of each container whose config says nothing else; default: DefaultLimits

	// Deadlines, by the monotonic clock. Those of a head and of a body are for the
	// whole of it: bytes that drip in gain no time. That of a body is not
	// stretched by progress either, since no route takes more than 16 KiB of it.

	HeaderTimeout time.Duration // 3 s: for a request head, a websocket handshake too, to be complete (LXD: ReadHeaderTimeout)
	BodyTimeout   time.Duration // 10 s: for a request body to be complete, from its head on
	IdleTimeout   time.Duration // 30 s: between requests (LXD: IdleTimeout)
	WriteTimeout  time.Duration // 30 s: for the reader to take anything of a pending answer
	PingInterval  time.Duration // 10 s: between websocket pings; three unanswered ones end the connection when a fourth is due
	CloseTimeout  time.Duration // 2 s: for a websocket client to answer our close frame

	RingEvents    int // see registry.Options
	RingBytes     int
	MaxContainers int

	Host   *peer.Host // what the kernel can tell of peers; required
	Log    *slog.Logger
	Lines  *logging.Limiter // of lines that guests cause; default: one of its own, to Log
	Faults *fault.Board     // what the host does not give is told to it; default: one of its own, which logs
	// Now must have a monotonic reading, as time.Now does: deadlines go by it, and
	// the wall clock may jump. Tests move it.
	Now func() time.Time
	// StateSet is told that a guest has set its state (PATCH /1.0), which Binding.Ready reports. It is called by the loops, and must not
	// wait. nil: nobody.
	StateSet func(b *registry.Binding)

	// identify replaces peer.Identify in tests of everything else, and peerPID peer.PID.
	identify func(reg *registry.Registry, fd int) (*registry.Binding, peer.Peer, peer.Reject)
	peerPID  func(fd int) int32
}

func (o *Options) fill() error {
	if o.Location == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("cannot read the host name: %w", err)
		}
		o.Location = name
	}
	if o.Loops < 0 || o.MaxConnections < 0 {
		return errNegative
	}
	if o.Loops == 0 {
		o.Loops = max(1, runtime.GOMAXPROCS(0)-1)
	}
	for field, value := range map[*time.Duration]time.Duration{
		&o.HeaderTimeout: 3 * time.Second, &o.BodyTimeout: 10 * time.Second, &o.IdleTimeout: 30 * time.Second,
		&o.WriteTimeout: 30 * time.Second, &o.PingInterval: 10 * time.Second, &o.CloseTimeout: 2 * time.Second,
	} {
		if *field == 0 {
			*field = value
		}
	}
	var err error
	if o.Limits, err = filledLimits(o.Limits); err != nil {
		return err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Lines == nil {
		o.Lines = logging.NewLimiter(o.Log, o.Now)
	}
	switch {
	case o.peerPID != nil:
	case o.identify != nil:
		o.peerPID = func(int) int32 { return 0 } // all guests of a test are one process
	default:
		o.peerPID = peer.PID
	}
	if o.Faults == nil {
		o.Faults = fault.NewBoard(o.Log, o.Now)
	}
	return nil
}

// Server answers the guests. Its methods are safe for concurrent use. Start,
// one of Listen and Adopt, and Shutdown are called in that order, once each.
type Server struct {
	opts      Options
	texts     texts
	reg       *registry.Registry
	log       *slog.Logger
	faults    *fault.Board
	throttled *throttle // other conditions of the host
	loops     []*loop
	socket    *socketFile
	budget    budget
	refusals  refusals
	open      atomic.Int64 // connections of all loops
	strangers account      // of the peers that belong to no container
	limits    atomic.Pointer[registry.Limits]
	lines     logging.Quota // of the peers that belong to no container
	looks     looks         // at the accounts of all

	perContainer atomic.Int64 // see SetPerContainer
	started      time.Time
	made         time.Time // zero of clock

	bodies    atomic.Pointer[[2][]byte] // GET /1.0 by state: started, ready
	farewells [numCloseReasons]farewell
	pingFrame []byte

	phase     atomic.Int32 // a phase
	listening atomic.Bool
	running   sync.WaitGroup
	failed    chan error
}

// The life of a server.
const (
	phaseNew int32 = iota
	phaseRunning
	phaseEnded
)

// New makes a server and the registry that it answers from. Nothing is
// listened on yet, so the registry can be filled first.
func New(o Options) (*Server, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	s := &Server{
		opts: o, texts: o.Dialect.texts(), log: o.Log, started: o.Now(), made: time.Now(), faults: o.Faults,
		throttled: newThrottle(o.Log, slog.LevelError, 10*time.Second, o.Now),
		farewells: farewells(), pingFrame: ws.AppendFrame(nil, ws.OpPing, nil),
		failed: make(chan error, o.Loops),
	}
	s.refusals.peer = o.peerPID
	s.limits.Store(&o.Limits)
	s.SetLocation("")
	if err := s.budget.init(o.MaxConnections); err != nil {
		return nil, err
	}
	options := registry.Options{
		RenderValue: renderValue, FrameEvent: ws.TextFrame, Observer: s, Now: o.Now,
		RingEvents: o.RingEvents, RingBytes: o.RingBytes, MaxContainers: o.MaxContainers,
	}
	if s.texts.sshKeys {
		options.Derive = s.mergeSSHKeys
	}
	s.reg = registry.New(options)
	for id := range o.Loops {
		l, err := newLoop(s, id)
		if err != nil {
			for _, l := range s.loops {
				l.free()
			}
			return nil, err
		}
		l.handoff = make([][]int, o.Loops)
		s.loops = append(s.loops, l)
	}
	return s, nil
}

// Registry is what the server answers from. Sources write to it.
func (s *Server) Registry() *registry.Registry { return s.reg }

func (s *Server) identify(fd int) (*registry.Binding, peer.Peer, peer.Reject) {
	if s.opts.identify != nil {
		return s.opts.identify(s.reg, fd)
	}
	return peer.Identify(s.opts.Host, s.reg, fd)
}

// clock is the monotonic time for measurements and token buckets.
func (s *Server) clock() time.Duration { return time.Since(s.made) }

// SetLocation changes the location that GET /1.0 tells, in the lxd and incus dialects; "" is that of the Options. Safe for concurrent use.
func (s *Server) SetLocation(location string) {
	location = cmp.Or(location, s.opts.Location)
	s.bodies.Store(&[2][]byte{s.opts.Dialect.apiBody(location, false), s.opts.Dialect.apiBody(location, true)})
}

func (s *Server) apiBody(ready bool) []byte {
	bodies := s.bodies.Load()
	if ready {
		return bodies[1]
	}
	return bodies[0]
}

// Start runs the loops. It returns at once; [Server.Failed] tells of a loop that
// failed. A second call does nothing.
func (s *Server) Start() {
	if !s.phase.CompareAndSwap(phaseNew, phaseRunning) {
		return
	}
	for _, l := range s.loops {
		s.running.Go(func() {
			if err := l.run(); err != nil {
				s.failed <- fmt.Errorf("event loop %d: %w", l.id, err)
			}
		})
	}
}

// Failed delivers the error of a loop whose poller failed; the server cannot
// go on then.
func (s *Server) Failed() <-chan error { return s.failed }

// Shutdown ends the server: it stops accepting, answers the requests under way
// with "Connection: close", closes websockets with 1001, and closes what is
// left when ctx is done. It returns ctx's error if connections were cut off,
// and ErrClosed when it was called before. The registry stays usable.
func (s *Server) Shutdown(ctx context.Context) error {
	var err error
	switch s.phase.Swap(phaseEnded) {
	case phaseEnded:
		return ErrClosed
	case phaseRunning:
		for _, l := range s.loops {
			l.call(func() {
				l.stopAccepting()
				l.drainAll()
			})
		}
		err = s.awaitIdle(ctx)
		for _, l := range s.loops {
			l.post(func() { l.stopping = true })
		}
		s.running.Wait()
	}
	for _, l := range s.loops {
		l.closeAll() // its goroutine has ended
		l.free()
	}
	return errors.Join(err, s.socket.remove())
}

// awaitIdle waits until no connection is left.
func (s *Server) awaitIdle(ctx context.Context) error {
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for s.open.Load() > 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d connections were cut off: %w", s.open.Load(), ctx.Err())
		case <-poll.C:
		}
	}
	return nil
}
