package admin_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"devlxd/admin"
)

func TestInfoAndStatus(t *testing.T) {
	want := admin.Status{
		Version: "1.2.3", PID: 7, Started: time.Unix(1700000000, 0).UTC(), Uptime: 60, Dialect: "lxd",
		RunDir: "/run/devlxd", StateDir: "/var/lib/devlxd", GuestSocket: "/run/devlxd/guest/sock",
		Identity: admin.Identity{Level: "info-exit", Checks: []admin.Check{{Name: "cgroup2", OK: true, Detail: "/sys/fs/cgroup"}}},
		Loops:    2, LoopConnections: []int{3, 4}, Connections: 7, Containers: 2, Bound: 1,
	}
	f := start(t, func(_ *fixture, o *admin.Options) { o.Status = func() admin.Status { return want } })
	step{"GET", "/1.0", "", 200, ok(`{"api_status":"stable","api_version":"1.0","auth":"trusted","public":false,"environment":{"server":"devlxd",` +
		`"server_version":"1.2.3","server_pid":7,"dialect":"lxd","run_dir":"/run/devlxd","state_dir":"/var/lib/devlxd","identity_level":"info-exit"}}`), ""}.run(f)
	_, body := f.ask("GET", "/1.0/status", "")
	var envelope admin.Response
	var got admin.Status
	if err := json.Unmarshal([]byte(body), &envelope); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(envelope.Metadata, &got); err != nil {
		t.Fatal(err)
	}
	want.Ready = true // there is no Options.Ready
	want.Health = admin.Health{State: admin.HealthOK, Reasons: []admin.HealthReason{}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("status = %+v\nwant %+v", got, want)
	}
}

func TestStatusOfTheRegistry(t *testing.T) {
	f := start(t, func(_ *fixture, o *admin.Options) { o.Ready = func() bool { return false } })
	f.add("c1+", "c2", "c3+")
	_, body := f.ask("GET", "/1.0/status", "")
	for _, want := range []string{`"containers":3,`, `"bound":2,`, `"ready":false,`} {
		if !strings.Contains(body, want) {
			t.Errorf("status %s lacks %s", body, want)
		}
	}
}

// TestHealthAndMetrics: both listeners give the same answers.
func TestHealthAndMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "devlxd_test_total", Help: "Tests."})
	reg.MustRegister(counter)
	counter.Add(3)
	var ready atomic.Bool
	f := start(t, func(_ *fixture, o *admin.Options) { o.Gatherer, o.Ready = reg, ready.Load })
	tcp := f.serveMetrics()
	for _, c := range []struct {
		path  string
		ready bool
		code  int
		kind  string
		body  string
	}{
		{"/healthz", false, 200, "text/plain; charset=utf-8", "ok\n"},
		{"/readyz", false, 503, "text/plain; charset=utf-8", "not ready: containers are being loaded, or the server is ending\n"},
		{"/readyz", true, 200, "text/plain; charset=utf-8", "ready\n"},
		{"/healthz", true, 200, "text/plain; charset=utf-8", "ok\n"},
		{"/readyz", false, 503, "text/plain; charset=utf-8", "not ready: containers are being loaded, or the server is ending\n"},
		{"/metrics", true, 200, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
			"# HELP devlxd_test_total Tests.\n# TYPE devlxd_test_total counter\ndevlxd_test_total 3\n"},
	} {
		ready.Store(c.ready)
		for where, get := range map[string]func(string) (*http.Response, error){
			"unix": func(path string) (*http.Response, error) { return f.client().Get("http://devlxd" + path) },
			"tcp":  func(path string) (*http.Response, error) { return http.Get("http://" + tcp + path) },
		} {
			resp, err := get(c.path)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != c.code || string(body) != c.body || resp.Header.Get("Content-Type") != c.kind {
				t.Errorf("%s %s = %d %s %q; want %d %s %q", where, c.path, resp.StatusCode, resp.Header.Get("Content-Type"), body, c.code, c.kind, c.body)
			}
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// serveMetrics serves the second listener on loopback and returns its address.
func (f *fixture) serveMetrics() string {
	f.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	go func() {
		if err := f.server.ServeMetrics(documented.Tap(ln, "metrics")); err != nil {
			f.Errorf("ServeMetrics: %v", err)
		}
	}()
	return ln.Addr().String()
}

func TestMetricsListenerHasNothingElse(t *testing.T) {
	f := start(t, nil)
	f.add("c1")
	tcp := f.serveMetrics()
	for _, c := range []struct {
		method, path string
		code         int
	}{
		{"GET", "/", 404}, {"GET", "/1.0", 404}, {"GET", "/1.0/containers", 404}, {"DELETE", "/1.0/containers/c1", 404},
		{"GET", "/1.0/../metrics", 404}, {"POST", "/metrics", 405}, {"DELETE", "/healthz", 405}, {"HEAD", "/healthz", 200}, {"HEAD", "/readyz", 200},
		{"GET", "/metrics", 404}, // no gatherer
	} {
		req, _ := http.NewRequest(c.method, "http://"+tcp+c.path, nil)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.code || strings.Contains(string(body), "c1") {
			t.Errorf("%s %s = %d %q; want %d", c.method, c.path, resp.StatusCode, body, c.code)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	if f.reg.Len() != 1 {
		t.Error("a container was removed over the metrics listener")
	}
}
