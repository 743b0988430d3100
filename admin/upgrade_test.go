package admin_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"devlxd/admin"
	"devlxd/source"
)

const configPath = "/1.0/containers/c1/config"

// kept is a connection that is used for several requests.
type kept struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func (f *fixture) keep() *kept {
	f.Helper()
	conn, err := net.Dial("unix", f.socket)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
	return &kept{conn, f.T, bufio.NewReader(conn)}
}

func (k *kept) send(method, path, body string) {
	k.t.Helper()
	if _, err := fmt.Fprintf(k, "%s %s HTTP/1.1\r\nHost: devlxd\r\nContent-Length: %d\r\n\r\n%s", method, path, len(body), body); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kept) answer() (*http.Response, string) {
	k.t.Helper()
	resp, err := http.ReadResponse(k.r, nil)
	if err != nil {
		k.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		k.t.Fatal(err)
	}
	return resp, string(body)
}

func set(value string) string { return `{"set":{"user.a":"` + value + `"}}` }

func (f *fixture) value(name, key string) string {
	c, ok := f.reg.Container(name)
	if !ok {
		return ""
	}
	value, _ := c.Snapshot().Value(key)
	return string(value)
}

// TestFreezeAndThaw: while the server is frozen reads are answered and changes wait; then they are made.
func TestFreezeAndThaw(t *testing.T) {
	f := start(t, nil)
	f.add("c1")
	if err := f.server.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.server.Freeze(t.Context()); err == nil {
		t.Error("it was frozen twice")
	}
	k := f.keep()
	k.send("PATCH", configPath, set("1"))
	if resp, _ := f.ask("GET", configPath, ""); resp.StatusCode != 200 {
		t.Errorf("a read = %s", resp.Status)
	}
	if got := f.value("c1", "user.a"); got != "" {
		t.Errorf("changed to %q while frozen", got)
	}
	f.server.Thaw()
	if resp, body := k.answer(); resp.StatusCode != 200 || resp.Close {
		t.Errorf("the change that waited = %s %s", resp.Status, body)
	}
	if got := f.value("c1", "user.a"); got != "1" {
		t.Errorf("the value is %q", got)
	}
}

// TestFreezeWaitsForChanges: a change that takes long is waited for, and then not any more.
func TestFreezeWaitsForChanges(t *testing.T) {
	f := start(t, nil)
	f.add("c1")
	k := f.keep()
	if _, err := io.WriteString(k, "POST /1.0/images HTTP/1.1\r\nHost: devlxd\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("x", 9000)); err != nil {
		t.Fatal(err)
	}
	f.writer.reading.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := f.server.Freeze(ctx); err == nil || !strings.Contains(err.Error(), "a change takes long") {
		t.Errorf("Freeze = %v", err)
	}
	frozen := make(chan error, 1)
	go func() { frozen <- f.server.Freeze(context.Background()) }()
	if _, err := io.WriteString(k, strings.Repeat("x", 91000)); err != nil {
		t.Fatal(err)
	}
	if resp, body := k.answer(); resp.StatusCode != 201 {
		t.Errorf("the import = %s %s", resp.Status, body)
	}
	if err := <-frozen; err != nil {
		t.Errorf("Freeze after it = %v", err)
	}
	f.server.Thaw()
}

// TestRetire: what waited, and what comes on connections that are open, is answered by the successor, once and with the end of the
// connection; new connections are the successor's.
func TestRetire(t *testing.T) {
	f := start(t, func(_ *fixture, o *admin.Options) { o.Loading = false })
	f.add("c1+")
	next := start(t, nil)
	next.add("c1")
	waiting, idle, silent, monitor := f.keep(), f.keep(), f.keep(), f.keep()
	idle.send("GET", "/1.0", "")
	idle.answer()
	monitor.send("GET", "/1.0/containers/c1/events", "")
	if _, err := monitor.r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := f.server.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	waiting.send("PATCH", configPath, set("1"))
	retired := make(chan struct{})
	go func() {
		defer close(retired)
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		defer cancel()
		f.server.Retire(ctx, next.socket)
	}()
	answered := func(k *kept, status int, text string) {
		t.Helper()
		resp, body := k.answer()
		if resp.StatusCode != status || !strings.Contains(body, text) || !resp.Close {
			t.Errorf("%s %s; want %d, %q and the end", resp.Status, body, status, text)
		}
	}
	answered(waiting, 200, "")
	idle.send("PATCH", configPath, set("2"))
	answered(idle, 200, "")
	silent.send("POST", "/1.0/containers", `{"name":"c1"}`)
	answered(silent, 409, "exists")
	if rest, err := io.ReadAll(monitor.r); err != nil || !strings.Contains(string(rest), "shutting down") {
		t.Errorf("the event stream ended with %q, %v", rest, err)
	}
	<-retired
	if got := next.value("c1", "user.a"); got != "2" {
		t.Errorf("the successor has %q", got)
	}
	if got := f.value("c1", "user.a"); got != "" {
		t.Errorf("the predecessor has %q", got)
	}
}

// TestKeep: a listener whose socket is another process's leaves it there, and that one takes it along.
func TestKeep(t *testing.T) {
	path := socketDir(t) + "/admin.sock"
	ln, err := admin.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	_, dev, ino := ln.Place()
	ln.Keep()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	next, err := admin.Adopt(file, path, dev, ino)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("a connect to the adopted listener: %v", err)
	}
	conn.Close()
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := admin.Adopt(r, path, 0, 0); err == nil {
		t.Error("a pipe was adopted")
	}
}

// TestUpgradeRoute: POST /1.0/upgrade says what came of it.
func TestUpgradeRoute(t *testing.T) {
	var binary string
	f := start(t, func(_ *fixture, o *admin.Options) {
		o.Upgrade = func(_ context.Context, b string) (admin.Upgraded, error) {
			if binary = b; b == "/bad" {
				return admin.Upgraded{}, fmt.Errorf("%w: no", source.ErrConflict)
			}
			return admin.Upgraded{PID: 7, Version: "2", Connections: 3, Pause: 1.5}, nil
		}
	})
	for _, tt := range []struct {
		body   string
		status int
		want   string
	}{
		{"", 200, `"metadata":{"pid":7,"version":"2","connections":3,"pause_ms":1.5}`},
		{"{}", 200, `"pid":7`},
		{`{"binary":"/bad"}`, 409, ": no"},
		{`{"binary":"bad"}`, 400, "not an absolute path"},
		{`{"binaries":"x"}`, 400, "binaries"},
	} {
		if resp, body := f.ask("POST", "/1.0/upgrade", tt.body); resp.StatusCode != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("%s = %s %s; want %d and %s", tt.body, resp.Status, body, tt.status, tt.want)
		}
	}
	if binary != "/bad" {
		t.Errorf("the binary was %q", binary)
	}
	plain := start(t, nil)
	if resp, body := plain.ask("POST", "/1.0/upgrade", ""); resp.StatusCode != 501 {
		t.Errorf("without an upgrade = %s %s", resp.Status, body)
	}
}
