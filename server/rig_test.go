package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/api/apitest"
	"devlxd/peer"
	"devlxd/registry"
	"devlxd/registry/registrytest"
)

// Names of peers that are no root of a registered container.
const (
	stranger = "stranger" // the kernel knows it, the registry does not
	nonRoot  = "nonroot"  // inside of a container, but not as its root
	broken   = "broken"   // identified as nothing at all: each handler panics
)

// rig is a server with made-up containers. A client says which container it is
// in by the abstract address that it binds its socket to.
type rig struct {
	t    testing.TB
	srv  *Server
	reg  *registry.Registry
	host registrytest.Host
	path string
	log  *logRecorder

	clock *fakeClock // nil: the time runs
	mu    sync.Mutex
	specs map[string]*specOf
	down  atomic.Bool
}

// specOf is the spec of one container; those of several are changed side by side.
type specOf struct {
	mu   sync.Mutex
	spec registry.Spec
}

// newRig runs a server that listens. The test fails when the server logs an
// error that the test did not announce.
func newRig(t testing.TB, o Options) *rig {
	t.Helper()
	r := newIdleRig(t, o)
	r.srv.Start()
	if err := r.srv.Listen(r.path); err != nil {
		t.Fatal(err)
	}
	return r
}

// newIdleRig makes a server and does not start it.
func newIdleRig(t testing.TB, o Options) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "dx")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &rig{t: t, path: filepath.Join(dir, "guest", "sock"), log: &logRecorder{}, specs: make(map[string]*specOf)}
	o.identify = identifyByName
	o.Log = slog.New(r.log)
	if o.Location == "" {
		o.Location = "host1"
	}
	for i := range o.Limits {
		if o.Limits[i] == 0 { // a test of something else
			o.Limits[i] = registry.MaxLimit
		}
	}
	if r.srv, err = New(o); err != nil {
		t.Fatal(err)
	}
	r.reg = r.srv.Registry()
	t.Cleanup(func() {
		r.shutdown(2 * time.Second)
		for _, line := range r.log.errors() {
			t.Errorf("the server logged: %s", line)
		}
	})
	return r
}

// accepting is the loop of an idle rig that listens, as Listen has it where loops run.
func (r *rig) accepting() *loop {
	r.t.Helper()
	l := r.srv.loops[0]
	_, fd, err := openSocket(r.path)
	if err != nil {
		r.t.Fatal(err)
	}
	l.listener = fd
	if err := l.poller.add(fd, pollRead); err != nil {
		r.t.Fatal(err)
	}
	return l
}

func (r *rig) shutdown(d time.Duration) error {
	if r.down.Swap(true) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return r.srv.Shutdown(ctx)
}

// container registers and binds a container.
func (r *rig) container(name string, config map[string]string) *registry.Binding {
	r.t.Helper()
	spec := registry.Spec{Name: name, Config: config}
	r.mu.Lock()
	r.specs[name] = &specOf{spec: spec}
	r.mu.Unlock()
	return r.host.Start(r.t, r.reg, spec)
}

// set changes keys of a container at once; pairs are KEY, VALUE.
func (r *rig) set(name string, pairs ...string) {
	r.t.Helper()
	r.update(name, func(s *registry.Spec) {
		s.Config = maps.Clone(s.Config)
		if s.Config == nil {
			s.Config = make(map[string]string)
		}
		for i := 0; i < len(pairs); i += 2 {
			s.Config[pairs[i]] = pairs[i+1]
		}
	})
}

func (r *rig) update(name string, change func(*registry.Spec)) {
	r.t.Helper()
	r.mu.Lock()
	of := r.specs[name]
	r.mu.Unlock()
	of.mu.Lock()
	defer of.mu.Unlock()
	change(&of.spec)
	if _, err := r.reg.Put(of.spec); err != nil {
		r.t.Fatal(err)
	}
}

// identifyByName stands for the kernel.
func identifyByName(reg *registry.Registry, fd int) (*registry.Binding, peer.Peer, peer.Reject) {
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return nil, peer.Peer{}, peer.RejectGone
	}
	address, _ := sa.(*unix.SockaddrUnix)
	_, name, _ := strings.Cut(address.Name, "#")
	switch name {
	case stranger:
		return nil, peer.Peer{PID: 1}, peer.RejectUnknown
	case nonRoot:
		return nil, peer.Peer{PID: 1, UID: 1000}, peer.RejectUID
	case broken:
		return nil, peer.Peer{}, peer.RejectNone
	}
	if c, ok := reg.Container(name); ok {
		if b := c.Binding(); b != nil {
			return b, peer.Peer{PID: 1}, peer.RejectNone
		}
	}
	return nil, peer.Peer{PID: 1}, peer.RejectUnknown
}

var addresses atomic.Uint64

// dialer connects as a process of the named container.
func dialer(name string) *net.Dialer {
	local := fmt.Sprintf("@devlxd-test-%d-%d#%s", os.Getpid(), addresses.Add(1), name)
	return &net.Dialer{LocalAddr: &net.UnixAddr{Name: local, Net: "unix"}, Timeout: 10 * time.Second}
}

// client is one connection of a guest.
type client struct {
	*net.UnixConn
	t   testing.TB
	r   *bufio.Reader
	rec *apitest.Recorder // nil: what comes is not held against the document of the API
}

// Write implements io.Writer.
func (c *client) Write(p []byte) (int, error) {
	n, err := c.UnixConn.Write(p)
	c.rec.Sent(p[:n])
	return n, err
}

// received is what the client reads from.
type received struct {
	*net.UnixConn
	rec *apitest.Recorder
}

