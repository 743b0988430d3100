package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
)

// fakeDaemon has one profile and one container of it that runs. It mounts as LXD 5.0.2 does: devices first, in a change, and with the key the
// daemon's own, or the topmost mount away.
type fakeDaemon struct {
	t      *testing.T
	mu     sync.Mutex
	socket string
	server string
	doc    document
	mounts []string // at /dev/lxd, the topmost last
	puts   int
	fail   int                 // this put fails
	before func(d *fakeDaemon) // runs once before a put, as another client
}

func newFakeDaemon(t *testing.T, server string) *fakeDaemon {
	t.Helper()
	d := &fakeDaemon{t: t, server: server, socket: filepath.Join(t.TempDir(), "sock"), mounts: []string{"own"}}
	d.doc = document{Description: "kept", Config: map[string]string{"limits.cpu": "2"}, Devices: map[string]map[string]string{"root": {"type": "disk", "path": "/"}}}
	ln, err := net.Listen("unix", d.socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: d}
	go s.Serve(ln)
	t.Cleanup(func() { s.Close() })
	return d
}

func (d *fakeDaemon) etag() string {
	text, _ := json.Marshal(d.doc)
	return fmt.Sprintf("%x", sha256.Sum256(text))
}

func (d *fakeDaemon) key() string {
	if d.server == "incus" {
		return "security.guestapi"
	}
	return "security.devlxd"
}

func (d *fakeDaemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	reply := func(status int, v map[string]any) { w.WriteHeader(status); _ = json.NewEncoder(w).Encode(v) }
	sync := func(metadata any) { reply(200, map[string]any{"type": "sync", "metadata": metadata}) }
	refuse := func(status int, text string) {
		reply(status, map[string]any{"type": "error", "error": text, "error_code": status})
	}
	instance := r.URL.Path == "/1.0/instances/c1"
	switch {
	case r.URL.Path == "/1.0":
		sync(map[string]any{"auth": "trusted", "environment": map[string]any{"server": d.server}})
	case r.URL.Path == "/1.0/operations/7/wait":
		sync(map[string]any{"status_code": 200})
	case !instance && r.URL.Path != "/1.0/profiles/default" || r.URL.Query().Get("project") != "default":
		refuse(404, "Profile not found")
	case r.Method == http.MethodGet:
		w.Header().Set("ETag", d.etag())
		sync(d.doc)
	case r.Method == http.MethodPut:
		if f := d.before; f != nil {
			d.before = nil
			f(d)
		}
		d.puts++
		var doc document
		switch err := json.NewDecoder(r.Body).Decode(&doc); {
		case err != nil:
			refuse(400, err.Error())
		case r.Header.Get("If-Match") != d.etag():
			refuse(412, "Precondition failed")
		case d.puts == d.fail:
			refuse(500, "boom")
		default:
			d.follow(doc)
			if instance {
				reply(202, map[string]any{"type": "async", "operation": "/1.0/operations/7"})
				return
			}
			sync(nil)
		}
	}
}

// follow changes the profile, and the mounts of the container.
func (d *fakeDaemon) follow(doc document) {
	was, is := d.doc.Devices["devlxd"], doc.Devices["devlxd"]
	if !reflect.DeepEqual(was, is) {
		if was != nil {
			d.pop()
		}
		if is != nil {
			d.mounts = append(d.mounts, is["source"])
		}
	}
	closed := func(v string) bool { return v == "false" }
	switch before, now := closed(d.doc.Config[d.key()]), closed(doc.Config[d.key()]); {
	case !before && now:
		d.pop()
	case before && !now:
		d.mounts = append(d.mounts, "own")
	}
	d.doc = doc
}

func (d *fakeDaemon) pop() {
	if len(d.mounts) == 0 {
		d.t.Error("nothing is mounted that could be taken away")
		return
	}
	d.mounts = d.mounts[:len(d.mounts)-1]
}

