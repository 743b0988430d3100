package admin_test

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devlxd/admin"
	"devlxd/source"
)

func itoa(n int) string { return strconv.Itoa(n) }

// ok is the envelope of an answer that worked.
func ok(metadata string) string {
	return `{"type":"sync","status":"Success","status_code":200,"operation":"","error_code":0,"error":"","metadata":` + metadata + "}\n"
}

// failed is the envelope of an error.
func failed(code int, text string) string {
	return fmt.Sprintf(`{"type":"error","status":"","status_code":0,"operation":"","error_code":%d,"error":%q,"metadata":null}`+"\n", code, text)
}

// step is one request and the exact answer.
type step struct {
	method, path, body string
	code               int
	want               string // the body
	location           string
}

func (s step) run(f *fixture) {
	f.Helper()
	resp, body := f.ask(s.method, s.path, s.body)
	if resp.StatusCode != s.code || body != s.want {
		f.Errorf("%s %s %s:\n got %d %s\nwant %d %s", s.method, s.path, s.body, resp.StatusCode, body, s.code, s.want)
	}
	if got := resp.Header.Get("Location"); got != s.location {
		f.Errorf("%s %s: Location = %q; want %q", s.method, s.path, got, s.location)
	}
	if got := resp.Header.Get("Content-Type"); got != "application/json" {
		f.Errorf("%s %s: Content-Type = %q; want application/json", s.method, s.path, got)
	}
}

// TestLife follows a container through every resource, envelope by envelope.
func TestLife(t *testing.T) {
	f := start(t, nil)
	const c1 = `"name":"c1","status":%s,"instance_id":"id-c1","access":true,"images":%s`
	stopped := `{` + fmt.Sprintf(c1, `"Stopped","status_code":102`, "true") +
		`,"config":{"security.devlxd.images":"true","user.a":"<1>"},"devices":{"root":{"type":"disk"}},"state":null}`
	running := `{` + fmt.Sprintf(c1, `"Running","status_code":103`, "true")
	state := `"state":{"pid":42,"cgroup_id":1042,"pid_namespace":2042,"root_uid":100000,"privileged":false,"ready":false,"since":"2023-11-14T22:13:20Z"}}`
	for _, s := range []step{
		{"GET", "/", "", 200, ok(`["/1.0"]`), ""},
		{"GET", "/1.0/containers", "", 200, ok(`[]`), ""},
		{"GET", "/1.0/containers?recursion=1", "", 200, ok(`[]`), ""},
		{"POST", "/1.0/containers", `{"name":"c1","config":{"user.a":"<1>","security.devlxd.images":"true"},"devices":{"root":{"type":"disk"}},"root_uid":null}`,
			201, ok("null"), "/1.0/containers/c1"},
		{"POST", "/1.0/containers", `{"name":"c1"}`, 409, failed(409, "already exists"), ""},
		{"GET", "/1.0/containers", "", 200, ok(`["/1.0/containers/c1"]`), ""},
		{"GET", "/1.0/containers/c1", "", 200, ok(stopped), ""},
		{"GET", "/1.0/containers?recursion=1", "", 200, ok("[" + stopped + "]"), ""},
		{"GET", "/1.0/containers/c1/events", "", 409, failed(409, `container "c1" is not running: it has events once it is bound`), ""},
		{"POST", "/1.0/containers/c1/bind", `{"pid":42,"root_uid":100000}`, 200, ok("null"), ""},
		{"POST", "/1.0/containers/c1/bind", `{"pid":43}`, 409, failed(409, "conflict; container is running already: stop it before it is bound again"), ""},
		{"GET", "/1.0/containers?recursion=1&summary=true", "", 200, ok("[" + running + "," + state + "]"), ""},
		{"GET", "/1.0/containers/c1/config", "", 200, ok(`{"security.devlxd.images":"true","user.a":"<1>"}`), ""},
		{"PATCH", "/1.0/containers/c1/config", `{"set":{"user.b":"2"},"unset":["user.a"]}`, 200, ok("null"), ""},
		{"GET", "/1.0/containers/c1/config", "", 200, ok(`{"security.devlxd.images":"true","user.b":"2"}`), ""},
		{"POST", "/1.0/containers/c1/devices", `{"name":"eth0","config":{"type":"nic"}}`, 201, ok("null"), "/1.0/containers/c1/devices/eth0"},
		{"PUT", "/1.0/containers/c1/devices/eth0:1", `{"type":"nic","mtu":"1"}`, 201, ok("null"), "/1.0/containers/c1/devices/eth0:1"},
		{"PUT", "/1.0/containers/c1/devices/eth0", `{"type":"nic"}`, 409, failed(409, "already exists"), ""},
		{"PATCH", "/1.0/containers/c1/devices/eth0:1", `{"set":{"name":"x"},"unset":["mtu"]}`, 200, ok("null"), ""},
		{"GET", "/1.0/containers/c1/devices/eth0%3A1", "", 200, ok(`{"name":"x","type":"nic"}`), ""},
		{"GET", "/1.0/containers/c1/devices", "", 200, ok(`{"eth0":{"type":"nic"},"eth0:1":{"name":"x","type":"nic"},"root":{"type":"disk"}}`), ""},
		{"DELETE", "/1.0/containers/c1/devices/eth0", "", 200, ok("null"), ""},
		{"DELETE", "/1.0/containers/c1/devices/eth0", "", 404, failed(404, "not found"), ""},
		{"GET", "/1.0/containers/c1/devices/eth0", "", 404, failed(404, `device "eth0" not found: list what there is, and check the name`), ""},
		{"DELETE", "/1.0/containers/c1", "", 200, ok("null"), ""},
		{"DELETE", "/1.0/containers/c1", "", 404, failed(404, "not found: register it first"), ""},
		{"GET", "/1.0/containers/c1", "", 404, failed(404, `container "c1" not found: list what there is, and check the name`), ""},
		{"GET", "/1.0/containers/c1/config", "", 404, failed(404, `container "c1" not found: list what there is, and check the name`), ""},
		{"GET", "/1.0/containers/c1/devices", "", 404, failed(404, `container "c1" not found: list what there is, and check the name`), ""},
		{"GET", "/1.0/containers/c1/events", "", 404, failed(404, `container "c1" not found: list what there is, and check the name`), ""},
	} {
		s.run(f)
	}
}

