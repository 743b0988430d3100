package apitest

import (
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"devlxd/api"
)

func guestChecker(t *testing.T) *Checker {
	t.Helper()
	c, err := New(api.Guest, "document", "lxd", "incus")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func fields(pairs ...string) http.Header {
	h := http.Header{"Date": {"x"}}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

var text = []string{"Content-Type", "text/plain; charset=utf-8", "X-Content-Type-Options", "nosniff"}

// TestWrongAnswersAreRefused starts from answers as the servers give them, and changes one thing of each at a time.
func TestWrongAnswersAreRefused(t *testing.T) {
	event := `{"type":"config","timestamp":"2026-03-01T12:00:00Z","metadata":{"key":"user.a","old_value":"","value":"1"}}` + "\n"
	good := map[string]Exchange{
		"value":  {Method: "GET", Target: "/1.0/config/user.a", Status: 200, Header: fields("Content-Type", "application/octet-stream"), Body: []byte("\xff")},
		"api":    {Method: "GET", Target: "/1.0", Status: 200, Header: fields("Content-Type", "application/json"), Body: []byte(`{"api_version":"1.0"}` + "\n")},
		"absent": {Method: "GET", Target: "/1.0/config/user.a", Status: 404, Header: fields(text...), Body: []byte("not found\n")},
		"stream": {Method: "GET", Target: "/1.0/events", Status: 200, Header: fields("Content-Type", "application/json", "X-Content-Type-Options", "nosniff"), Body: []byte(event)},
		"method": {Method: "POST", Target: "/1.0/config", Status: 405, Header: fields(append(text, "Allow", "GET, HEAD")...), Body: []byte("method \"POST\" not allowed\n")},
		"path":   {Method: "GET", Target: "/nope", Status: 404, Header: fields(text...), Body: []byte("404 page not found\n")},
		"state":  {Method: "PATCH", Target: "/1.0", RequestBody: []byte(`{"state":"Ready"}`), Status: 200, Header: fields("Content-Type", "application/octet-stream")},
		"image": {Method: "GET", Target: "/1.0/images/ab/export", Status: 404, Header: fields("Content-Type", "application/json"),
			Body: []byte(`{"type":"error","status":"","status_code":0,"operation":"","error_code":404,"error":"not found","metadata":null}` + "\n")},
	}
	c := guestChecker(t)
	for name, x := range good {
		if err := c.Check("document", x); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	body := func(text string) func(*Exchange) { return func(x *Exchange) { x.Body = []byte(text) } }
	header := func(name, value string) func(*Exchange) {
		return func(x *Exchange) {
			x.Header = maps.Clone(x.Header)
			x.Header.Set(name, value)
			if value == "" {
				x.Header.Del(name)
			}
		}
	}
	for _, tc := range []struct {
		of     string
		change func(*Exchange)
		want   error
	}{
		{"value", func(x *Exchange) { x.Status = 201 }, ErrStatus},
		{"value", func(x *Exchange) { x.Status = 429 }, ErrStatus},
		{"value", func(x *Exchange) { x.Target = "/1.0/config" }, ErrContent},
		{"value", func(x *Exchange) { x.Target = "/1.0/configuration/user.a" }, ErrStatus},
		{"value", header("X-Lxd-Owner", "web"), ErrHeader},
		{"value", header("Content-Type", "text/html"), ErrContent},
		{"api", body(`{"api_version":"1.0","auth":"untrusted"}`), ErrContent},
		{"api", body(`{}`), ErrContent},
		{"api", body(`{"api_version":1.0}`), ErrContent},
		{"api", body("1.0"), ErrContent},
		{"absent", body("Not Found\n"), ErrContent}, // that of lxd
		{"absent", body("not found"), ErrContent},
		{"absent", header("X-Content-Type-Options", ""), ErrHeader},
		{"stream", body(strings.Replace(event, "config", "config2", 1)), ErrContent},
		{"stream", body(strings.Replace(event, `"value":"1"`, `"value":1`, 1)), ErrContent},
		{"stream", body(strings.Replace(event, `user.a`, `security.nesting`, 1)), ErrContent},
		{"stream", body(event + strings.Replace(event, `"metadata"`, `"extra":"","metadata"`, 1)), ErrContent},
		{"stream", body(strings.Replace(event, `}}`, `},"position":"7"}`, 1)), ErrContent},
		{"method", header("Allow", "get"), ErrHeader},
		{"method", func(x *Exchange) { x.Status = 501 }, ErrHeader},
		{"path", body("not found\n"), ErrContent},
		{"state", body("ok"), ErrContent},
		{"state", func(x *Exchange) { x.RequestBody = []byte(`{"state":"Running"}`) }, ErrRequest},
		{"image", body(strings.Replace(string(good["image"].Body), "404", "403", 1)), ErrContent},
		{"image", body(strings.Replace(string(good["image"].Body), `"metadata":null`, `"metadata":{}`, 1)), ErrContent},
	} {
		x := good[tc.of]
		tc.change(&x)
		if err := c.Check("document", x); !errors.Is(err, tc.want) {
			t.Errorf("%s, changed to %v %v %q: %v; want %v", tc.of, &x, x.Header, x.Body, err, tc.want)
		}
	}
}

// TestDialectsDiffer: what one dialect answers is not good in another.
func TestDialectsDiffer(t *testing.T) {
	c := guestChecker(t)
	forbidden := Exchange{Method: "GET", Target: "/1.0/config/a", Status: 403, Header: fields(text...), Body: []byte("Forbidden\n")}
	pro := Exchange{Method: "GET", Target: "/1.0/ubuntu-pro", Status: 200, Header: fields("Content-Type", "application/json"), Body: []byte(`{"guest_attach":"off"}`)}
	asGet := Exchange{Method: "POST", Target: "/1.0/devices", Status: 200, Header: fields("Content-Type", "application/json"), Body: []byte("{}")}
	for _, tc := range []struct {
		x    Exchange
		good string
	}{{forbidden, "lxd"}, {pro, "lxd"}, {asGet, "incus"}} {
		for _, dialect := range []string{"document", "lxd", "incus"} {
			if err := c.Check(dialect, tc.x); (err == nil) != (dialect == tc.good) {
				t.Errorf("%v in dialect %s: %v", &tc.x, dialect, err)
			}
		}
		if err := c.Check("", tc.x); err != nil {
			t.Errorf("%v in any dialect: %v", &tc.x, err)
		}
	}
}

// TestRecorder: what went over a connection is cut into exchanges, pipelined ones and a websocket too.
func TestRecorder(t *testing.T) {
	const (
		get     = "GET /1.0/config/user.a HTTP/1.1\r\nHost: lxd\r\n\r\n"
		value   = "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Type: application/octet-stream\r\nContent-Length: 1\r\n\r\n1"
		upgrade = "GET /1.0/events HTTP/1.1\r\nHost: lxd\r\nUpgrade: websocket\r\n\r\n"
		shaken  = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
		ping    = "\x89\x00"
	)
	for _, tc := range []struct {
		sent, received string
		failures       int
	}{
		{get + get, value + value, 0},
		{get + get, value + strings.Replace(value, "200 OK", "202 Accepted", 1) + value, 1},
		{get, value + strings.Replace(value, "Date", "Odd", 1), 1}, // an answer to nothing
		{get + upgrade, value + shaken + ping + "\x81\x02{}", 1},
		{upgrade, shaken + ping, 0},
		{"nonsense\r\n\r\n", "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\n.", 1},
		{get, value[:40], 0}, // not a whole head
	} {
		c := guestChecker(t)
		r := c.Record("document")
		for _, b := range []byte(tc.sent) {
			r.Sent([]byte{b})
		}
		r.Received([]byte(tc.received))
		r.End()
		r.End()
		if failures := c.Failures(); len(failures) != tc.failures {
			t.Errorf("%q answered %q: %v; want %d failures", tc.sent, tc.received, failures, tc.failures)
		}
	}
}

// TestSettle: an answer counts although its connection is closed long after the client has read it.
func TestSettle(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	c := guestChecker(t)
	tap := c.Tap(ln, "document")
	defer tap.Close()
	client, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := tap.Accept()
	if err != nil {
		t.Fatal(err)
	}
	all := len(c.Unseen(nil))
	if _, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: lxd\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(server, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n[\"/1.0\"]"); err != nil {
		t.Fatal(err)
	}
	if err := c.Settle(time.Millisecond); !errors.Is(err, ErrOpen) {
		t.Errorf("settled with an open connection: %v", err)
	}
	go func() {
		time.Sleep(20 * time.Millisecond)
		server.Close()
		server.Close()
	}()
	if err := c.Settle(time.Minute); err != nil {
		t.Error(err)
	}
	if left, failures := len(c.Unseen(nil)), c.Failures(); left != all-1 || failures != nil {
		t.Errorf("%d are left of %d; failures %v", left, all, failures)
	}
}

func TestUnseen(t *testing.T) {
	c := guestChecker(t)
	all := len(c.Unseen(nil))
	if err := c.Check("lxd", Exchange{Method: "GET", Target: "/", Status: 200, Header: fields("Content-Type", "application/json"), Body: []byte(`["/1.0"]`)}); err != nil {
		t.Fatal(err)
	}
	left := c.Unseen(nil)
	if len(left) != all-1 {
		t.Errorf("%d are left of %d", len(left), all)
	}
	got := c.Unseen(map[string]string{"GET / 200": "it is seen", "GET / 401": "it is not", "GET /nope 200": "it is not documented"})
	if len(got) != len(left)-1+2 {
		t.Errorf("%d are left of %d; want one less, and the two wrong excuses", len(got), len(left))
	}
}
