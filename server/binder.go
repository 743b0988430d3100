package server

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"devlxd/fault"
	"devlxd/internal/logging"
	"devlxd/peer"
	"devlxd/registry"
	"devlxd/source"
)

// Binder turns the init process of a container into a binding of the registry
// and watches it through its pidfd: when the process exits the binding is
// stopped. It implements source.Binder and is safe for concurrent use.
type Binder struct {
	host    *peer.Host
	reg     *registry.Registry
	watcher *peer.Watcher
	log     *slog.Logger
	faults  *fault.Board
	lines   *logging.Limiter

	mu      sync.Mutex
	hidden  map[int]struct{} // pids that could not be looked at when they were last asked for
	stopped func(name string)
}

// NewBinder starts the watcher. Close ends it; bindings stay as they are then.
// The board is told of processes that the host hides; nil is one of the binder's
// own. The limiter bounds how often it tells of a container that starts and stops; nil is one of its own too.
func NewBinder(host *peer.Host, reg *registry.Registry, log *slog.Logger, faults *fault.Board, lines *logging.Limiter) (*Binder, error) {
	if lines == nil {
		lines = logging.NewLimiter(log, nil)
	}
	if faults == nil {
		faults = fault.NewBoard(log, nil)
	}
	w, err := peer.NewWatcher()
	if err != nil {
		return nil, err
	}
	return &Binder{host: host, reg: reg, watcher: w, log: log, faults: faults, lines: lines, hidden: make(map[int]struct{})}, nil
}

// NotifyStopped has f called with the name of each container whose init process has exited, after its binding was stopped. f must
// return at once, and may be called from any goroutine.
func (b *Binder) NotifyStopped(f func(name string)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = f
}

// Close stops watching.
func (b *Binder) Close() error { return b.watcher.Close() }

// Open implements source.Binder.
func (b *Binder) Open(req source.BindRequest) (source.Process, error) {
	o := peer.InitOptions{
		Cgroup: req.Cgroup, RootUID: req.RootUID,
		InUse: func(id uint64) bool { _, taken := b.reg.LookupCgroup(id); return taken },
	}
	o.CgroupID = req.CgroupID
	if req.Was != nil {
		if req.Was.Privileged || req.Was.RootUID == 0 {
			b.host.RequirePidNS()
		}
		if req.Was.BootID == b.host.BootID() { // ids mean nothing in another boot
			o.CgroupID = req.Was.CgroupID
		}
	}
	init, err := b.host.OpenInit(req.PID, o)
	b.noteHidden(req.PID, err)
	if err != nil {
		class := source.ErrInvalid
		if errors.Is(err, peer.ErrNoProcess) {
			class = source.ErrNoProcess
		}
		return nil, fmt.Errorf("%w: %w", class, err)
	}
	if req.Check != nil {
		if err := req.Check(); err != nil {
			_ = init.Close()
			return nil, err
		}
	}
	return &process{binder: b, init: init}, nil
}

// noteHidden tells of processes that are hidden from the server, until each of
// them was looked at or has ended.
func (b *Binder) noteHidden(pid int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if errors.Is(err, peer.ErrHidden) {
		b.hidden[pid] = struct{}{}
		b.faults.Enter(fault.HiddenProcess, "pid", pid)
		return
	}
	if delete(b.hidden, pid); len(b.hidden) == 0 {
		b.faults.Leave(fault.HiddenProcess)
	}
}

// process is an init process that is held but not bound yet, or bound. It
// implements source.Process.
type process struct {
	binder *Binder
	init   *peer.Init
	bound  bool
}

// Facts implements source.Process.
func (p *process) Facts() source.Facts {
	i := p.init
	return source.Facts{
		PID: i.PID, PidfdInode: i.PidfdInode, BootID: i.BootID, CgroupID: i.CgroupID,
		PidNSIno: i.PidNS.Ino, RootUID: i.RootUID, Privileged: i.Privileged,
	}
}

// Activate implements source.Process. The process, and with it the number of its
// pid namespace, is held until the binding is stopped, without a descriptor where
// the watcher can ([peer.WatchFiles]).
func (p *process) Activate(name string) error {
	b, i := p.binder, p.init
	if i.Privileged {
		b.host.RequirePidNS() // for good: the container may run on after its binding
	}
	binding, err := b.reg.Bind(name, registry.Identity{
		InitPID: i.PID, CgroupID: i.CgroupID, PidNSDev: i.PidNS.Dev, PidNSIno: i.PidNS.Ino,
		RootUID: i.RootUID, Privileged: i.Privileged, Release: p.release,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", source.ErrConflict, err)
	}
	p.bound = true
	if err := i.Watch(b.watcher, func() { b.exited(name, binding) }); err != nil {
		b.reg.Stop(binding)
		return err
	}
	if i.CgroupID == 0 {
		b.logLife(binding, false, "container bound by its pid namespace alone", "container", name, "pid", i.PID, "reason", logging.Guest(i.CgroupNote))
	} else {
		b.logLife(binding, false, "container bound", "container", name, "pid", i.PID, "cgroup", logging.Guest(i.CgroupPath), "root_uid", i.RootUID)
	}
	return nil
}

func (b *Binder) exited(name string, binding *registry.Binding) {
	if b.reg.Stop(binding) {
		b.logLife(binding, true, "container stopped", "container", name, "pid", binding.InitPID())
	}
	b.mu.Lock()
	stopped := b.stopped
	b.mu.Unlock()
	if stopped != nil {
		stopped(name)
	}
}

// logLife tells of a start or an end of a container, which may cause many of both. Its quota is made at the first end: most containers
// have none.
func (b *Binder) logLife(binding *registry.Binding, end bool, msg string, args ...any) {
	quota := logging.HeldQuota(binding.Container())
	if quota == nil && !end {
		b.log.Info(msg, args...)
		return
	}
	b.lines.Log(logging.QuotaOf(binding.Container()), slog.LevelInfo, msg, args...)
}

// release lets the process go when the binding is stopped.
func (p *process) release() { _ = p.init.Close() }

// Close implements source.Process.
func (p *process) Close() error {
	if !p.bound {
		p.release()
	}
	return nil
}
