package admin_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"devlxd/admin"
	"devlxd/api"
	"devlxd/api/apitest"
	"devlxd/registry"
	"devlxd/source"
)

// documented holds every answer of the tests against the document of the API.
var documented = apitest.Must(api.Admin, "socket", "metrics")

// excused are documented answers that are not seen here, with the reason.
var excused = map[string]string{
	"x-any-request 408":     "takes ten seconds",
	"x-any-request 500":     "a mistake in a handler that no operation has the status for",
	"x-any-request 503":     "a read in the moment of an upgrade: e2e.TestUpgradeUnderLoad makes them",
	"POST /1.0/upgrade 500": "a new process that fails: e2e.TestUpgradeFails makes them",
	"POST /1.0/upgrade 503": "two upgrades at once",
}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(apitest.Covered{M: m, Checker: documented, Excused: excused},
		// fasthttp keeps the current date in one goroutine that never ends, and
		// its idle workers for some seconds after the server has stopped.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}

// writer is a source that keeps containers in memory and applies changes to a
// registry as the contract says. fail is returned by every method.
type writer struct {
	reg  *registry.Registry
	mu   sync.Mutex
	spec map[string]registry.Spec
	fail error
	// got is what the last import read.
	got   [2]string
	o     source.ImageOptions
	split bool
	// discard keeps the size of an image only.
	discard bool
	size    int64
	// reading is released when an import has begun to read.
	reading sync.WaitGroup
	begun   sync.Once
	// panics makes every method panic.
	panics bool
}

var _ source.Writer = (*writer)(nil)

func (w *writer) enter() error {
	w.mu.Lock()
	if w.panics {
		w.mu.Unlock()
		panic("writer is broken")
	}
	return w.fail
}

func (w *writer) AddContainer(n source.NewContainer) error {
	err := w.enter()
	defer w.mu.Unlock()
	if err == nil {
		err = n.Validate()
	}
	if err != nil {
		return err
	}
	if _, ok := w.spec[n.Name]; ok {
		return errors.Join(source.ErrExists)
	}
	spec := registry.Spec{Name: n.Name, InstanceID: "id-" + n.Name, Config: maps.Clone(n.Config), Devices: maps.Clone(n.Devices)}
	if spec.Config == nil {
		spec.Config = map[string]string{}
	}
	if spec.Devices == nil {
		spec.Devices = map[string]map[string]string{}
	}
	w.spec[n.Name] = spec
	if _, err := w.reg.Put(spec); err != nil || n.PID == 0 {
		return err
	}
	return w.bind(n.Name, source.BindRequest{PID: n.PID, Cgroup: n.Cgroup, RootUID: n.RootUID})
}

func (w *writer) RemoveContainer(name string) error {
	err := w.enter()
	defer w.mu.Unlock()
	if err != nil {
		return err
	}
	delete(w.spec, name)
	return w.reg.Remove(name)
}

func (w *writer) Bind(name string, req source.BindRequest) error {
	err := w.enter()
	defer w.mu.Unlock()
	if err == nil {
		err = req.Validate()
	}
	if err != nil {
		return err
	}
	return w.bind(name, req)
}

func (w *writer) bind(name string, req source.BindRequest) error {
	id := registry.Identity{InitPID: req.PID, CgroupID: uint64(req.PID) + 1000, PidNSDev: 4, PidNSIno: uint64(req.PID) + 2000}
	if req.RootUID != nil {
		id.RootUID = *req.RootUID
	}
	_, err := w.reg.Bind(name, id)
	if errors.Is(err, registry.ErrBound) {
		return errors.Join(source.ErrConflict, err)
	}
	return err
}

// change edits a copy of a container and publishes it.
func (w *writer) change(name string, edit func(*registry.Spec) error) error {
	err := w.enter()
	defer w.mu.Unlock()
	if err != nil {
		return err
	}
	spec, ok := w.spec[name]
	if !ok {
		return source.ErrNotFound
	}
	spec.Config = maps.Clone(spec.Config)
	devices := make(map[string]map[string]string)
	for dev, config := range spec.Devices {
		devices[dev] = maps.Clone(config)
	}
	spec.Devices = devices
	if err := edit(&spec); err != nil {
		return err
	}
	w.spec[name] = spec
	_, err = w.reg.Put(spec)
	return err
}

func (w *writer) UpdateConfig(name string, set map[string]string, unset []string) error {
	return w.change(name, func(s *registry.Spec) error {
		maps.Copy(s.Config, set)
		for _, key := range unset {
			delete(s.Config, key)
		}
		return source.ValidateConfig(s.Config)
	})
}

func (w *writer) AddDevice(name, dev string, config map[string]string) error {
	return w.change(name, func(s *registry.Spec) error {
		if _, ok := s.Devices[dev]; ok {
			return source.ErrExists
		}
		s.Devices[dev] = config
		return source.ValidateDevices(s.Devices)
	})
}

func (w *writer) SetDevice(name, dev string, set map[string]string, unset []string) error {
	return w.change(name, func(s *registry.Spec) error {
		config, ok := s.Devices[dev]
		if !ok {
			return source.ErrNotFound
		}
		maps.Copy(config, set)
		for _, key := range unset {
			delete(config, key)
		}
		return source.ValidateDevices(s.Devices)
	})
}

func (w *writer) RemoveDevice(name, dev string) error {
	return w.change(name, func(s *registry.Spec) error {
		if _, ok := s.Devices[dev]; !ok {
			return source.ErrNotFound
		}
		delete(s.Devices, dev)
		return nil
	})
}

func (w *writer) ImportImage(meta, rootfs io.Reader, o source.ImageOptions) (registry.Image, error) {
	err := w.enter()
	defer w.mu.Unlock()
	if err == nil {
		err = o.Validate()
	}
	if err != nil {
		return registry.Image{}, err
	}
	var got [2]strings.Builder
	w.o, w.split = o, rootfs != nil
	if _, err := io.CopyN(&got[0], meta, 1); err != nil {
		return registry.Image{}, err
	}
	w.begun.Do(w.reading.Done)
	if w.discard {
		n, err := io.Copy(io.Discard, meta)
		w.size = n + 1
		return registry.Image{Fingerprint: strings.Repeat("0", 64), Type: "container"}, err
	}
	if _, err := io.Copy(&got[0], meta); err != nil {
		return registry.Image{}, err
	}
	image := registry.Image{
		Fingerprint: strings.Repeat("ab12", 16), Public: o.Public, Cached: o.Cached, Type: "container",
		Path: "/images/x", Size: int64(got[0].Len()), ModTime: time.Unix(1700000000, 0).UTC(),
	}
	if rootfs != nil {
		if _, err := io.Copy(&got[1], rootfs); err != nil {
			return registry.Image{}, err
		}
		image.RootfsPath, image.RootfsSize = "/images/x.rootfs", int64(got[1].Len())
	}
	w.got = [2]string{got[0].String(), got[1].String()}
	return image, w.reg.PutImage(image)
}

func (w *writer) RemoveImage(fingerprint string) error {
	err := w.enter()
	defer w.mu.Unlock()
	if err == nil {
		err = w.reg.RemoveImage(fingerprint)
	}
	return err
}

// fixture is a server on a real socket, with a registry and a writer.
type fixture struct {
	*testing.T
	server *admin.Server
	reg    *registry.Registry
	writer *writer
	socket string

	uid           uint32        // what the server takes for its own; 0: what it is
	streamTimeout time.Duration // 0: the default
}

// start serves with the options that edit makes of the default ones.
func start(t *testing.T, edit func(f *fixture, o *admin.Options)) *fixture {
	t.Helper()
	f := &fixture{T: t, socket: filepath.Join(socketDir(t), "admin.sock")}
	f.reg = registry.New(registry.Options{RingEvents: 8, Now: func() time.Time { return time.Unix(1700000000, 0).UTC() }})
	f.writer = &writer{reg: f.reg, spec: make(map[string]registry.Spec)}
	f.writer.reading.Add(1)
	o := admin.Options{Registry: f.reg, Writer: f.writer}
	if edit != nil {
		edit(f, &o)
	}
	f.server = admin.New(o)
	if f.uid != 0 {
		f.server.SetUID(f.uid)
	}
	if f.streamTimeout != 0 {
		f.server.SetStreamTimeout(f.streamTimeout)
	}
	f.serve()
	return f
}

// serve listens and shuts down with the test.
func (f *fixture) serve() {
	f.Helper()
	ln, err := admin.Listen(f.socket)
	if err != nil {
		f.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- f.server.Serve(documented.Tap(ln, "socket")) }()
	f.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		defer cancel()
		if err := f.server.Shutdown(ctx); err != nil {
			f.Errorf("Shutdown: %v", err)
		}
		if err := <-served; err != nil {
			f.Errorf("Serve: %v", err)
		}
		for _, err := range documented.Failures() {
			f.Error(err)
		}
	})
}

// socketDir returns a directory with a short name that every uid can enter.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "admin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// add adds containers, running ones for a name with a '+' at the end.
func (f *fixture) add(names ...string) {
	f.Helper()
	for i, name := range names {
		n := source.NewContainer{Name: strings.TrimSuffix(name, "+")}
		if n.Name != name {
			n.PID = 100 + i
		}
		if err := f.writer.AddContainer(n); err != nil {
			f.Fatal(err)
		}
	}
}

// raw sends bytes on a new connection and reads one answer.
func (f *fixture) raw(request string) *http.Response {
	f.Helper()
	conn, err := net.Dial("unix", f.socket)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		f.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		f.Fatalf("no answer to %q: %v", request, err)
	}
	return resp
}

// ask makes one request with a body and returns the answer and its body.
func (f *fixture) ask(method, path, body string) (*http.Response, string) {
	f.Helper()
	request := method + " " + path + " HTTP/1.1\r\nHost: devlxd\r\nConnection: close\r\n"
	if body != "" {
		request += "Content-Length: " + itoa(len(body)) + "\r\n"
	}
	resp := f.raw(request + "\r\n" + body)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		f.Fatal(err)
	}
	return resp, string(b)
}
