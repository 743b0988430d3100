package server

import (
	"fmt"
	"strings"
	"testing"
)

// patch is a PATCH /1.0 request with a body of known length.
func patch(body string, fields ...string) string {
	head := "PATCH /1.0 HTTP/1.1\r\nHost: lxd\r\n"
	for _, f := range fields {
		head += f + "\r\n"
	}
	return fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
}

// chunked is the same in chunks.
func chunked(chunks ...string) string {
	b := "PATCH /1.0 HTTP/1.1\r\nHost: lxd\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, c := range chunks {
		b += fmt.Sprintf("%x\r\n%s\r\n", len(c), c)
	}
	return b + "0\r\n\r\n"
}

func TestPatchState(t *testing.T) {
	ok := "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Type: application/octet-stream\r\nContent-Length: 0\r\n\r\n"
	long := strings.Repeat("x", 1000)
	cases := []struct {
		name, request string
		ready         bool   // afterwards; it is true before
		bad           string // text of a 400; LXD puts "Invalid request body: " before those that have a ~
	}{
		{"ready", patch(`{"state":"Ready"}`), true, ""},
		{"started", patch(`{"state":"Started"}`), false, ""},
		{"spaces", patch(" {\n\"state\" : \"Started\" }\n"), false, ""},
		{"unknown member", patch(`{"x":[1,{}],"state":"Started"}`), false, ""},
		{"trailing data", patch(`{"state":"Started"} and more`), false, ""},
		{"second value", patch(`{"state":"Started"}{"state":"Ready"}`), false, ""},
		{"last member wins", patch(`{"state":"Ready","state":"Started"}`), false, ""},
		{"no content type needed", patch(`{"state":"Started"}`, "Content-Type: text/html"), false, ""},
		{"chunked", chunked(`{"sta`, `te":"Sta`, `rted"}`), false, ""},
		{"one chunk", chunked(`{"state":"Started"}`), false, ""},
		{"large but allowed", patch(`{"state":"Started"}` + strings.Repeat(" ", 16<<10-19)), false, ""},
		{"no body", patch(""), true, "~EOF"},
		{"no length", "PATCH /1.0 HTTP/1.1\r\nHost: lxd\r\n\r\n", true, "~EOF"},
		{"no chunk", chunked(), true, "~EOF"},
		{"white space", patch(" \n"), true, "~EOF"},
		{"not JSON", patch("Ready"), true, "~invalid character 'R' looking for beginning of value"},
		{"cut off", patch(`{"state":"Rea`), true, "~unexpected EOF"},
		{"other state", patch(`{"state":"Running"}`), true, `Invalid state "Running"`},
		{"case matters", patch(`{"state":"ready"}`), true, `Invalid state "ready"`},
		{"empty state", patch(`{"state":""}`), true, `Invalid state ""`},
		{"no state", patch(`{}`), true, `Invalid state ""`},
		{"null", patch(`null`), true, `Invalid state ""`},
		{"odd state", patch(`{"state":"a\n\"b\u0000"}`), true, `Invalid state "a\n\"b\x00"`},
		{"long state", patch(`{"state":"` + long + `"}`), true, `Invalid state "` + long[:256] + `"`},
	}
	for d := range numDialects {
		t.Run(d.String(), func(t *testing.T) {
			r := newRig(t, Options{Dialect: d})
			b := r.container("c1", nil)
			c := r.dial("c1")
			for _, tc := range cases {
				t.Run(tc.name, func(t *testing.T) {
					b.SetReady(true)
					want := ok
					if tc.bad != "" {
						text := tc.bad
						if d == DialectLXD {
							text = strings.Replace(text, "~", "Invalid request body: ", 1)
						}
						want = textAnswer("400 Bad Request", strings.TrimPrefix(text, "~"))
					}
					c.send(tc.request)
					if got := c.answer("PATCH").raw(); got != want {
						t.Errorf("answer = %q;\nwant %q", got, want)
					}
					if b.Ready() != tc.ready {
						t.Errorf("ready = %v; want %v", b.Ready(), tc.ready)
					}
				})
			}
		})
	}
}

func TestPatchStateIsShown(t *testing.T) {
	for d, has := range map[Dialect]bool{DialectDocument: false, DialectLXD: true, DialectIncus: true} {
		r := newRig(t, Options{Dialect: d})
		r.container("c1", nil)
		r.container("c2", nil)
		c := r.dial("c1")
		for _, state := range []string{"Ready", "Started", "Ready"} {
			c.send(patch(`{"state":"` + state + `"}`))
			c.answer("PATCH")
			if got := strings.Contains(c.get("/1.0").body, `"state":"`+state+`"`); got != has {
				t.Errorf("%s: GET /1.0 shows %s: %v; want %v", d, state, got, has)
			}
			if got := strings.Contains(r.dial("c2").get("/1.0").body, "Ready"); got {
				t.Errorf("%s: the state of c1 is that of c2", d)
			}
		}
	}
}

func TestPatchTooLarge(t *testing.T) {
	big := strings.Repeat(" ", 16<<10+1)
	for name, request := range map[string]string{
		"length":            patch(big),
		"one chunk":         chunked(big),
		"many chunks":       chunked(big[:9000], big[:9000]),
		"beyond the parser": "PATCH /1.0 HTTP/1.1\r\nHost: lxd\r\nContent-Length: 1048577\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{})
			b := r.container("c1", nil)
			c := r.dial("c1")
			c.send(request)
			if a := c.answer("PATCH"); a.status != 413 || !a.close {
				t.Errorf("answer = %q; want 413 and the end", a.raw())
			}
			c.wantEOF()
			if b.Ready() {
				t.Error("the state was set")
			}
			if n := r.requests(routeMalformed, 413); n != 1 {
				t.Errorf("malformed requests = %d; want 1", n)
			}
		})
	}
}

