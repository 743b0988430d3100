package e2e

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"devlxd/api"
	"devlxd/api/apitest"
)

// recorded is a connection that is held against a document.
type recorded struct {
	net.Conn
	recorder *apitest.Recorder
}

func (c recorded) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.recorder.Received(p[:n])
	return n, err
}

func (c recorded) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.recorder.Sent(p[:n])
	return n, err
}

// TestAdminIsDocumented: what the real daemon says of itself and of a real container is as api/admin.yaml has it, from its start on and after
// an upgrade.
func TestAdminIsDocumented(t *testing.T) {
	d := upgradable(t)
	d.Bound("web", "user.a=1")
	checker := apitest.Must(api.Admin, "socket")
	ask := func() {
		t.Helper()
		recorder := checker.Record("socket")
		transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			conn, err := dialer.DialContext(ctx, "unix", filepath.Join(d.RunDir, "admin.sock"))
			return recorded{conn, recorder}, err
		}}
		asked := &http.Client{Transport: transport}
		for _, path := range []string{"/", "/1.0", "/1.0/status", "/1.0/health", "/1.0/log-level", "/1.0/top", "/1.0/containers", "/1.0/containers?recursion=1", "/1.0/containers/web", "/1.0/images?recursion=1",
			"/healthz", "/readyz", "/metrics", "/1.0/nope"} {
			resp, err := asked.Get("http://devlxd" + path)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.Body.Close() != nil || len(body) == 0 {
				t.Errorf("%s: %q, %v", path, body, err)
			}
		}
		transport.CloseIdleConnections()
		recorder.End()
		for _, err := range checker.Failures() {
			t.Error(err)
		}
	}
	ask()
	d.upgrade()
	ask()
	seen := 0
	for _, path := range []string{"GET /1.0/status 200", "GET /1.0/containers/{name} 200", "GET /metrics 200"} {
		if !strings.Contains(strings.Join(checker.Unseen(nil), "\n"), path+":") {
			seen++
		}
	}
	if seen != 3 {
		t.Errorf("%d answers were looked at; want those of 3 paths at least", seen)
	}
}
