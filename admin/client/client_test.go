package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"devlxd/admin"
	"devlxd/admin/client"
	"devlxd/api"
	"devlxd/api/apitest"
	"devlxd/registry"
	"devlxd/source"
	"devlxd/source/store"
)

// documented holds every answer of the tests against the document of the API.
var documented = apitest.Must(api.Admin, "socket")

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}

// binder opens any pid, without asking the kernel.
type binder struct{ reg *registry.Registry }

type process struct {
	binder
	pid int
}

func (b binder) Open(req source.BindRequest) (source.Process, error) {
	if req.PID == 404 {
		return nil, source.ErrNoProcess
	}
	return &process{b, req.PID}, nil
}

func (p *process) Facts() source.Facts {
	return source.Facts{PID: p.pid, PidfdInode: uint64(p.pid), BootID: "boot"}
}
func (p *process) Close() error { return nil }

func (p *process) Activate(name string) error {
	_, err := p.reg.Bind(name, registry.Identity{InitPID: p.pid, CgroupID: uint64(p.pid) + 1000, PidNSIno: uint64(p.pid)})
	return err
}

// daemon is an admin server on an embedded store.
type daemon struct {
	*client.Client
	socket string
	reg    *registry.Registry
	server *admin.Server
}

func start(t *testing.T) *daemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "client")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &daemon{reg: registry.New(registry.Options{}), socket: filepath.Join(dir, admin.SocketName)}
	d.Client = client.InRunDir(dir)
	s, err := store.Open(filepath.Join(dir, "state"), d.reg, binder{d.reg}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	d.server = admin.New(admin.Options{Registry: d.reg, Writer: s})
	ln, err := admin.Listen(d.socket)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- d.server.Serve(documented.Tap(ln, "socket")) }()
	t.Cleanup(func() {
		d.shutdown(t)
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		for _, err := range documented.Failures() {
			t.Error(err)
		}
	})
	return d
}

func (d *daemon) shutdown(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if err := d.server.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func context10s(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// must stops the test at the first error.
func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s = %+v; want %+v", what, got, want)
	}
}

func TestContainers(t *testing.T) {
	d, ctx := start(t), context10s(t)
	uid := uint32(100000)
	must(t,
		d.AddContainer(ctx, admin.ContainersPost{Name: "c2", PID: 42, Config: map[string]string{"user.a": "<ü>\n"}}),
		d.AddContainer(ctx, admin.ContainersPost{Name: "c1", RootUID: &uid, Cgroup: "/x", Devices: map[string]map[string]string{"root": {"type": "disk"}}}),
		d.Bind(ctx, "c1", admin.BindPost{PID: 43}),
	)
	names, err := d.ContainerNames(ctx)
	must(t, err)
	same(t, "names", names, []string{"c1", "c2"})
	list, err := d.Containers(ctx)
	must(t, err)
	if len(list) != 2 || list[0].Name != "c1" || list[1].State == nil || list[1].State.PID != 42 || list[1].Config != nil {
		t.Errorf("list = %+v; want c1 and c2, a running summary", list)
	}
	c, err := d.Container(ctx, "c2")
	must(t, err)
	same(t, "config of c2", c.Config, map[string]string{"user.a": "<ü>\n"})
	must(t, d.RemoveContainer(ctx, "c1"))
	if _, err := d.Container(ctx, "c1"); !client.IsNotFound(err) {
		t.Errorf("removed container: %v; want not found", err)
	}
	status, err := d.Status(ctx)
	must(t, err)
	same(t, "containers in status", []int{status.Containers, status.Bound}, []int{1, 1})
	info, err := d.Server(ctx)
	must(t, err)
	same(t, "API version", info.APIVersion, "1.0")
}

