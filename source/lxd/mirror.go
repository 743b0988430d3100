package lxd

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"

	"devlxd/fault"
	"devlxd/internal/logging"
	"devlxd/internal/lxdapi"
	"devlxd/registry"
	"devlxd/source"
)

// workers is how many instances are read at a time. The daemon reads most of them from its database, but may hold one back.
const workers = 4

// Times bound the waiting of a mirror.
type Times struct {
	// Retry is how long a mirror waits before it connects, or reads an instance, again; each time twice as long up to RetryMost.
	Retry, RetryMost time.Duration
	// Silence is for how long a daemon may not even answer a ping.
	Silence time.Duration
	// State is how often at most the state that one guest sets is forwarded.
	State time.Duration
}

// DefaultTimes are those of a Mirror whose Options leave them out.
func DefaultTimes() Times {
	return Times{Retry: 100 * time.Millisecond, RetryMost: 10 * time.Second, Silence: time.Minute, State: time.Second}
}

// Options configure a Mirror.
type Options struct {
	Address  lxdapi.Address
	Registry *registry.Registry // required
	Binder   source.Binder      // required
	// Cgroups is where the host's cgroup2 tree is mounted; "": it is not, and init processes are asked of the daemon, which takes longer.
	Cgroups string
	// Privileged is called when there is an instance whose root is the host's, before it can be bound; nil: nobody.
	Privileged func()
	// Member is told the name of the member of a cluster that the daemon is, "" for none, before Load and Restore return; nil: nobody.
	Member func(name string)
	Faults *fault.Board // nil: one that logs
	Log    *slog.Logger // nil: silent
	// Lines logs what guests cause; nil: one that logs to Log.
	Lines *logging.Limiter
	Times Times // zero: DefaultTimes
	// Getenv finds the default socket; nil: os.Getenv.
	Getenv func(string) string

	host host // nil: the one of Linux
}

// Mirror keeps a registry as a LXD or Incus daemon has its containers. It implements [source.Writer] by refusals. Safe for concurrent use.
type Mirror struct {
	opts   Options
	log    *slog.Logger
	reg    *registry.Registry
	faults *fault.Board
	counts *counts
	states *states

	// applying is held for reading while one instance is read and published, and for writing while all are: what a list says
	// may be older than what was read of one instance meanwhile.
	applying sync.RWMutex

	mu      sync.Mutex
	entries map[key]*entry
	names   map[string]key // of the registry
	images  map[string]registry.Image
	broken  map[task]error // what could not be mirrored
	link    link
	member  string             // of a cluster, "": the daemon is none
	queue   *queue             // of the session; nil: none that is up to date
	stop    context.CancelFunc // nil: no session is wanted
	ended   chan struct{}      // closed when there is none any more
	listed  chan struct{}      // closed when all was read for the first time
	closed  bool
}

// entry is one container that is mirrored.
type entry struct {
	name     string // in the registry
	profiles []string
	facts    source.Facts // of the init process that was bound last; PID 0: none was
	ready    bool         // what the daemon had of the guest's state when it was read
	// told is the life of which the daemon was told that its guest is toldReady. What is read may be of before that.
	told      *registry.Binding
	toldReady bool
	unsure    bool // whether the daemon has heard that: its answer did not come
}

var _ source.Writer = (*Mirror)(nil)

// New makes a mirror that knows nothing and is connected to nobody: see Load and Restore.
func New(o Options) *Mirror {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Faults == nil {
		o.Faults = fault.NewBoard(o.Log, nil)
	}
	if o.Lines == nil {
		o.Lines = logging.NewLimiter(o.Log, nil)
	}
	if o.Times == (Times{}) {
		o.Times = DefaultTimes()
	}
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.host == nil {
		o.host = &linux{proc: "/proc", cgroups: o.Cgroups}
	}
	m := &Mirror{
		opts: o, log: o.Log.With("source", o.Address.Kind.String()), reg: o.Registry, faults: o.Faults, counts: newCounts(), states: newStates(),
		entries: make(map[key]*entry), names: make(map[string]key), images: make(map[string]registry.Image), broken: make(map[task]error),
		listed: make(chan struct{}),
	}
	m.link.since = time.Now()
	return m
}

// Load connects to the daemon, for as long as that takes, and returns when everything that it has is published. It returns ctx.Err when ctx
// ends before that.
func (m *Mirror) Load(ctx context.Context) error {
	m.Start()
	select {
	case <-m.listed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Start connects to the daemon and follows it from now on. It does nothing when that is so already, or after Close.
func (m *Mirror) Start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stop != nil || m.closed {
		return
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	ended := make(chan struct{})
	m.stop, m.ended = func() { cancel(errSuspended) }, ended
	go func() {
		defer close(ended)
		m.keep(ctx)
	}()
}

// Suspend ends the connection to the daemon, so that nothing changes in the registry any more but bindings that end. Resume goes on.
func (m *Mirror) Suspend() error {
	m.mu.Lock()
	stop, ended := m.stop, m.ended
	m.stop = nil
	m.mu.Unlock()
	if stop != nil {
		stop()
		<-ended
	}
	return nil
}

// Resume follows the daemon again after Suspend: what has changed meanwhile is published then.
func (m *Mirror) Resume() error {
	m.Start()
	return nil
}

// Close ends the connection to the daemon for good. The registry keeps what was published, and bindings go on.
func (m *Mirror) Close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	return m.Suspend()
}

// absentMost is how long a daemon that is not there is waited for at a time: to look costs nothing, and cloud-init in a container that the daemon
// starts with itself tries for 3 s to be known.
const absentMost = time.Second

// keep has one session after another until ctx ends.
func (m *Mirror) keep(ctx context.Context) {
	wait := m.opts.Times.Retry
	for {
		s, began := &session{m: m, queue: newQueue(m.known, time.Now)}, time.Now()
		err := s.run(ctx)
		if ctx.Err() != nil {
			m.disconnected(errSuspended)
			return
		}
		m.counts.losses[reasonOf(err)].Add(1)
		m.disconnected(err)
		m.faults.Enter(fault.MirrorLost, "source", m.opts.Address.String(), "error", err)
		// A daemon that drops each session once it was listed is not listed all the time.
		if s.synced && time.Since(began) > m.opts.Times.RetryMost {
			wait = m.opts.Times.Retry
		}
		if isAbsent(err) {
			wait = min(wait, absentMost)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, m.opts.Times.RetryMost)
	}
}

// setMember notes which member of a cluster the daemon is, "" for none.
func (m *Mirror) setMember(name string) {
	m.mu.Lock()
	m.member = name
	m.mu.Unlock()
	if m.opts.Member != nil {
		m.opts.Member(name)
	}
}

func (m *Mirror) known() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.entries)
}