// TestRefusals: nothing of what is refused changes anything.
func TestRefusals(t *testing.T) {
	f := start(t, nil)
	f.add("c1+")
	use := ": see GET /1.0 and the documentation of the admin API"
	for _, s := range []step{
		{"GET", "/1.1", "", 404, failed(404, "no such resource"+use), ""},
		{"GET", "/1.0/", "", 404, failed(404, "no such resource"+use), ""},
		{"GET", "//1.0", "", 404, failed(404, "no such resource"+use), ""},
		{"GET", "/x/../1.0", "", 404, failed(404, "no such resource"+use), ""},
		{"GET", "/1.0/containers//config", "", 404, failed(404, "no such resource"+use), ""},
		{"GET", "/1.0/containers/c1/config/user.a", "", 404, failed(404, "no such resource"+use), ""},
		{"GET", "/1.0/containers/c%2", "", 400, failed(400, "path is malformed: percent-encode each name once"), ""},
		{"GET", "/1.0/containers/a%2Fb", "", 404, failed(404, `container "a/b" not found: list what there is, and check the name`), ""},
		{"GET", "/1.0/containers?foo=1", "", 400, failed(400, `unknown parameter "foo"`), ""},
		{"GET", "/1.0/containers?recursion=x", "", 400, failed(400, `parameter "recursion" has the value "x": use 0 or 1`), ""},
		{"GET", "/1.0/containers?recursion=1&recursion=0", "", 400, failed(400, `parameter "recursion" is given more than once`), ""},
		{"GET", "/1.0/containers?recursion=1&summary=maybe", "", 400, failed(400, `parameter "summary" has the value "maybe": use true or false`), ""},
		{"GET", "/1.0/images?recursion=3", "", 400, failed(400, `parameter "recursion" has the value "3": use 0 or 1`), ""},
		{"GET", "/1.0?a=%zz", "", 400, failed(400, `query is malformed: invalid URL escape "%zz"`), ""},
		{"GET", "/1.0/containers", "{}", 400, failed(400, "GET takes no body: send none"), ""},
		{"DELETE", "/1.0/containers/c1", "{}", 400, failed(400, "DELETE takes no body: send none"), ""},
		{"POST", "/1.0/containers", "", 400, failed(400, "request has no body: send a JSON object"), ""},
		{"POST", "/1.0/containers", "[]", 400, failed(400, "request body is not a JSON object: send {...}"), ""},
		{"POST", "/1.0/containers", "null", 400, failed(400, "request body is not a JSON object: send {...}"), ""},
		{"POST", "/1.0/containers", "{", 400, failed(400, "request body is not JSON: it ends too early"), ""},
		{"POST", "/1.0/containers", `{"name":c2}`, 400, failed(400, "request body is not JSON: invalid character 'c' looking for beginning of value at byte 9"), ""},
		{"POST", "/1.0/containers", `{"name":"c2"} {}`, 400, failed(400, "request body goes on after the JSON object: send one object"), ""},
		{"POST", "/1.0/containers", `{"name":"c2","nmae":"c3"}`, 400, failed(400, `unknown field "nmae" in the request body`), ""},
		{"POST", "/1.0/containers", `{"name":"c2","name":"c3"}`, 400, failed(400, `field "name" is given more than once`), ""},
		{"POST", "/1.0/containers", `{"name":"c2","config":{"user.a":"1","user.a":"2"}}`, 400, failed(400, `field "config.user.a" is given more than once`), ""},
		{"POST", "/1.0/containers", `{"name":"c2","config":{"user.a":null}}`, 400, failed(400, `field "config.user.a" is null: give a value, or leave it out`), ""},
		{"POST", "/1.0/containers", `{"name":"c2","config":{"user.a":1}}`, 400, failed(400, `field "config" has a wrong value: number is no string`), ""},
		{"POST", "/1.0/containers", `{"name":"c2","config":[]}`, 400, failed(400, `field "config" has a wrong value: array is no object`), ""},
		{"POST", "/1.0/containers", `{"name":"c2","pid":"42"}`, 400, failed(400, `field "pid" has a wrong value: string is no whole number`), ""},
		{"POST", "/1.0/containers", `{"name":"c2","pid":1.5}`, 400, failed(400, `field "pid" has a wrong value: number 1.5 is no whole number`), ""},
		{"POST", "/1.0/containers", `{"name":"c2","root_uid":4294967296}`, 400, failed(400, `field "root_uid" has a wrong value: number 4294967296 is no whole number from 0 to 4294967295`), ""},
		{"POST", "/1.0/containers", "{\"name\":\"c2\xff\"}", 400, failed(400, "request body is not valid UTF-8: encode binary values, for example as base64"), ""},
		{"PATCH", "/1.0/containers/c1/config", `{}`, 400, failed(400, "change is empty: give set, unset or both"), ""},
		{"PATCH", "/1.0/containers/c1/config", `{"unset":"user.a"}`, 400, failed(400, `field "unset" has a wrong value: string is no array`), ""},
		{"PATCH", "/1.0/containers/c1/config", `{"unset":[null]}`, 400, failed(400, `field "unset.0" is null: give a value, or leave it out`), ""},
		{"PATCH", "/1.0/containers/c9/config", `{"unset":["user.a"]}`, 404, failed(404, "not found"), ""},
		{"PUT", "/1.0/containers/c1/devices/d", `{"type":null}`, 400, failed(400, `field "type" is null: give a value, or leave it out`), ""},
		{"GET", "/1.0/containers/c1/events?type=config,devices", "", 400, failed(400, `unknown event type "devices": use config, device or both with a comma`), ""},
		{"GET", "/1.0/containers/c1/events?type=config,", "", 400, failed(400, `unknown event type "": use config, device or both with a comma`), ""},
		{"GET", "/1.0/containers/c1/events?position=2", "", 400, failed(400, `parameter "position" has the value "2": use true or false`), ""},
		{"GET", "/1.0/containers/c1/events?since=1", "", 400, failed(400, "position is malformed: use EPOCH.OFFSET as the daemon sent it"), ""},
		{"GET", "/1.0/containers/c1/events?since=00000000000000ff.7", "", 410, failed(410, "position is no longer held: read the configuration again and subscribe anew"), ""},
	} {
		t.Run(s.method+" "+s.path+" "+strings.ToValidUTF8(s.body, "?"), func(t *testing.T) {
			g := *f
			g.T = t
			s.run(&g)
		})
	}
	if f.reg.Len() != 1 {
		t.Errorf("%d containers after all refusals; want 1", f.reg.Len())
	}
}