func TestConfigAndDevices(t *testing.T) {
	d, ctx := start(t), context10s(t)
	must(t,
		d.AddContainer(ctx, admin.ContainersPost{Name: "c1"}),
		d.UpdateConfig(ctx, "c1", admin.Change{Set: map[string]string{"user.a": "1", "user.b": "2"}}),
		d.UpdateConfig(ctx, "c1", admin.Change{Set: map[string]string{"user.c": "3"}, Unset: []string{"user.a"}}),
		d.AddDevice(ctx, "c1", "eth0", map[string]string{"type": "nic", "mtu": "1"}),
		d.AddDevice(ctx, "c1", "root", map[string]string{"type": "disk"}),
		d.SetDevice(ctx, "c1", "eth0", admin.Change{Set: map[string]string{"name": "x"}, Unset: []string{"mtu"}}),
		d.RemoveDevice(ctx, "c1", "root"),
	)
	config, err := d.Config(ctx, "c1")
	must(t, err)
	same(t, "config", config, map[string]string{"user.b": "2", "user.c": "3"})
	devices, err := d.Devices(ctx, "c1")
	must(t, err)
	same(t, "devices", devices, map[string]map[string]string{"eth0": {"type": "nic", "name": "x"}})
}

func TestErrors(t *testing.T) {
	d, ctx := start(t), context10s(t)
	must(t, d.AddContainer(ctx, admin.ContainersPost{Name: "c1", PID: 42}))
	for name, c := range map[string]struct {
		err  error
		code int
		text string
	}{
		"exists":    {d.AddContainer(ctx, admin.ContainersPost{Name: "c1"}), 409, `container "c1" already exists: remove it first, or use another name`},
		"name":      {d.AddContainer(ctx, admin.ContainersPost{Name: "a/b"}), 400, `invalid container name "a/b": `},
		"running":   {d.Bind(ctx, "c1", admin.BindPost{PID: 42}), 409, `runs already with pid 42`},
		"no pid":    {d.AddContainer(ctx, admin.ContainersPost{Name: "c2", PID: 404}), 400, `no such process`},
		"key":       {d.UpdateConfig(ctx, "c1", admin.Change{Set: map[string]string{"x": "1"}}), 400, `invalid config key "x"`},
		"too large": {d.UpdateConfig(ctx, "c1", admin.Change{Set: map[string]string{"user.x": strings.Repeat("v", 2<<20)}}), 413, `is too large`},
		"no device": {d.RemoveDevice(ctx, "c1", "eth0"), 404, `device "eth0" not found: `},
		"odd name":  {d.RemoveContainer(ctx, "../c1?x#y"), 404, `container "../c1?x#y" not found: `},
		"no image":  {d.RemoveImage(ctx, "abcd"), 404, `image "abcd" not found: `},
		"no format": {importing(d, ctx, "text"), 400, `invalid image: no known format`},
	} {
		var e *client.Error
		if !errors.As(c.err, &e) || e.Code != c.code || !strings.Contains(e.Text, c.text) || strings.Contains(e.Text, "\n") {
			t.Errorf("%s: %v; want one line with code %d and %q", name, c.err, c.code, c.text)
		}
	}
	if err := d.UpdateConfig(ctx, "c1", admin.Change{Set: map[string]string{"user.a": "\xff"}}); !errors.Is(err, client.ErrText) {
		t.Errorf("binary value: %v; want %v", err, client.ErrText)
	}
	if err := d.RemoveContainer(ctx, ""); !errors.Is(err, client.ErrEmptyName) {
		t.Errorf("empty name: %v; want %v", err, client.ErrEmptyName)
	}
}

func importing(d *daemon, ctx context.Context, content string) error {
	_, err := d.ImportImage(ctx, strings.NewReader(content), nil, client.ImageOptions{})
	return err
}

// tarball begins like one.
func tarball(n int) []byte { return append([]byte{0x1f, 0x8b}, make([]byte, n)...) }

