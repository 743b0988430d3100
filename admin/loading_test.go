package admin_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"devlxd/admin"
)

// loadingText is what a request that comes too early is answered with.
const loadingText = "devlxd is still loading its containers and images: try again when GET /readyz answers 200"

// TestLoading: before the registry is filled there are health, metrics and the
// state of the daemon. Of what is in the registry by then, nothing is shown.
func TestLoading(t *testing.T) {
	f := start(t, func(_ *fixture, o *admin.Options) {
		o.Loading, o.Gatherer = true, prometheus.NewRegistry()
	})
	f.add("early+")
	tcp := f.serveMetrics()
	health := func(ready int) {
		t.Helper()
		for path, want := range map[string]int{"/healthz": 200, "/readyz": ready, "/metrics": 200} {
			resp, err := http.Get("http://" + tcp + path)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if got, _ := f.ask("GET", path, ""); got.StatusCode != want || resp.StatusCode != want {
				t.Errorf("%s = %d on the admin socket and %d on the metrics listener; want %d", path, got.StatusCode, resp.StatusCode, want)
			}
		}
		http.DefaultClient.CloseIdleConnections()
	}
	health(503)
	for path, want := range map[string]string{"/1.0": `"auth":"trusted"`, "/1.0/status": `"ready":false`, "/": `["/1.0"]`} {
		if resp, body := f.ask("GET", path, ""); resp.StatusCode != 200 || !strings.Contains(body, want) {
			t.Errorf("GET %s = %d %s; want 200 and %s", path, resp.StatusCode, body, want)
		}
	}
	early := []step{
		{"GET", "/1.0/containers", "", 503, "", ""}, {"POST", "/1.0/containers", `{"name":"c1"}`, 503, "", ""},
		{"GET", "/1.0/containers/early", "", 503, "", ""}, {"DELETE", "/1.0/containers/early", "", 503, "", ""},
		{"POST", "/1.0/containers/early/bind", `{"pid":1}`, 503, "", ""},
		{"GET", "/1.0/containers/early/config", "", 503, "", ""}, {"PATCH", "/1.0/containers/early/config", `{"set":{"user.a":"1"}}`, 503, "", ""},
		{"GET", "/1.0/containers/early/devices", "", 503, "", ""}, {"POST", "/1.0/containers/early/devices", `{}`, 503, "", ""},
		{"GET", "/1.0/containers/early/devices/d", "", 503, "", ""}, {"PUT", "/1.0/containers/early/devices/d", `{}`, 503, "", ""},
		{"PATCH", "/1.0/containers/early/devices/d", `{}`, 503, "", ""}, {"DELETE", "/1.0/containers/early/devices/d", "", 503, "", ""},
		{"GET", "/1.0/containers/early/events", "", 503, "", ""},
		{"GET", "/1.0/top", "", 503, "", ""},
		{"GET", "/1.0/images", "", 503, "", ""}, {"POST", "/1.0/images", "x", 503, "", ""},
		{"GET", "/1.0/images/abcd", "", 503, "", ""}, {"DELETE", "/1.0/images/abcd", "", 503, "", ""},
	}
	for _, s := range early {
		s.want = failed(503, loadingText)
		s.run(f)
	}
	if f.reg.Len() != 1 {
		t.Errorf("%d containers; want the one of the beginning", f.reg.Len())
	}
	f.server.Loaded(f.writer)
	health(200)
	if resp, body := f.ask("GET", "/1.0/containers", ""); resp.StatusCode != 200 || !strings.Contains(body, "early") {
		t.Errorf("loaded: the list is %d %s", resp.StatusCode, body)
	}
	if resp, body := f.ask("POST", "/1.0/containers", `{"name":"c1"}`); resp.StatusCode != 201 {
		t.Errorf("loaded: adding a container = %d %s", resp.StatusCode, body)
	}
}

// TestLoadedToBeRead: a source that takes no changes is told from one that is
// not there yet.
func TestLoadedToBeRead(t *testing.T) {
	f := start(t, func(_ *fixture, o *admin.Options) { o.Loading, o.Writer = true, nil })
	add := step{"POST", "/1.0/containers", `{"name":"c1"}`, 503, failed(503, loadingText), ""}
	add.run(f)
	f.server.Loaded(nil)
	add.code, add.want = 403, failed(403, "containers come from a source that devlxd only reads: make the change there")
	add.run(f)
}
