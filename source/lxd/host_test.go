package lxd

import (
	"fmt"
	"slices"
	"sync"

	"devlxd/registry"
	"devlxd/source"
)

// fakeHost is a kernel with processes that tests start and end. It implements host, and makes binders.
type fakeHost struct {
	mu     sync.Mutex
	next   int
	procs  map[int]*fakeInit // by pid, those that have ended too
	blind  bool              // no monitor is found, so that the daemon has to be asked
	onOpen func(pid int)     // called before a process is opened
	refuse int               // so many of the next binds fail
	opened int
	closed int
}

// fakeInit is one process.
type fakeInit struct {
	pid      int
	name     string // of the container whose init it is
	alive    bool
	bindings []func() // to be called when it ends
}

func newFakeHost() *fakeHost { return &fakeHost{next: 1000, procs: make(map[int]*fakeInit)} }

// start makes an init process.
func (h *fakeHost) start(name string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next++
	h.procs[h.next] = &fakeInit{pid: h.next, name: name, alive: true}
	return h.next
}

// end ends a process. The bindings notice it, unless their watcher is late.
func (h *fakeHost) end(pid int, late bool) {
	h.mu.Lock()
	p := h.procs[pid]
	p.alive = false
	stops := p.bindings
	h.mu.Unlock()
	if !late {
		for _, stop := range stops {
			stop()
		}
	}
}

func (h *fakeHost) inits(_ []string, name string) (pids []int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for pid, p := range h.procs {
		if p.alive && p.name == name && !h.blind {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

func (h *fakeHost) proves(_ []string, name string, pid int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.procs[pid].alive && h.procs[pid].name == name && !h.blind
}

func (h *fakeHost) ended(f source.Facts) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.procs[f.PID]
	return p == nil || !p.alive
}

// binder returns one that binds in reg.
func (h *fakeHost) binder(reg *registry.Registry) source.Binder { return &fakeBinder{h, reg} }

type fakeBinder struct {
	host *fakeHost
	reg  *registry.Registry
}

func (b *fakeBinder) Open(req source.BindRequest) (source.Process, error) {
	if b.host.onOpen != nil {
		b.host.onOpen(req.PID)
	}
	b.host.mu.Lock()
	defer b.host.mu.Unlock()
	p := b.host.procs[req.PID]
	if p == nil || !p.alive {
		return nil, fmt.Errorf("%w: %d", source.ErrNoProcess, req.PID)
	}
	b.host.opened++
	return &fakeProcess{b: b, p: p}, nil
}

type fakeProcess struct {
	b      *fakeBinder
	p      *fakeInit
	bound  bool
	closed bool
}

func (f *fakeProcess) Facts() source.Facts {
	return source.Facts{PID: f.p.pid, PidfdInode: uint64(f.p.pid), BootID: "boot", CgroupID: uint64(f.p.pid), PidNSIno: uint64(f.p.pid), RootUID: 100000}
}

func (f *fakeProcess) Activate(name string) error {
	h := f.b.host
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refuse > 0 {
		h.refuse--
		return fmt.Errorf("%w: as the test wants it", source.ErrConflict)
	}
	binding, err := f.b.reg.Bind(name, registry.Identity{InitPID: f.p.pid, CgroupID: uint64(f.p.pid), PidNSIno: uint64(f.p.pid), RootUID: 100000, Release: f.release})
	if err != nil {
		return fmt.Errorf("%w: %w", source.ErrConflict, err)
	}
	f.bound = true
	stop := func() { f.b.reg.Stop(binding) }
	f.p.bindings = append(f.p.bindings, stop)
	if !f.p.alive {
		go stop()
	}
	return nil
}

func (f *fakeProcess) release() {
	h := f.b.host
	h.mu.Lock()
	defer h.mu.Unlock()
	if !f.closed {
		f.closed = true
		h.closed++
	}
}

func (f *fakeProcess) Close() error {
	if !f.bound {
		f.release()
	}
	return nil
}