func TestImages(t *testing.T) {
	d, ctx := start(t), context10s(t)
	file := filepath.Join(t.TempDir(), "image")
	must(t, os.WriteFile(file, tarball(5000), 0o600))
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	unified, err := d.ImportImage(ctx, f, nil, client.ImageOptions{Public: true})
	must(t, err)
	split, err := d.ImportImage(ctx, bytes.NewReader(tarball(10)), bytes.NewReader(append([]byte("hsqs"), make([]byte, 1<<20)...)),
		client.ImageOptions{Cached: true, Type: "container"})
	must(t, err)
	same(t, "unified", []any{unified.Size, unified.Public, unified.Cached, unified.Split}, []any{int64(5002), true, false, false})
	same(t, "split", []any{split.Size, split.RootfsSize, split.Cached, split.Split}, []any{int64(12), int64(1<<20 + 4), true, true})
	list, err := d.Images(ctx)
	must(t, err)
	if len(list) != 2 {
		t.Errorf("%d images; want 2", len(list))
	}
	one, err := d.Image(ctx, split.Fingerprint[:12])
	must(t, err)
	same(t, "image by its first digits", one, split)
	must(t, d.RemoveImage(ctx, split.Fingerprint[:12]), d.RemoveImage(ctx, unified.Fingerprint))
}

// endless never ends, and fails when told to.
type endless struct{ fail error }

func (e endless) Read(p []byte) (int, error) { return len(p), e.fail }

// TestImportRefusedInTheMiddle: the daemon's reason arrives, not a broken pipe.
func TestImportRefusedInTheMiddle(t *testing.T) {
	d, ctx := start(t), context10s(t)
	for range 20 {
		_, err := d.ImportImage(ctx, endless{}, nil, client.ImageOptions{Type: "vm"})
		var e *client.Error
		if !errors.As(err, &e) || e.Code != 400 || !strings.Contains(e.Text, `invalid image type "vm"`) {
			t.Fatalf("import = %v; want the daemon's refusal", err)
		}
	}
}

func TestImportOfAnUnreadableFile(t *testing.T) {
	d, ctx := start(t), context10s(t)
	cause := errors.New("disk on fire")
	if _, err := d.ImportImage(ctx, endless{cause}, nil, client.ImageOptions{}); !errors.Is(err, cause) {
		t.Errorf("unified import = %v; want %v", err, cause)
	}
	if _, err := d.ImportImage(ctx, bytes.NewReader(tarball(1)), endless{cause}, client.ImageOptions{}); !errors.Is(err, cause) {
		t.Errorf("split import = %v; want %v", err, cause)
	}
	if n := len(d.reg.Images()); n != 0 {
		t.Errorf("%d images; want 0", n)
	}
}

func TestMonitor(t *testing.T) {
	d, ctx := start(t), context10s(t)
	must(t, d.AddContainer(ctx, admin.ContainersPost{Name: "c1", PID: 42}))
	s, err := d.Monitor(ctx, "c1", client.MonitorOptions{Types: []string{"config"}, Position: true})
	must(t, err)
	defer s.Close()
	must(t,
		d.AddDevice(ctx, "c1", "eth0", map[string]string{"type": "nic"}),
		d.UpdateConfig(ctx, "c1", admin.Change{Set: map[string]string{"user.a": "1"}}),
	)
	var event struct {
		Type, Position string
		Metadata       struct{ Key, Value string }
	}
	line, err := s.Next()
	must(t, err, json.Unmarshal(line, &event))
	same(t, "event", []string{event.Type, event.Metadata.Key, event.Metadata.Value}, []string{"config", "user.a", "1"})
	same(t, "epochs", event.Position[:16], s.Position()[:16])
	again, err := d.Monitor(ctx, "c1", client.MonitorOptions{Since: s.Position()})
	must(t, err)
	defer again.Close()
	line, err = again.Next()
	must(t, err)
	if !bytes.Contains(line, []byte(`"name":"eth0"`)) {
		t.Errorf("first event since the start = %.80s; want that of eth0", line)
	}
	must(t, d.UpdateConfig(ctx, "c1", admin.Change{Set: map[string]string{"user.a": strings.Repeat("\x01", 1<<20)}}))
	if line, err = s.Next(); err != nil || len(line) < 6<<20 {
		t.Fatalf("largest event: %d bytes, %v; want 6 MiB", len(line), err)
	}
	must(t, d.RemoveContainer(ctx, "c1"))
	if line, err := s.Next(); err != io.EOF {
		t.Errorf("after the container stopped: %q, %v; want io.EOF", line, err)
	}
}

