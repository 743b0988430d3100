package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"devlxd/admin"
	"devlxd/admin/client"
	"devlxd/peer"
	"devlxd/registry"
	"devlxd/source"
	"devlxd/source/store"
)

// stepLog calls a function at each line of the log, on the goroutine that writes it: the daemon goes on when it returns.
type stepLog func(msg string, attrs map[string]string)

func (f stepLog) Enabled(context.Context, slog.Level) bool { return true }
func (f stepLog) WithAttrs([]slog.Attr) slog.Handler       { return f }
func (f stepLog) WithGroup(string) slog.Handler            { return f }
func (f stepLog) Handle(_ context.Context, r slog.Record) error {
	attrs := make(map[string]string)
	r.Attrs(func(a slog.Attr) bool {
		attrs[a.Key] = a.Value.String()
		return true
	})
	f(r.Message, attrs)
	return nil
}

// testConfig is a daemon in directories of its own.
func testConfig(t *testing.T, log slog.Handler) daemonConfig {
	t.Helper()
	host, err := peer.Probe(peer.Options{})
	if err != nil {
		t.Skipf("needs a kernel that can identify peers: %v", err)
	}
	_ = host.Close()
	dir, err := os.MkdirTemp("", "dx-") // short: the path of a socket has to fit into 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return daemonConfig{RunDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state"), Metrics: "127.0.0.1:0", Log: slog.New(log)}
}

// fill writes containers to the state directory.
func fill(t *testing.T, dir string, containers int) {
	t.Helper()
	s, err := store.Open(dir, registry.New(registry.Options{}), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range containers {
		if err := s.AddContainer(source.NewContainer{Name: fmt.Sprint("c", i), Config: map[string]string{"user.n": fmt.Sprint(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// code is the status of a GET, and nothing else of it.
func code(t *testing.T, c *http.Client, url string) int {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// TestHealthWhileLoading holds a daemon up right before it loads its containers: it is healthy and not ready, says so on both
// listeners, changes nothing, and has no guest socket.
func TestHealthWhileLoading(t *testing.T) {
	const containers = 300
	var cfg daemonConfig
	api := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(cfg.RunDir, "admin.sock"))
	}}}
	web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	health := func(metrics string, ready int) {
		for path, want := range map[string]int{"/healthz": 200, "/readyz": ready, "/metrics": 200} {
			if a, m := code(t, api, "http://devlxd"+path), code(t, web, "http://"+metrics+path); a != want || m != want {
				t.Errorf("%s = %d on the admin socket and %d on the metrics listener; want %d", path, a, m, want)
			}
		}
	}
	held := 0
	cfg = testConfig(t, stepLog(func(msg string, attrs map[string]string) {
		if msg != "loading" {
			return
		}
		held++
		health(attrs["metrics"], 503)
		c := client.InRunDir(cfg.RunDir)
		if status, err := c.Status(t.Context()); err != nil || status.Ready || status.Containers != 0 {
			t.Errorf("status = %+v, %v; want one that is not ready", status, err)
		}
		var refusal *client.Error
		if err := c.AddContainer(t.Context(), admin.ContainersPost{Name: "early"}); !errors.As(err, &refusal) || refusal.Code != 503 ||
			!strings.Contains(refusal.Text, "still loading") {
			t.Errorf("adding a container: %v; want 503 and why", err)
		}
		if _, err := os.Lstat(filepath.Join(cfg.RunDir, "guest", "sock")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the guest socket: %v; want none", err)
		}
	}))
	fill(t, cfg.StateDir, containers)
	d, err := startDaemon(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	health(d.MetricsAddress(), 200)
	if held != 1 || d.server.Registry().Len() != containers {
		t.Errorf("held up %d times, %d containers; want once and %d", held, d.server.Registry().Len(), containers)
	}
	status, err := client.InRunDir(cfg.RunDir).Status(t.Context())
	if err != nil || !status.Ready || status.Containers != containers || !slices.Equal(status.LoopConnections, make([]int, status.Loops)) {
		t.Errorf("status = %+v, %v; want one that is ready, and loops without connections", status, err)
	}
	if err := d.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestEndedWhileLoading: a daemon that is told to end while it loads never serves a guest, and leaves the directory to the next.
func TestEndedWhileLoading(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cfg := testConfig(t, stepLog(func(msg string, _ map[string]string) {
		if msg == "loading" {
			cancel()
		}
	}))
	if d, err := startDaemon(ctx, cfg); d != nil || !errors.Is(err, context.Canceled) {
		t.Fatalf("startDaemon = %v, %v; want %v", d, err, context.Canceled)
	}
	for _, name := range []string{"guest/sock", "admin.sock"} {
		if _, err := os.Lstat(filepath.Join(cfg.RunDir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v; want none", name, err)
		}
	}
	d, err := startDaemon(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestUnserved: a socket is taken from the dead only.
func TestUnserved(t *testing.T) {
	dir, err := os.MkdirTemp("", "dx-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	listen := func(name, network string) {
		t.Helper()
		if network == "unixgram" {
			conn, err := net.ListenUnixgram(network, &net.UnixAddr{Name: filepath.Join(dir, name), Net: network})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			return
		}
		ln, err := net.ListenUnix(network, &net.UnixAddr{Name: filepath.Join(dir, name), Net: network})
		if err != nil {
			t.Fatal(err)
		}
		if name == "dead" {
			ln.SetUnlinkOnClose(false)
			ln.Close()
			return
		}
		t.Cleanup(func() { ln.Close() })
	}
	listen("alive", "unix")
	listen("dead", "unix")
	listen("datagrams", "unixgram")
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"alive": fmt.Sprintf("another process (pid %d) answers on", os.Getpid()), "datagrams": "another process answers on",
		"dead": "", "file": "", "none": "", "file/below": "", strings.Repeat("x", 200): "",
	} {
		err := unserved(filepath.Join(dir, name))
		if (want == "") != (err == nil) || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v; want %q", name, err, want)
		}
	}
}

// TestOneDirectoryForAll: what devlxd locks in the run directory and in the state directory does not collide.
func TestOneDirectoryForAll(t *testing.T) {
	cfg := testConfig(t, slog.DiscardHandler)
	cfg.StateDir = cfg.RunDir
	d, err := startDaemon(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