func TestMethods(t *testing.T) {
	f := start(t, nil)
	for path, allow := range map[string]string{
		"/":                           "GET",
		"/healthz":                    "GET",
		"/1.0":                        "GET",
		"/1.0/status":                 "GET",
		"/1.0/health":                 "GET",
		"/1.0/top":                    "GET",
		"/1.0/containers":             "GET, POST",
		"/1.0/containers/c":           "GET, DELETE",
		"/1.0/containers/c/bind":      "POST",
		"/1.0/containers/c/config":    "GET, PATCH",
		"/1.0/containers/c/devices":   "GET, POST",
		"/1.0/containers/c/devices/d": "GET, PUT, PATCH, DELETE",
		"/1.0/containers/c/events":    "GET",
		"/1.0/images":                 "GET, POST",
		"/1.0/images/abcd":            "GET, DELETE",
	} {
		for _, method := range []string{"OPTIONS", "TRACE", "FOO"} {
			resp, body := f.ask(method, path, "")
			want := failed(405, fmt.Sprintf("method %q is not allowed here: use %s", method, allow))
			want = strings.ReplaceAll(want, `\\"`, `\"`)
			if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != allow || body != want {
				t.Errorf("%s %s = %d, Allow %q, %s; want 405, %q, %s", method, path, resp.StatusCode, resp.Header.Get("Allow"), body, allow, want)
			}
		}
	}
}

