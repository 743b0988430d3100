package server

import (
	"fmt"
	"strings"
	"testing"

	"devlxd/registry"
)

// The forms of an answer, as they come over the wire. The order of the fields
// is ours; which there are, and their values, are net/http's in LXD.
func jsonAnswer(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nDate: D\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

func rawAnswer(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nDate: D\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// textAnswer is Go's http.Error; fields are further lines.
func textAnswer(status, text string, fields ...string) string {
	extra := ""
	for _, f := range fields {
		extra += f + "\r\n"
	}
	connection := ""
	if strings.HasPrefix(extra, "Connection: ") {
		connection, extra, _ = strings.Cut(extra, "\r\n")
		connection += "\r\n"
	}
	return fmt.Sprintf("HTTP/1.1 %s\r\nDate: D\r\n%sContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n%sContent-Length: %d\r\n\r\n%s\n",
		status, connection, extra, len(text)+1, text)
}

// errorJSON is the error of LXD's main API, which image exports have.
func errorJSON(status string, code int, text string) string {
	body := fmt.Sprintf(`{"type":"error","status":"","status_code":0,"operation":"","error_code":%d,"error":%s,"metadata":null}`+"\n",
		code, registry.AppendJSONString(nil, text))
	return fmt.Sprintf("HTTP/1.1 %s\r\nDate: D\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
}

// zoo is a container with something of everything.
var zoo = registry.Spec{
	Name: "zoo", InstanceID: "6b9a6ba5-1234-4c3d-9e8f-0123456789ab",
	Config: map[string]string{
		"user.foo": "bar", "user.percent": "bar %s bar", "user.empty": "", "user.a/b": "slash", "user.a?b": "question",
		"user.a%b": "percent", "user.a b": "space", "user.": "bare", "user.<&>": "html",
		"user.meta-data": "dsmode: local\n", "user.latin": "caf\xe9",
		"cloud-init.user-data": "#cloud-config\npackages: [curl]\n", "cloud-init.ssh-keys.me": "root:gh:me",
		"security.nesting": "true", "volatile.eth0.hwaddr": "00:16:3e:00:00:01",
	},
	Devices: map[string]map[string]string{
		"root": {"type": "disk", "path": "/", "pool": "default"},
		"eth0": {"type": "nic", "network": "lxdbr0"},
		"eth1": {"type": "nic", "hwaddr": "00:16:3e:ff:ff:ff"},
		"odd":  {"type": "unix-char", "source": "/dev/<&>\"x\""},
	},
}

// bare is a container with nothing at all.
var bare = registry.Spec{Name: "bare"}

const (
	zooUserKeys = `"/1.0/config/user.","/1.0/config/user.<&>","/1.0/config/user.a b","/1.0/config/user.a%b","/1.0/config/user.a/b",` +
		`"/1.0/config/user.a?b","/1.0/config/user.empty","/1.0/config/user.foo","/1.0/config/user.latin","/1.0/config/user.meta-data",` +
		`"/1.0/config/user.percent"`
	zooConfig    = `["/1.0/config/cloud-init.ssh-keys.me","/1.0/config/cloud-init.user-data",` + zooUserKeys + "]\n"
	zooConfigLXD = `["/1.0/config/cloud-init.user-data","/1.0/config/cloud-init.vendor-data",` + zooUserKeys +
		`,"/1.0/config/user.vendor-data"]` + "\n"
	zooUsers = "users:\n- name: root\n  ssh-import-id:\n  - gh:me #lxd:cloud-init.ssh-keys\n" +
		"  ssh_import_id:\n  - gh:me #lxd:cloud-init.ssh-keys\n"
	zooDevices = `{"eth0":{"hwaddr":"00:16:3e:00:00:01","network":"lxdbr0","type":"nic"},"eth1":{"hwaddr":"00:16:3e:ff:ff:ff","type":"nic"},` +
		`"odd":{"source":"/dev/<&>\"x\"","type":"unix-char"},"root":{"path":"/","pool":"default","type":"disk"}}` + "\n"
	zooNameMeta = "instance-id: zoo\nlocal-hostname: zoo\ndsmode: local\n"
	zooUUIDMeta = "instance-id: 6b9a6ba5-1234-4c3d-9e8f-0123456789ab\nlocal-hostname: zoo\ndsmode: local\n"
)

// routeCase is an answer to GET path in each dialect: document, lxd, incus. ""
// stands for the answer of the document.
type routeCase struct {
	path string
	want [numDialects]string
}

func all(path, want string) routeCase { return routeCase{path, [numDialects]string{want}} }

func key(name, value string) routeCase { return all("/1.0/config/"+name, rawAnswer(value)) }

func routeCases() []routeCase {
	notFound := textAnswer("404 Not Found", "404 page not found")
	noKey := [numDialects]string{
		textAnswer("404 Not Found", "not found"), textAnswer("404 Not Found", "Not Found"), textAnswer("404 Not Found", "not found"),
	}
	forbidden := [numDialects]string{
		textAnswer("403 Forbidden", "not authorized"), textAnswer("403 Forbidden", "Forbidden"), textAnswer("403 Forbidden", "not authorized"),
	}
	zooConfigs := [numDialects]string{jsonAnswer(zooConfig), jsonAnswer(zooConfigLXD), jsonAnswer(zooConfig)}
	cases := []routeCase{
		all("/", jsonAnswer(`["/1.0"]`+"\n")),
		{"/1.0", [numDialects]string{
			jsonAnswer(`{"api_version":"1.0"}` + "\n"),
			jsonAnswer(`{"state":"Started","api_version":"1.0","instance_type":"container","location":"host1","auth":"untrusted","supported_storage_drivers":[]}` + "\n"),
			jsonAnswer(`{"state":"Started","api_version":"1.0","instance_type":"container","location":"host1"}` + "\n"),
		}},
		{"/1.0/config", zooConfigs},
		all("/1.0/devices", jsonAnswer(zooDevices)),
		{"/1.0/meta-data", [numDialects]string{
			rawAnswer("#cloud-config\n" + zooNameMeta), rawAnswer(zooUUIDMeta), rawAnswer("#cloud-config\n" + zooUUIDMeta),
		}},
		key("user.foo", "bar"), key("user.percent", "bar %s bar"), key("user.latin", "caf\xe9"), key("user.", "bare"),
		key("user.a%2Fb", "slash"), key("user.a%2fb", "slash"), key("user.a%3Fb", "question"), key("user.a%25b", "percent"),
		key("user.a%20b", "space"), key("%75ser.foo", "bar"), key("user.foo?x=y", "bar"), key("user.foo?", "bar"), key("user.%3C&%3E", "html"),
		key("user.meta-data", "dsmode: local\n"), key("cloud-init.ssh-keys.me", "root:gh:me"),
		{"/1.0/config/cloud-init.user-data", [numDialects]string{
			rawAnswer("#cloud-config\npackages: [curl]\n"), rawAnswer("#cloud-config\npackages: [curl]\n" + zooUsers), rawAnswer("#cloud-config\npackages: [curl]\n"),
		}},
		all("/%31.0/config/user%2Efoo", rawAnswer("bar")),
		{"/1.0/%63onfig", zooConfigs}, all("/1%2E0", ""), all("/1.0/meta%2Ddata", ""),
		{"/1.0/config/user.empty", [numDialects]string{rawAnswer(""), noKey[DialectLXD], rawAnswer("")}},
		{"/1.0/ubuntu-pro", [numDialects]string{notFound, jsonAnswer(`{"guest_attach":"off"}` + "\n"), notFound}},
		{"/1.0/ubuntu-pro/token", [numDialects]string{notFound, textAnswer("501 Not Implemented", "Not Implemented"), notFound}},
	}
	for i := range cases {
		switch cases[i].path { // the same as without escapes
		case "/1%2E0":
			cases[i].want = cases[1].want
		case "/1.0/meta%2Ddata":
			cases[i].want = cases[4].want
		}
	}
	for _, name := range []string{"user.none", "user.FOO", "cloud-init.none", "user.a", "cloud-init.", "user.foo%00", "user.foo%20"} {
		cases = append(cases, routeCase{"/1.0/config/" + name, noKey})
	}
	for _, name := range []string{"security.nesting", "security.none", "user", "User.foo", "cloud-init", "volatile.eth0.hwaddr", "%00", "%2F", "x"} {
		cases = append(cases, routeCase{"/1.0/config/" + name, forbidden})
	}
	for _, path := range []string{
		"/nope", "/1.0/", "/1.0/config/", "/1.0/config//", "/1.0/config/a/b", "/1.0/config/user.foo/", "//1.0", "/1.0//config", "/2.0", "/1.0/nope",
		"/1.0/../1.0", "/./1.0", "/1.0/config%2Fuser.foo", "/1.0%2Fconfig", "/%2F1.0", "/%2F", "/%2E", "/1.0/meta-data/", "/1.0/Meta-Data",
		"/1.0/images", "/1.0/images/", "/1.0/images//export", "/1.0/images/x", "/1.0/images/x/y/export", "/1.0/images/x/export/", "/1.0/images%2Fx/export",
		"/1.0/instances/zoo", "/1.0/a/b/c/d/e/f", "/1.0/%61/b/c/d/e/f", "/1.0/config/%61/b", "/1.0/storage-pools/default", "/1.0/ubuntu-pro/",
	} {
		cases = append(cases, all(path, notFound))
	}
	return cases
}

func TestRoutes(t *testing.T) {
	for d := range numDialects {
		t.Run(d.String(), func(t *testing.T) {
			r := newRig(t, Options{Dialect: d})
			r.host.Start(t, r.reg, zoo)
			c := r.dial("zoo")
			for _, tc := range routeCases() {
				t.Run("GET "+tc.path, func(t *testing.T) {
					want := tc.want[0]
					if tc.want[d] != "" {
						want = tc.want[d]
					}
					if got := c.get(tc.path).raw(); got != want {
						t.Errorf("answer = %q;\nwant %q", got, want)
					}
				})
			}
		})
	}
}

func TestRoutesOfEmptyContainer(t *testing.T) {
	for d := range numDialects {
		t.Run(d.String(), func(t *testing.T) {
			r := newRig(t, Options{Dialect: d})
			r.host.Start(t, r.reg, bare)
			c := r.dial("bare")
			meta := "instance-id: bare\nlocal-hostname: bare\n"
			if d != DialectLXD {
				meta = "#cloud-config\n" + meta
			}
			for path, want := range map[string]string{
				"/1.0/config": jsonAnswer("[]\n"), "/1.0/devices": jsonAnswer("{}\n"), "/1.0/meta-data": rawAnswer(meta),
			} {
				if got := c.get(path).raw(); got != want {
					t.Errorf("GET %s = %q; want %q", path, got, want)
				}
			}
		})
	}
}

// methodCase is the answer to a method on a path, by dialect. "GET" stands for
// the answer to GET, "HEAD" for the head of it.
type methodCase struct {
	method, path string
	want         [numDialects]string
}

func methodCases() []methodCase {
	unimplemented := textAnswer("501 Not Implemented", "Not Implemented")
	notAllowed := func(method, allow string) string {
		fields := []string{"Allow: " + allow}
		if allow == "" {
			fields = nil
		}
		return textAnswer("405 Method Not Allowed", fmt.Sprintf("method %q not allowed", method), fields...)
	}
	unknown := func(method string) string {
		return textAnswer("404 Not Found", fmt.Sprintf("Method %q not found", method))
	}
	var cases []methodCase
	for _, path := range []string{"/", "/1.0/config", "/1.0/config/user.foo", "/1.0/meta-data", "/1.0/devices"} {
		cases = append(cases, methodCase{"HEAD", path, [numDialects]string{"HEAD", unimplemented, "HEAD"}})
		for _, m := range []string{"POST", "PUT", "DELETE", "PATCH"} {
			cases = append(cases, methodCase{m, path, [numDialects]string{notAllowed(m, "GET, HEAD"), unimplemented, "GET"}})
		}
		for _, m := range []string{"OPTIONS", "TRACE", "FOO", "get", "X-Y"} {
			cases = append(cases, methodCase{m, path, [numDialects]string{notAllowed(m, "GET, HEAD"), unknown(m), "GET"}})
		}
	}
	cases = append(cases, methodCase{"HEAD", "/1.0", [numDialects]string{"HEAD", unimplemented, notAllowed("HEAD", "")}})
	for _, m := range []string{"POST", "PUT", "DELETE"} {
		cases = append(cases, methodCase{m, "/1.0", [numDialects]string{notAllowed(m, "GET, HEAD, PATCH"), unimplemented, notAllowed(m, "")}})
	}
	for _, m := range []string{"OPTIONS", "FOO"} {
		cases = append(cases, methodCase{m, "/1.0", [numDialects]string{notAllowed(m, "GET, HEAD, PATCH"), unknown(m), notAllowed(m, "")}})
	}
	none := textAnswer("404 Not Found", "404 page not found")
	denied := textAnswer("403 Forbidden", "Failed getting an Ubuntu Pro guest token: Guest attachment not allowed")
	cases = append(cases,
		methodCase{"POST", "/1.0/ubuntu-pro/token", [numDialects]string{none, denied, none}},
		methodCase{"POST", "/1.0/ubuntu-pro", [numDialects]string{none, unimplemented, none}},
		methodCase{"FOO", "/1.0/ubuntu-pro", [numDialects]string{none, unknown("FOO"), none}},
		methodCase{"HEAD", "/nope", [numDialects]string{none, none, none}},
		methodCase{"OPTIONS", "*", [numDialects]string{none, none, none}},
	)
	return cases
}

func TestMethods(t *testing.T) {
	for d := range numDialects {
		t.Run(d.String(), func(t *testing.T) {
			r := newRig(t, Options{Dialect: d})
			r.host.Start(t, r.reg, zoo)
			c := r.dial("zoo")
			for _, tc := range methodCases() {
				t.Run(tc.method+" "+tc.path, func(t *testing.T) {
					want := tc.want[d]
					if want == "GET" || want == "HEAD" {
						want = c.get(tc.path).raw()
					}
					if tc.method == "HEAD" {
						want = want[:strings.Index(want, "\r\n\r\n")+4]
					}
					c.send(tc.method + " " + tc.path + " HTTP/1.1\r\nHost: lxd\r\n\r\n")
					if got := c.answer(tc.method).raw(); got != want {
						t.Errorf("answer = %q;\nwant %q", got, want)
					}
				})
			}
		})
	}
}

func TestRefusedPeers(t *testing.T) {
	texts := [numDialects]string{"pid not in container?", "Process ID not found in container", "pid not in container?"}
	paths := []string{"GET /", "GET /1.0", "GET /1.0/config/user.foo", "PATCH /1.0", "POST /1.0/events"}
	for d := range numDialects {
		for _, path := range paths {
			t.Run(d.String()+" "+path, func(t *testing.T) {
				r := newRig(t, Options{Dialect: d})
				r.container("c1", nil)
				request := path + " HTTP/1.1\r\nHost: lxd\r\n\r\n"

				c := r.dial(stranger)
				c.send(request + request)
				want := textAnswer("500 Internal Server Error", texts[d], "Connection: close")
				if got := c.answer("GET").raw(); got != want {
					t.Errorf("stranger: %q;\nwant %q", got, want)
				}
				c.wantEOF()
				r.wantClosed(CloseRefused, 1)

				c = r.dial(nonRoot)
				want = textAnswer("401 Unauthorized", "Access denied for non-root user")
				for range 2 {
					c.send(request)
					if got := c.answer("GET").raw(); got != want {
						t.Errorf("not root: %q;\nwant %q", got, want)
					}
				}
			})
		}
	}
}

// TestUnknownPathOfRefusedPeer: the routers of the document and of Incus refuse a path before anybody looks at the peer; LXD has a handler for
// every path, which looks first.
func TestUnknownPathOfRefusedPeer(t *testing.T) {
	for d := range numDialects {
		for _, request := range []string{"GET /nope", "PATCH /1.0/", "GET /1.0/config/", "GET /1.0/ubuntu-pro", "POST /1.0/ubuntu-pro/token", "GET /%2F"} {
			t.Run(d.String()+" "+request, func(t *testing.T) {
				r := newRig(t, Options{Dialect: d})
				r.container("c1", nil)
				none := textAnswer("404 Not Found", "404 page not found")
				want := map[string]string{stranger: none, nonRoot: none}
				if d == DialectLXD {
					want[stranger] = textAnswer("500 Internal Server Error", "Process ID not found in container", "Connection: close")
					want[nonRoot] = textAnswer("401 Unauthorized", "Access denied for non-root user")
				}
				for name, want := range want {
					c := r.dial(name)
					c.send(request + " HTTP/1.1\r\nHost: lxd\r\nContent-Length: 2\r\n\r\n{}")
					if got := c.answer("GET").raw(); got != want {
						t.Errorf("%s: %q;\nwant %q", name, got, want)
					}
					if name == nonRoot || d != DialectLXD { // the body is not taken for a request
						if a := c.get("/1.0"); a.status != map[string]int{stranger: 500, nonRoot: 401}[name] {
							t.Errorf("%s: the next answer is %q", name, a.raw())
						}
					}
				}
			})
		}
	}
}

func TestGate(t *testing.T) {
	fp := strings.Repeat("0", 64)
	open := func(d Dialect, request string) bool {
		return d == DialectIncus && (request == "GET /" || request == "GET /1.0")
	}
	for d := range numDialects {
		forbidden := textAnswer("403 Forbidden", "not authorized")
		if d == DialectLXD {
			forbidden = textAnswer("403 Forbidden", "Forbidden")
		}
		for _, key := range []string{"security.devlxd", "security.guestapi"} {
			t.Run(d.String()+" "+key, func(t *testing.T) {
				r := newRig(t, Options{Dialect: d})
				r.container("c1", map[string]string{"user.foo": "bar", "security.devlxd.images": "true"})
				c := r.dial("c1")
				for _, off := range []string{"false", "0", "no", "OFF"} {
					for _, request := range []string{
						"GET /", "GET /1.0", "PATCH /1.0", "GET /1.0/config", "GET /1.0/config/user.foo", "GET /1.0/config/user.none",
						"GET /1.0/config/x", "GET /1.0/meta-data", "GET /1.0/devices", "GET /1.0/events", "GET /1.0/images/" + fp + "/export",
					} {
						r.set("c1", key, off)
						want := forbidden
						if d == DialectLXD && strings.Contains(request, "images") {
							want = errorJSON("403 Forbidden", 403, "Forbidden")
						}
						c.send(request + " HTTP/1.1\r\nHost: lxd\r\n\r\n")
						got := c.answer("GET")
						if open(d, request) {
							if got.status != 200 {
								t.Errorf("%s = %d; want 200", request, got.status)
							}
						} else if got.raw() != want {
							t.Errorf("%s with %s = %q;\nwant %q", request, off, got.raw(), want)
						}
					}
					c.send("GET /nope HTTP/1.1\r\nHost: lxd\r\n\r\n")
					if got := c.answer("GET"); got.status != 404 {
						t.Errorf("GET /nope = %d; want 404", got.status)
					}
				}
				for _, on := range []string{"true", "", "maybe", "1"} {
					r.set("c1", key, on)
					if got := c.get("/1.0/config/user.foo"); got.body != "bar" {
						t.Errorf("with %q = %q; want the value", on, got.raw())
					}
				}
			})
		}
	}
}

func TestRouteLabels(t *testing.T) {
	seen := make(map[string]bool)
	for r := range numRoutes {
		if s := r.String(); s == "" || s == "unknown" || seen[s] {
			t.Errorf("route %d has the label %q", r, s)
		} else {
			seen[s] = true
		}
	}
	if numRoutes.String() != "unknown" {
		t.Error("a value outside of the set has a label")
	}
}