func (r received) Read(p []byte) (int, error) {
	n, err := r.UnixConn.Read(p)
	r.rec.Received(p[:n])
	return n, err
}

// patience bounds every wait for something that must come.
const patience = 60 * time.Second

func (r *rig) dial(name string) *client {
	r.t.Helper()
	c, err := r.tryDial(name)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) tryDial(name string) (*client, error) {
	conn, err := dialer(name).Dial("unix", r.path)
	if err != nil {
		return nil, err
	}
	u := conn.(*net.UnixConn)
	var rec *apitest.Recorder
	if _, benchmark := r.t.(*testing.B); !benchmark {
		dialect := "" // any: the rig has no server of its own
		if r.srv != nil {
			dialect = r.srv.opts.Dialect.String()
		}
		rec = documented.Record(dialect)
	}
	r.t.Cleanup(func() {
		_ = u.Close()
		rec.End()
		for _, err := range documented.Failures() {
			r.t.Error(err)
		}
	})
	_ = u.SetDeadline(time.Now().Add(patience))
	return &client{UnixConn: u, t: r.t, r: bufio.NewReader(received{u, rec}), rec: rec}, nil
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatalf("cannot send %.80q: %v", text, err)
	}
}

// answer is a response as it came over the wire, but for its date.
type answer struct {
	head   string // with "Date: D"
	body   string
	status int
	fields http.Header // without Connection
	close  bool        // "Connection: close"
}

// raw is the whole response.
func (a *answer) raw() string { return a.head + a.body }

// read takes one response off the connection; method is that of the request.
func (c *client) read(method string) (*answer, error) {
	var head bytes.Buffer
	for {
		line, err := c.r.ReadString('\n')
		head.WriteString(line)
		if err != nil {
			return nil, fmt.Errorf("after %q: %w", head.String(), err)
		}
		if line == "\r\n" {
			break
		}
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.MultiReader(bytes.NewReader(head.Bytes()), c.r)), &http.Request{Method: method})
	if err != nil {
		return nil, fmt.Errorf("%q: %w", head.String(), err)
	}
	a := &answer{status: resp.StatusCode, fields: resp.Header, close: resp.Close}
	if method != "HEAD" && resp.ContentLength > 0 {
		body := make([]byte, resp.ContentLength)
		if n, err := io.ReadFull(c.r, body); err != nil {
			return nil, fmt.Errorf("body ended after %d of %d bytes: %w", n, len(body), err)
		}
		a.body = string(body)
	}
	a.head = head.String()
	if date := resp.Header.Get("Date"); date != "" {
		a.head = strings.Replace(a.head, "Date: "+date, "Date: D", 1)
	}
	return a, nil
}

func (c *client) answer(method string) *answer {
	c.t.Helper()
	a, err := c.read(method)
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

// get asks for a path and returns the answer.
func (c *client) get(path string) *answer {
	c.t.Helper()
	c.send("GET " + path + " HTTP/1.1\r\nHost: lxd\r\n\r\n")
	return c.answer("GET")
}

// rest reads until the server closes and returns what came.
func (c *client) rest() string {
	c.t.Helper()
	b, err := io.ReadAll(c.r)
	if err != nil && !errors.Is(err, unix.ECONNRESET) {
		c.t.Fatalf("waiting for the end of the connection: %v (after %q)", err, b)
	}
	return string(b)
}

// wantEOF fails unless the server closes without another byte.
func (c *client) wantEOF() {
	c.t.Helper()
	if rest := c.rest(); rest != "" {
		c.t.Fatalf("got %.200q; want the end of the connection", rest)
	}
}

// wantOpen fails if the connection no longer answers.
func (c *client) wantOpen() {
	c.t.Helper()
	c.send("OPTIONS * HTTP/1.1\r\nHost: lxd\r\n\r\n")
	if a := c.answer("OPTIONS"); a.status != 404 {
		c.t.Fatalf("status = %d; want 404", a.status)
	}
}

// eventually waits for a condition that another goroutine brings about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// closed is how often connections were closed for a reason.
func (r *rig) closed(reason CloseReason) (n uint64) {
	for _, l := range r.srv.loops {
		n += l.stats.closed[reason].Load()
	}
	return n
}

func (r *rig) wantClosed(reason CloseReason, n uint64) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("%d connections closed for %s", n, reason), func() bool { return r.closed(reason) >= n })
	if got := r.closed(reason); got != n {
		r.t.Errorf("closed for %s = %d; want %d", reason, got, n)
	}
}

// requests is how many answers of a status the route has given.
func (r *rig) requests(route route, status int) (n uint64) {
	for _, l := range r.srv.loops {
		n += l.stats.requests[route][statusIndex(status)].Load()
	}
	return n
}

// logRecorder keeps what the server logs. Safe for concurrent use.
type logRecorder struct {
	mu       sync.Mutex
	lines    []string
	failures []string
	expected string // an error that contains it is no failure
}

func (h *logRecorder) Enabled(context.Context, slog.Level) bool { return true }
func (h *logRecorder) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *logRecorder) WithGroup(string) slog.Handler            { return h }

func (h *logRecorder) Handle(_ context.Context, rec slog.Record) error {
	var b strings.Builder
	b.WriteString(rec.Message)
	rec.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, b.String())
	if rec.Level >= slog.LevelError && (h.expected == "" || !strings.Contains(b.String(), h.expected)) {
		h.failures = append(h.failures, b.String())
	}
	return nil
}

// expect announces an error.
func (h *logRecorder) expect(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expected = text
}

func (h *logRecorder) count(text string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, line := range h.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func (h *logRecorder) errors() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failures
}
