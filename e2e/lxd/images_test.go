package lxd

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"devlxd/internal/lxdtest"
)

// askImages asks for images while the container may not have any, while there is none that it may have, and for a public one.
func (p *pair) askImages() {
	p.t.Helper()
	const path = "/1.0/images/FINGERPRINT/export"
	some := []question{get(path), request("POST", path), get("/1.0/images/none/export")}
	all := append(some, request("HEAD", path), get(path, "Range: bytes=10-19"), get(path, "Range: bytes=0-0,5-6"), get(path, "Range: bytes=99999999-"),
		get(path, "If-Modified-Since: Mon, 01 Jan 2400 00:00:00 GMT"), get(path+"?project=default"), get(path+"?project=other"),
		get("/1.0/images/FINGERPRINT"), get(path+"/"),
		named("GET the beginning of the fingerprint", get("/1.0/images/"+p.daemon.Image[:12]+"/export")),
		named("GET the fingerprint in upper case", get("/1.0/images/"+strings.ToUpper(p.daemon.Image)+"/export")))
	ask := func(when string, list []question) {
		for _, q := range list {
			q.name = when + ": " + q.name
			p.ask(q)
		}
	}
	ask("images off", some)
	p.container.Set(map[string]string{p.kind.GuestKey() + ".images": "true"})
	p.apply()
	ask("a private image", some)
	p.daemon.Do("PATCH", "/1.0/images/"+p.daemon.Image, map[string]any{"public": true}, nil)
	p.importImage()
	ask("a public image", all)
}

// importImage gives devlxd the file that the daemon keeps of its image, or waits until it has found it.
func (p *pair) importImage() {
	p.t.Helper()
	if p.mirrored {
		lxdtest.WaitFor(p.t.Context(), p.t, patience, func() string {
			if list := p.devlxd.CLI("image", "list", "-f", "json"); !strings.Contains(list, `"public":true`) && !strings.Contains(list, `"public": true`) {
				return "devlxd has no public image: " + list
			}
			return ""
		})
		return
	}
	file := filepath.Join(p.daemon.Dir, "images", p.daemon.Image)
	copied := filepath.Join(p.t.TempDir(), "image.tar")
	data, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(copied, data, 0o600)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.devlxd.CLI("image", "import", copied, "--public")
}

// askGate takes the guest API away and gives it back, while connections are open.
func (p *pair) askGate() {
	p.t.Helper()
	theirs, ours := p.theirs(), p.ours()
	defer theirs.Close()
	defer ours.Close()
	streams := [2]*stream{follow(p.t, "gate", p.theirs(), "", true), follow(p.t, "gate", p.ours(), "", true)}
	ask := func(when string) {
		for _, q := range []question{get("/1.0/config/user.plain"), get("/1.0"), get("/"), get("/nope"), patch("/1.0", `{"state":"Ready"}`)} {
			said, answered := askOn(theirs, q), askOn(ours, q)
			p.table.compare(when+": "+q.name, p.same(said), p.same(answered))
		}
	}
	ask("an open connection")
	set := func(key, value string) {
		keepOpen(ours, func() {
			p.container.Set(map[string]string{key: value})
			p.apply()
		})
	}
	set(p.kind.GuestKey(), "false")
	ask("switched off, on an open connection")
	set("user.secret", "told to nobody")
	time.Sleep(10 * breath)
	said, answered := strip(streams[0].list()), strip(streams[1].list())
	p.table.compare("switched off, what a stream is told", showEvents(said), showEvents(answered))
	p.table.compare("switched off, a new connection", p.reach(p.kind.GuestSocket()), p.reach(oursDir+"/sock"))
	set(p.kind.GuestKey(), "")
	ask("switched on again, on an open connection")
	p.ask(named("switched on again, on a new connection", get("/1.0/config/user.secret")))
}

// reach says what a connection to a socket meets.
func (p *pair) reach(socket string) string {
	conn, err := lxdtest.DialPID(p.pid, socket)
	if err != nil {
		return "no socket"
	}
	defer conn.Close()
	return ask(conn, get("/1.0/config/user.plain"))
}
