package lxd

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"devlxd/internal/lxdapi"
	"devlxd/source"
)

// Answers of real daemons on a host of their own.
const (
	recordings      = "testdata/lxd-5.0.2"
	incusRecordings = "testdata/incus-6.0.4"
)

// serveRecorded answers each path with a file of a folder.
func serveRecorded(t *testing.T, folder string, answers map[string]string) *client {
	t.Helper()
	dir, err := os.MkdirTemp("", "lxd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, lxdapi.SocketName)
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		file, ok := answers[r.Method+" "+r.URL.RequestURI()]
		if !ok {
			t.Errorf("unexpected request: %s %s", r.Method, r.URL.RequestURI())
		}
		code := http.StatusOK
		switch file {
		case "gone.json":
			code = http.StatusNotFound
		case "refused.json":
			code = http.StatusInternalServerError
		}
		b, err := os.ReadFile(filepath.Join(folder, file))
		if err != nil {
			t.Error(err)
		}
		w.WriteHeader(code)
		_, _ = w.Write(b)
	})}
	go func() { _ = s.Serve(ln) }()
	c := newClient(socket)
	t.Cleanup(func() { c.close(); _ = s.Close() })
	return c
}

// TestRecorded: what a real daemon answers is understood, and what is asked is what it was asked then.
func TestRecorded(t *testing.T) {
	c := serveRecorded(t, recordings, map[string]string{
		"GET /1.0": "server.json",
		"GET /1.0/instances?all-projects=true&recursion=1": "instances.json",
		"GET /1.0/instances/m2?project=default":            "instance.json",
		"GET /1.0/instances/m2/state?project=default":      "state.json",
		"GET /1.0/images?recursion=1":                      "images.json",
		"GET /1.0/instances/gone?project=p1":               "gone.json",
		"PATCH /1.0/instances/c1?project=default":          "refused.json",
	})
	ctx := context.Background()
	s, err := c.server(ctx)
	if err != nil || s.Environment.Server != "lxd" || s.Environment.Version != "5.0.2" || s.member() != "none" {
		t.Errorf("server %+v, %v", s, err)
	}
	var names []string
	if err := c.instances(ctx, func(i *instance) {
		if i.mirrored(s.member()) {
			names = append(names, i.key().registryName())
		}
	}); err != nil {
		t.Error(err)
	}
	if want := []string{"c1", "m2", "priv", "stopped", "p1_x1"}; !equalSets(names, want) {
		t.Errorf("instances %v; want %v", names, want)
	}
	i, err := c.instance(ctx, key{"default", "m2"})
	if err != nil {
		t.Fatal(err)
	}
	spec := i.spec()
	if got := spec.Config["cloud-init.user-data"]; got != "#cloud-config" || spec.InstanceID != i.ExpandedConfig[source.KeyInstanceID] || len(spec.InstanceID) != 36 || spec.Hostname != "m2" {
		t.Errorf("user-data %q, instance id %q, host name %q", got, spec.InstanceID, spec.Hostname)
	}
	for k := range spec.Config {
		if !strings.HasPrefix(k, "user.") && !strings.HasPrefix(k, "cloud-init.") && k != "volatile.eth0.hwaddr" {
			t.Errorf("kept %s", k)
		}
	}
	if spec.Devices["dv"]["path"] != "/dev/lxd" || spec.Devices["root"]["type"] != "disk" || !i.runs() || i.privileged() || i.Profiles[0] != "default" {
		t.Errorf("%+v", i)
	}
	if pid, err := c.initPID(ctx, key{"default", "m2"}); err != nil || pid < 2 {
		t.Errorf("pid %d, %v", pid, err)
	}
	images, err := c.images(ctx)
	if err != nil || len(images) != 1 || len(images[0].Fingerprint) != 64 || images[0].Type != typeContainer {
		t.Errorf("images %+v, %v", images, err)
	}
	if _, err := c.instance(ctx, key{"p1", "gone"}); !errors.Is(err, lxdapi.ErrNotFound) || strings.Contains(err.Error(), "\n") {
		t.Errorf("an instance that is not there: %v", err)
	}
	if err := c.setConfig(ctx, c1, keyReady, "true"); !refuses(err, keyReady) || errors.Is(err, lxdapi.ErrNotFound) {
		t.Errorf("the state of a guest: %v", err)
	}
}