// run runs attach or detach, and returns what it prints.
func (d *fakeDaemon) run(args ...string) (string, error) {
	root := newRootCommand()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetArgs(append(args, "--socket", d.socket))
	err := root.Execute()
	return out.String(), err
}

func (d *fakeDaemon) must(args ...string) string {
	d.t.Helper()
	out, err := d.run(args...)
	if err != nil {
		d.t.Fatalf("%v: %v", args, err)
	}
	return out
}

func (d *fakeDaemon) mounted(want ...string) {
	d.t.Helper()
	if !slices.Equal(d.mounts, want) {
		d.t.Fatalf("at /dev/lxd are %q; want %q", d.mounts, want)
	}
}

func TestAttachAndDetach(t *testing.T) {
	for _, c := range []struct{ server, was string }{{"lxd", ""}, {"lxd", "true"}, {"lxd", "false"}, {"incus", ""}} {
		t.Run(c.server+c.was, func(t *testing.T) {
			d := newFakeDaemon(t, c.server)
			if c.was != "" {
				d.doc.Config[d.key()] = c.was
			}
			own := []string{"own"}
			if c.was == "false" {
				own, d.mounts = []string{}, nil
			}
			before := d.doc.with("", "", nil)
			dry := d.must("attach", "--run-dir", "/r", "--dry-run")
			if d.puts != 0 || !strings.Contains(dry, "would add device devlxd, /r/guest at /dev/lxd") {
				t.Fatalf("the dry run says %q and has made %d changes", dry, d.puts)
			}
			d.must("attach", "--run-dir", "/r")
			d.mounted("/r/guest")
			if d.doc.Config[d.key()] != "false" || d.doc.Config["limits.cpu"] != "2" || d.doc.Description != "kept" {
				t.Errorf("attached it is %+v", d.doc)
			}
			puts := d.puts
			if out := d.must("attach", "--run-dir", "/r"); out != "profile default: nothing to do\n" || d.puts != puts {
				t.Errorf("attached again: %q", out)
			}
			d.must("attach", "--run-dir", "/other")
			d.mounted("/other/guest")
			d.must("detach", "--dry-run")
			d.mounted("/other/guest")
			d.must("detach")
			d.mounted(own...)
			if !reflect.DeepEqual(d.doc, before) {
				t.Errorf("detached it is %+v; before it was %+v", d.doc, before)
			}
			if out := d.must("detach"); out != "profile default: nothing to do\n" {
				t.Errorf("detached again: %q", out)
			}
		})
	}
}

func TestAttachContainer(t *testing.T) {
	d := newFakeDaemon(t, "lxd")
	d.must("attach", "--container", "c1", "--run-dir", "/r")
	d.mounted("/r/guest")
	d.must("detach", "--container", "c1")
	d.mounted("own")
}

// TestAttachFails: whatever step fails, it is as it was.
func TestAttachFails(t *testing.T) {
	for fail := 1; fail <= 2; fail++ {
		d := newFakeDaemon(t, "lxd")
		before := d.doc.with("", "", nil)
		d.fail = fail
		if out, err := d.run("attach"); err == nil || !strings.Contains(err.Error(), "boom") || out != "" {
			t.Errorf("step %d: %q, %v", fail, out, err)
		}
		d.mounted("own")
		if !reflect.DeepEqual(d.doc, before) {
			t.Errorf("step %d has left %+v", fail, d.doc)
		}
		d.must("attach", "--run-dir", "/r")
		d.fail = d.puts + fail
		if _, err := d.run("detach"); err == nil || !strings.Contains(err.Error(), "boom") {
			t.Errorf("step %d of detach: %v", fail, err)
		}
		d.mounted("/r/guest")
	}
}

// TestAttachBesideOthers: what another client writes meanwhile is kept.
func TestAttachBesideOthers(t *testing.T) {
	d := newFakeDaemon(t, "lxd")
	d.before = func(d *fakeDaemon) { d.doc.Config["limits.cpu"] = "9" }
	d.must("attach", "--run-dir", "/r")
	d.mounted("/r/guest")
	if d.doc.Config["limits.cpu"] != "9" {
		t.Error("the change of another client is lost")
	}
}

