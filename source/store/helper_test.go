package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"devlxd/registry"
	"devlxd/source"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDirEnv); dir != "" {
		crashChild(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// memDir returns a directory in memory where there is one: the tests that commit thousands of times wait for no disk.
func memDir(t testing.TB) string {
	t.Helper()
	const shm = "/dev/shm"
	if info, err := os.Stat(shm); err != nil || !info.IsDir() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(shm, "devlxd-store-*")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// harness is a store with its registry and a binder over invented processes.
type harness struct {
	*Store
	t      testing.TB
	dir    string
	reg    *registry.Registry
	binder *fakeBinder
	logs   *logs
}

func newHarness(t testing.TB) *harness {
	t.Helper()
	h := &harness{t: t, dir: memDir(t), binder: newFakeBinder()}
	h.open()
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func (h *harness) open(opts ...Option) {
	h.t.Helper()
	if err := h.tryOpen(registry.Options{}, opts...); err != nil {
		h.t.Fatalf("Open: %v", err)
	}
}

func (h *harness) tryOpen(ro registry.Options, opts ...Option) error {
	h.reg, h.logs = registry.New(ro), new(logs)
	h.binder.use(h.reg)
	s, err := Open(h.dir, h.reg, h.binder, slog.New(h.logs), opts...)
	if err == nil {
		h.Store = s
	}
	return err
}

// reopen closes the store as a stopped daemon does, and opens it with an empty registry.
func (h *harness) reopen() {
	h.t.Helper()
	h.binder.forget()
	h.must(h.Close())
	h.open()
}

func (h *harness) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// want checks the kind of an error, and that it says text in one line.
func (h *harness) want(err, kind error, text string) {
	h.t.Helper()
	wantError(h.t, err, kind, text)
}

func wantError(t testing.TB, err, kind error, text string) {
	t.Helper()
	if !errors.Is(err, kind) || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
		t.Fatalf("error = %v; want one that is %q and says %q in one line", err, kind, text)
	}
}

func (h *harness) path(name ...string) string {
	return filepath.Join(append([]string{h.dir}, name...)...)
}

// state is everything a guest can be shown.
type state struct {
	Containers map[string]containerState
	Images     map[string]registry.Image
}

type containerState struct {
	Config  map[string]string
	Devices map[string]map[string]string
}

func stateOf(reg *registry.Registry) state {
	s := state{Containers: make(map[string]containerState), Images: make(map[string]registry.Image)}
	for _, c := range reg.Containers() {
		s.Containers[c.Name()] = stateOfContainer(c)
	}
	for _, i := range reg.Images() {
		s.Images[i.Fingerprint] = *i
	}
	return s
}

func stateOfContainer(c *registry.Container) containerState {
	s := containerState{Config: make(map[string]string), Devices: make(map[string]map[string]string)}
	for _, e := range c.Snapshot().Config() {
		s.Config[e.Key] = string(e.Value())
	}
	for _, d := range c.Snapshot().Devices() {
		s.Devices[d.Name] = make(map[string]string)
		for _, kv := range d.Config {
			s.Devices[d.Name][kv.Key] = kv.Value
		}
	}
	return s
}

func (h *harness) config(name string) map[string]string {
	h.t.Helper()
	c, ok := h.reg.Container(name)
	if !ok {
		h.t.Fatalf("container %q is not in the registry", name)
	}
	return stateOfContainer(c).Config
}

func (h *harness) wantConfig(name string, want map[string]string) {
	h.t.Helper()
	if got := h.config(name); !maps.Equal(got, want) {
		h.t.Fatalf("config of %q = %v; want %v", name, got, want)
	}
}

func (h *harness) instanceID(name string) string {
	h.t.Helper()
	c, ok := h.reg.Container(name)
	if !ok {
		h.t.Fatalf("container %q is not in the registry", name)
	}
	return c.Snapshot().InstanceID()
}

// running returns the pid that a container is bound to, 0 when it is stopped.
func (h *harness) running(name string) int {
	h.t.Helper()
	c, ok := h.reg.Container(name)
	if !ok {
		h.t.Fatalf("container %q is not in the registry", name)
	}
	if b := c.Binding(); b != nil {
		return b.InitPID()
	}
	return 0
}

// fakeBinder knows invented processes. It counts what is open, so that a test sees what was not given back.
type fakeBinder struct {
	mu       sync.Mutex
	reg      *registry.Registry
	alive    map[int]source.Facts
	requests []source.BindRequest
	open     int
	openErr  error // Open fails with it
	activate error // Activate fails with it
}

func newFakeBinder() *fakeBinder { return &fakeBinder{alive: make(map[int]source.Facts)} }

// start makes a process of this pid exist, and returns its facts. Each call is another process.
func (b *fakeBinder) start(pid int) source.Facts {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := uint64(len(b.requests)+1)<<32 + uint64(time.Now().UnixNano()) + uint64(pid)
	f := source.Facts{PID: pid, PidfdInode: n, BootID: "boot", CgroupID: n, PidNSIno: n, RootUID: 100000}
	b.alive[pid] = f
	return f
}

func (b *fakeBinder) exit(pid int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.alive, pid)
}

func (b *fakeBinder) use(reg *registry.Registry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reg = reg
}

// forget drops what was open in a daemon that has ended.
func (b *fakeBinder) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = 0
}

func (b *fakeBinder) opened() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open
}

func (b *fakeBinder) fail(open, activate error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.openErr, b.activate = open, activate
}

func (b *fakeBinder) last() source.BindRequest {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.requests[len(b.requests)-1]
}

func (b *fakeBinder) Open(req source.BindRequest) (source.Process, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests = append(b.requests, req)
	if b.openErr != nil {
		return nil, b.openErr
	}
	f, ok := b.alive[req.PID]
	if !ok {
		return nil, fmt.Errorf("pid %d: %w", req.PID, source.ErrNoProcess)
	}
	b.open++
	return &fakeProcess{binder: b, facts: f}, nil
}

type fakeProcess struct {
	binder *fakeBinder
	facts  source.Facts
	given  bool // to the binding, or back
}

func (p *fakeProcess) Facts() source.Facts { return p.facts }

func (p *fakeProcess) Activate(name string) error {
	p.binder.mu.Lock()
	reg, err := p.binder.reg, p.binder.activate
	p.binder.mu.Unlock()
	if err != nil {
		return err
	}
	_, err = reg.Bind(name, registry.Identity{
		InitPID: p.facts.PID, CgroupID: p.facts.CgroupID, PidNSDev: 4, PidNSIno: p.facts.PidNSIno, RootUID: p.facts.RootUID, Release: p.release,
	})
	p.given = p.given || err == nil
	return err
}

func (p *fakeProcess) Close() error {
	if !p.given {
		p.given = true
		p.release()
	}
	return nil
}

func (p *fakeProcess) release() {
	p.binder.mu.Lock()
	defer p.binder.mu.Unlock()
	p.binder.open--
}

// logs keeps what was logged, a line each.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Enabled(context.Context, slog.Level) bool { return true }

func (l *logs) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(&l.text, "%s %s", r.Level, r.Message)
	r.Attrs(func(a slog.Attr) bool { fmt.Fprintf(&l.text, " %s", a); return true })
	l.text.WriteByte('\n')
	return nil
}

func (l *logs) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *logs) WithGroup(string) slog.Handler      { return l }

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