// TestExpectContinue: whoever is answered without being asked for the body may
// send it or not, so the connection must end.
func TestExpectContinue(t *testing.T) {
	body := `{"state":"Ready"}`
	request := func(method, path string) string {
		return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: lxd\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", method, path, len(body))
	}
	t.Run("wanted", func(t *testing.T) {
		r := newRig(t, Options{})
		b := r.container("c1", nil)
		c := r.dial("c1")
		c.send(request("PATCH", "/1.0"))
		if got := c.answer("PATCH").raw(); got != "HTTP/1.1 100 Continue\r\n\r\n" {
			t.Fatalf("interim answer = %q", got)
		}
		c.send(body)
		if a := c.answer("PATCH"); a.status != 200 || !b.Ready() {
			t.Errorf("answer = %q, ready %v", a.raw(), b.Ready())
		}
		c.wantOpen()
	})
	for name, tc := range map[string]struct {
		method, path, peer string
		off                bool
		status             int
	}{
		"other route":    {"PATCH", "/1.0/config", "c1", false, 405},
		"other method":   {"POST", "/1.0", "c1", false, 405},
		"not found":      {"PATCH", "/nope", "c1", false, 404},
		"gate":           {"PATCH", "/1.0", "c1", true, 403},
		"not root":       {"PATCH", "/1.0", nonRoot, false, 401},
		"GET":            {"GET", "/", "c1", false, 200},
		"not identified": {"PATCH", "/1.0", stranger, false, 500},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{})
			r.container("c1", nil)
			if tc.off {
				r.set("c1", "security.devlxd", "false")
			}
			c := r.dial(tc.peer)
			c.send(request(tc.method, tc.path))
			if a := c.answer(tc.method); a.status != tc.status || !a.close {
				t.Errorf("answer = %q; want %d and the end", a.raw(), tc.status)
			}
			c.wantEOF()
		})
	}
}

// TestBodiesAreSkipped: a body that nobody wants is not the next request.
func TestBodiesAreSkipped(t *testing.T) {
	inner := "GET /1.0/config/user.secret HTTP/1.1\r\nHost: lxd\r\n\r\n"
	for name, request := range map[string]string{
		"length": fmt.Sprintf("POST /1.0 HTTP/1.1\r\nHost: lxd\r\nContent-Length: %d\r\n\r\n%s", len(inner), inner),
		"chunks": fmt.Sprintf("PUT /1.0/config HTTP/1.1\r\nHost: lxd\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\nA: b\r\n\r\n", len(inner), inner),
		"GET":    fmt.Sprintf("GET /nope HTTP/1.1\r\nHost: lxd\r\nContent-Length: %d\r\n\r\n%s", len(inner), inner),
		"1 MiB":  fmt.Sprintf("POST /1.0 HTTP/1.1\r\nHost: lxd\r\nContent-Length: %d\r\n\r\n%s", 1<<20, strings.Repeat("x", 1<<20)),
	} {
		for _, piece := range []int{1, 7, 1 << 20} {
			if name == "1 MiB" && piece < 1<<20 {
				continue
			}
			t.Run(fmt.Sprintf("%s by %d", name, piece), func(t *testing.T) {
				r := newRig(t, Options{})
				r.container("c1", map[string]string{"user.foo": "bar", "user.secret": "secret"})
				c := r.dial("c1")
				all := request + "GET /1.0/config/user.foo HTTP/1.1\r\nHost: lxd\r\n\r\n"
				for i := 0; i < len(all); i += piece {
					c.send(all[i:min(len(all), i+piece)])
				}
				if a := c.answer("POST"); a.status/100 != 4 {
					t.Errorf("first answer = %q", a.raw())
				}
				if a := c.answer("GET"); a.body != "bar" {
					t.Errorf("second answer = %q", a.raw())
				}
				c.wantOpen()
			})
		}
	}
}

// TestFaultyBodyAfterAnswer: the request was answered already, and a second
// answer would be taken for that of the next one.
func TestFaultyBodyAfterAnswer(t *testing.T) {
	r := newRig(t, Options{})
	r.container("c1", nil)
	c := r.dial("c1")
	c.send("POST /1.0 HTTP/1.1\r\nHost: lxd\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
	if a := c.answer("POST"); a.status != 405 {
		t.Errorf("answer = %q", a.raw())
	}
	c.wantEOF()
	r.wantClosed(CloseBadRequest, 1)
}

func TestPatchOnStoppedContainer(t *testing.T) {
	r := newRig(t, Options{})
	b := r.container("c1", nil)
	c := r.dial("c1")
	c.send("PATCH /1.0 HTTP/1.1\r\nHost: lxd\r\nContent-Length: 17\r\n\r\n")
	r.reg.Stop(b)
	_, _ = c.Write([]byte(`{"state":"Ready"}`))
	// The body may reach the loop before it is told of the stop, or after.
	if got := c.rest(); got != "" && !strings.HasPrefix(got, "HTTP/1.1 500 ") {
		t.Errorf("answer = %q; want 500 or none", got)
	}
	if b.Ready() {
		t.Error("a stopped container became ready")
	}
	eventually(t, "closed", func() bool { return r.closed(CloseStopped)+r.closed(CloseRefused) == 1 })
}