// TestRecordedIncus: Incus answers in the same way.
func TestRecordedIncus(t *testing.T) {
	c := serveRecorded(t, incusRecordings, map[string]string{
		"GET /1.0": "server.json",
		"GET /1.0/instances?all-projects=true&recursion=1": "instances.json",
		"GET /1.0/instances/i1?project=default":            "instance.json",
		"GET /1.0/instances/i1/state?project=default":      "state.json",
		"GET /1.0/images?recursion=1":                      "images.json",
		"GET /1.0/instances/gone?project=p1":               "gone.json",
	})
	ctx := context.Background()
	s, err := c.server(ctx)
	if err != nil || s.Environment.Server != "incus" || s.Environment.Version != "6.0.4" || s.member() != "none" {
		t.Errorf("server %+v, %v", s, err)
	}
	var names []string
	if err := c.instances(ctx, func(i *instance) {
		if i.mirrored(s.member()) && i.runs() {
			names = append(names, i.key().registryName())
		}
	}); err != nil || !equalSets(names, []string{"i1", "p1_x1"}) {
		t.Errorf("instances %v, %v", names, err)
	}
	i, err := c.instance(ctx, key{"default", "i1"})
	if err != nil {
		t.Fatal(err)
	}
	if spec := i.spec(); spec.Config["user.a"] != "2" || spec.Config["security.guestapi"] != "true" || len(spec.InstanceID) != 36 || spec.Devices["dd"]["type"] != "none" {
		t.Errorf("%+v", spec)
	}
	pid, err := c.initPID(ctx, key{"default", "i1"})
	images, err2 := c.images(ctx)
	if err != nil || err2 != nil || pid < 2 || len(images) != 1 {
		t.Errorf("pid %d, %v; images %v, %v", pid, err, images, err2)
	}
	if _, err := c.instance(ctx, key{"p1", "gone"}); !errors.Is(err, lxdapi.ErrNotFound) {
		t.Errorf("an instance that is not there: %v", err)
	}
}

func equalSets(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// TestCutAnywhere: a list that ends early is an error wherever it ends, and nothing else than a list is taken for one.
func TestCutAnywhere(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join(recordings, "instances.json"))
	if err != nil {
		t.Fatal(err)
	}
	var body string
	socket := filepath.Join(t.TempDir(), lxdapi.SocketName)
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })}
	go func() { _ = s.Serve(ln) }()
	c := newClient(socket)
	t.Cleanup(func() { c.close(); _ = s.Close() })
	read := func(text string) error {
		body = text
		return c.instances(t.Context(), func(*instance) {})
	}
	text := strings.TrimRight(string(whole), "\n")
	if err := read(text); err != nil {
		t.Fatal(err)
	}
	for n := range len(text) {
		if err := read(text[:n]); !errors.Is(err, lxdapi.ErrAnswer) {
			t.Fatalf("an answer of %d of %d bytes: %v", n, len(text), err)
		}
	}
	for _, wrong := range []string{"[]", "{}", `{"metadata":3}`, `{"metadata":{"a":1}}`, `{"metadata":["c1"]}`, "null", "<html>"} {
		if err := read(wrong); !errors.Is(err, lxdapi.ErrAnswer) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	if err := read(`{"metadata":null,"type":"sync"}`); err != nil {
		t.Errorf("an empty list: %v", err)
	}
}

// TestRecordedEvents: what a real daemon has announced while all kinds of things were done.
func TestRecordedEvents(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(recordings, "events.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(b)) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		c := e.read()
		text := e.Metadata.Action + ": " + c.about.String()
		for _, k := range c.keys {
			text += " " + k.registryName()
		}
		if c.name != "" {
			text += " " + c.name
		}
		if c.old != "" {
			text += " was " + c.old
		}
		if !slices.Contains(got, text) {
			got = append(got, text)
		}
	}
	want := []string{
		"instance-updated: instance c1", "profile-updated: profile default", "project-created: project p1", "project-updated: project p1",
		"instance-created: instance p1_c2", "instance-started: instance p1_c2", "instance-stopped: instance p1_c2",
		"instance-renamed: instance p1_c3 p1_c2", "instance-created: instance p1_c4", "instance-restarted: instance c1",
		"instance-paused: instance c1", "instance-resumed: instance c1", "instance-exec: other", "profile-created: profile pp",
		"profile-updated: profile pp", "profile-renamed: profile pq was pp", "profile-updated: profile pq", "profile-deleted: profile pq",
		"instance-snapshot-created: other", "instance-restored: instance p1_c3", "image-updated: image", "image-alias-created: image",
		"instance-created: instance c4", "instance-deleted: instance p1_c4", "instance-snapshot-deleted: other", "instance-deleted: instance p1_c3",
		"instance-deleted: instance c4", "project-deleted: project p1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("read as\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// FuzzEvent: whatever is announced, it is read without a panic, and names no instance without a name.
func FuzzEvent(f *testing.F) {
	f.Add("instance-renamed", "/1.0/instances/a%2fb?project=p", "p", "old")
	f.Add("", "/1.0/instances/", "", "")
	f.Add("cluster-member-evacuated", "/1.0/cluster/members/x", "", "")
	f.Add("instance-updated", "/1.0/instances/%zz", "", "")
	f.Fuzz(func(t *testing.T, action, source, project, old string) {
		e := event{Project: project}
		e.Metadata.Action, e.Metadata.Source = action, source
		e.Metadata.Context = map[string]any{"old_name": old, "old_project": 3}
		c := e.read()
		for _, k := range c.keys {
			if k.name == "" || k.project == "" {
				t.Errorf("%+v", c)
			}
		}
		if (c.about == aboutInstance) != (len(c.keys) > 0) {
			t.Errorf("%+v", c)
		}
	})
}