// writes are requests that change something, one of each kind.
func writes() []step {
	return []step{
		{method: "POST", path: "/1.0/containers", body: `{"name":"c"}`},
		{method: "DELETE", path: "/1.0/containers/c"},
		{method: "POST", path: "/1.0/containers/c/bind", body: `{"pid":1}`},
		{method: "PATCH", path: "/1.0/containers/c/config", body: `{"unset":["user.a"]}`},
		{method: "POST", path: "/1.0/containers/c/devices", body: `{"name":"d"}`},
		{method: "PUT", path: "/1.0/containers/c/devices/d", body: `{}`},
		{method: "PATCH", path: "/1.0/containers/c/devices/d", body: `{"unset":["a"]}`},
		{method: "DELETE", path: "/1.0/containers/c/devices/d"},
		{method: "POST", path: "/1.0/images", body: `image`},
		{method: "DELETE", path: "/1.0/images/" + strings.Repeat("ab", 32)},
	}
}

func TestErrorsOfTheSource(t *testing.T) {
	f := start(t, nil)
	want := map[error]int{
		source.ErrNotFound: 404, source.ErrExists: 409, source.ErrConflict: 409, source.ErrInvalid: 400, source.ErrNoProcess: 400,
		source.ErrTooLarge: 413, source.ErrFull: 507, source.ErrStorage: 500, source.ErrDamaged: 500, source.ErrNewer: 500,
		source.ErrLocked: 503, source.ErrClosed: 503, errors.New("unheard of"): 500,
		fmt.Errorf("%w: %w", source.ErrStorage, unix.ENOSPC): 507,
		fmt.Errorf("%w: %w", source.ErrStorage, unix.EIO):    500,
	}
	for err, code := range want {
		f.writer.fail = fmt.Errorf("cannot do it\nnow: %w", err)
		for _, s := range writes() {
			s.code, s.want = code, failed(code, "cannot do it; now: "+err.Error())
			s.run(f)
		}
	}
	for err := range admin.Codes() {
		if _, ok := want[err]; !ok && admin.CodeOf(err) == 0 {
			t.Errorf("CodeOf(%v) = 0", err)
		}
	}
}

func TestReadOnly(t *testing.T) {
	f := start(t, func(_ *fixture, o *admin.Options) { o.Writer = nil })
	text := "containers come from a source that devlxd only reads: make the change there"
	for _, s := range writes() {
		s.code, s.want = 403, failed(403, text)
		s.run(f)
	}
	step{"GET", "/1.0/containers", "", 200, ok("[]"), ""}.run(f)
}

func TestPanicInAHandler(t *testing.T) {
	f := start(t, nil)
	f.writer.panics = true
	step{"POST", "/1.0/containers", `{"name":"c"}`, 500, failed(500, "internal error: see the log of devlxd"), ""}.run(f)
	f.writer.panics = false
	step{"POST", "/1.0/containers", `{"name":"c"}`, 201, ok("null"), "/1.0/containers/c"}.run(f)
}

func TestMalformedRequests(t *testing.T) {
	f := start(t, nil)
	for name, c := range map[string]struct {
		request string
		code    int
	}{
		"no HTTP":           {"hello\r\n\r\n", 400},
		"long head":         {"GET /" + strings.Repeat("a", 20<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", 431},
		"announced too big": {"POST /1.0/containers HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n" + strings.Repeat("{", 10<<10), 413},
	} {
		t.Run(name, func(t *testing.T) {
			g := *f
			g.T = t
			resp := g.raw(c.request)
			defer resp.Body.Close()
			if resp.StatusCode != c.code || resp.Header.Get("Content-Type") != "application/json" || !resp.Close {
				t.Errorf("%d %s, closes: %v; want %d application/json and the connection closed", resp.StatusCode, resp.Header.Get("Content-Type"), resp.Close, c.code)
			}
		})
	}
}