func TestAttachRefuses(t *testing.T) {
	d := newFakeDaemon(t, "lxd")
	for _, c := range []struct {
		name, device string
		config       map[string]string
		text         string
	}{
		{"device of that name", "devlxd", map[string]string{"type": "nic"}, "rename or remove"},
		{"device there", "x", map[string]string{"type": "disk", "path": "dev/lxd/"}, "another device at /dev/lxd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d.doc.Devices = map[string]map[string]string{c.device: c.config}
			if _, err := d.run("attach"); err == nil || !strings.Contains(err.Error(), c.text) || d.puts != 0 {
				t.Errorf("error = %v after %d changes; want %q", err, d.puts, c.text)
			}
		})
	}
	for _, args := range [][]string{{"attach", "--profile", "none"}, {"attach", "--project", "none"}, {"detach", "--container", "none"}} {
		if _, err := d.run(args...); err == nil || !strings.Contains(err.Error(), "is not there") {
			t.Errorf("%v: %v", args, err)
		}
	}
	d.socket = filepath.Join(t.TempDir(), "none")
	if _, err := d.run("attach"); err == nil || !strings.Contains(err.Error(), "no LXD or Incus daemon answers") {
		t.Errorf("without a daemon: %v", err)
	}
}

// TestAttachFinds: without --socket the daemon is found as its own client finds it, and never guessed.
func TestAttachFinds(t *testing.T) {
	d := newFakeDaemon(t, "incus")
	run := func() error {
		root := newRootCommand()
		root.SetOut(io.Discard)
		root.SetArgs([]string{"attach", "--run-dir", "/r"})
		return root.Execute()
	}
	for name, value := range map[string]string{"LXD_SOCKET": "", "LXD_DIR": "", "INCUS_SOCKET": "", "INCUS_DIR": filepath.Dir(d.socket)} {
		t.Setenv(name, value)
	}
	if err := run(); err == nil || !strings.Contains(err.Error(), filepath.Dir(d.socket)+"/unix.socket: give the socket of the daemon with --socket") {
		t.Errorf("no socket there: %v", err)
	}
	if err := os.Symlink(d.socket, filepath.Join(filepath.Dir(d.socket), "unix.socket")); err != nil {
		t.Fatal(err)
	}
	if err := run(); err != nil {
		t.Error(err)
	}
	d.mounted("/r/guest")
	t.Setenv("LXD_SOCKET", d.socket)
	if err := run(); err == nil || !strings.Contains(err.Error(), "both LXD and Incus are here") {
		t.Errorf("two daemons: %v", err)
	}
}

func TestAttachRunDir(t *testing.T) {
	d := newFakeDaemon(t, "lxd")
	for _, args := range [][]string{{"attach"}, {"attach", "lxc"}, {"detach"}} {
		if _, err := d.run(append(args, "--run-dir", "")...); !errors.As(err, &usage{}) || d.puts != 0 {
			t.Errorf("%v with an empty --run-dir: %v after %d changes; want an error of usage", args, err, d.puts)
		}
	}
}

func TestAttachPrints(t *testing.T) {
	d := &fakeDaemon{t: t}
	for runtime, want := range map[string]string{
		"lxc":    "lxc.mount.entry = /r/guest dev/lxd none bind,ro,create=dir 0 0\n",
		"nspawn": "--bind-ro=/r/guest:/dev/lxd\n",
		"podman": "-v /r/guest:/dev/lxd:ro\n",
	} {
		if got := d.must("attach", runtime, "--run-dir", "/r"); got != want {
			t.Errorf("%s: %q; want %q", runtime, got, want)
		}
	}
	if _, err := d.run("attach", "docker"); err == nil || !strings.Contains(err.Error(), "use lxc, nspawn or podman") {
		t.Errorf("docker: %v", err)
	}
}