func TestMonitorEnds(t *testing.T) {
	d, ctx := start(t), context10s(t)
	var e *client.Error
	if _, err := d.Monitor(ctx, "c1", client.MonitorOptions{}); !client.IsNotFound(err) {
		t.Errorf("Monitor of nothing = %v; want not found", err)
	}
	must(t, d.AddContainer(ctx, admin.ContainersPost{Name: "c1"}))
	if _, err := d.Monitor(ctx, "c1", client.MonitorOptions{}); !errors.As(err, &e) || e.Code != 409 {
		t.Errorf("Monitor of a stopped container = %v; want 409", err)
	}
	must(t, d.Bind(ctx, "c1", admin.BindPost{PID: 42}))
	cancelled, cancel := context.WithCancel(ctx)
	mine, err := d.Monitor(cancelled, "c1", client.MonitorOptions{})
	must(t, err)
	defer mine.Close()
	theirs, err := d.Monitor(ctx, "c1", client.MonitorOptions{})
	must(t, err)
	defer theirs.Close()
	cancel()
	if _, err := mine.Next(); err != context.Canceled {
		t.Errorf("Next after cancel = %v; want %v", err, context.Canceled)
	}
	d.shutdown(t)
	if _, err := theirs.Next(); !errors.As(err, &e) || e.Code != 503 {
		t.Errorf("Next after the daemon's shutdown = %v; want 503", err)
	}
}

func TestUnreachable(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead", admin.SocketName)
	must(t, os.Mkdir(filepath.Dir(dead), 0o755))
	ln, err := net.Listen("unix", dead)
	must(t, err)
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	must(t, ln.Close())
	file := filepath.Join(dir, "file", admin.SocketName)
	must(t, os.Mkdir(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o600))
	start := "is it running? start it with 'devlxd serve' or name another directory with --run-dir"
	for name, c := range map[string]struct{ socket, advice string }{
		"no directory": {filepath.Join(dir, "none", admin.SocketName), start},
		"dead socket":  {dead, start},
		"not a socket": {file, start},
		"long path":    {filepath.Join(dir, strings.Repeat("d", 200), admin.SocketName), "path is too long for a socket"},
	} {
		_, err := client.InRunDir(filepath.Dir(c.socket)).Status(context10s(t))
		if want := "cannot reach devlxd at " + c.socket + ": " + c.advice; !errors.Is(err, client.ErrUnreachable) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v; want %s", name, err, want)
		}
	}
}

// TestStrangers: programs that own the socket but are not devlxd.
func TestStrangers(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		want   error
	}{
		"closes":       {"", client.ErrBroken},
		"not HTTP":     {"220 smtp ready\r\n", client.ErrBroken},
		"not JSON":     {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", client.ErrAnswer},
		"other JSON":   {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", client.ErrAnswer},
		"other type":   {"HTTP/1.1 200 OK\r\nContent-Length: 29\r\n\r\n{\"type\":\"sync\",\"metadata\":[]}", client.ErrAnswer},
		"cut short":    {"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n{", client.ErrBroken},
		"never answer": {"...", context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "s")
			ln, err := net.Listen("unix", socket)
			must(t, err)
			defer ln.Close()
			done := make(chan struct{})
			defer func() { <-done }()
			ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
			defer cancel()
			go func() {
				defer close(done)
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				_, _ = conn.Read(make([]byte, 4096))
				if c.answer == "..." {
					<-ctx.Done()
					return
				}
				_, _ = io.WriteString(conn, c.answer)
			}()
			if c.answer == "..." {
				var stop context.CancelFunc
				ctx, stop = context.WithTimeout(ctx, 20*time.Millisecond)
				defer stop()
			}
			if _, err := client.New(socket).Status(ctx); !errors.Is(err, c.want) {
				t.Errorf("Status = %v; want %v", err, c.want)
			}
		})
	}
}
