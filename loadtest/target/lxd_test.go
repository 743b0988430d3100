package target

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// fakeLXD is the part of the API of a LXD daemon that is used. What it says has the form of LXD 5.0.2's answers.
type fakeLXD struct {
	path   string
	server *http.Server

	mu      sync.Mutex
	config  map[string]map[string]string // by "project/name"
	list    []map[string]any             // what else is said of the instances
	refuse  string                       // why changes are refused; "": they are not
	async   bool                         // changes are operations, as in LXD 5.21
	failed  string                       // why operations fail
	patches int
	waited  []string // query of each operation that was waited for
}

func newFakeLXD(t *testing.T) *fakeLXD {
	t.Helper()
	dir, err := os.MkdirTemp("", "dxl-")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeLXD{path: filepath.Join(dir, "unix.socket"), config: make(map[string]map[string]string)}
	ln, err := net.Listen("unix", f.path)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /1.0", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"environment": map[string]any{"server_name": "here", "server_pid": 4711}})
	})
	mux.HandleFunc("GET /1.0/instances", f.instances)
	mux.HandleFunc("PATCH /1.0/instances/{name}", f.patch)
	mux.HandleFunc("GET /1.0/operations/{id}/wait", f.wait)
	f.server = &http.Server{Handler: mux}
	go func() { _ = f.server.Serve(ln) }()
	t.Cleanup(func() {
		_ = f.server.Close()
		_ = os.RemoveAll(dir)
	})
	return f
}

func answer(w http.ResponseWriter, metadata any) {
	_ = json.NewEncoder(w).Encode(map[string]any{"type": "sync", "status": "Success", "status_code": 200, "metadata": metadata})
}

func refuse(w http.ResponseWriter, code int, text string) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"type": "error", "error": text, "error_code": code, "metadata": nil})
}

// add adds a running container; more replaces or adds to what the daemon says of it.
func (f *fakeLXD) add(project, name string, pid int, config map[string]string, more map[string]any) {
	about := map[string]any{
		"name": name, "project": project, "type": "container", "location": "none", "status": "Running",
		"state": map[string]any{"pid": pid, "status": "Running"}, "expanded_config": config,
	}
	maps.Copy(about, more)
	f.list = append(f.list, about)
	f.config[project+"/"+name] = make(map[string]string)
	maps.Copy(f.config[project+"/"+name], config)
}

func (f *fakeLXD) instances(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.FormValue("recursion") != "2" {
		refuse(w, http.StatusBadRequest, "only paths were asked for")
		return
	}
	var list []map[string]any
	for _, about := range f.list {
		if about["project"] == "default" || r.FormValue("all-projects") == "true" {
			about = maps.Clone(about)
			about["config"] = f.config[fmt.Sprintf("%s/%s", about["project"], about["name"])]
			list = append(list, about)
		}
	}
	answer(w, list)
}

// patch merges keys into a configuration, and removes those that are "" (LXD doc/rest-api.md, PATCH).
func (f *fakeLXD) patch(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.patches++
	project := r.FormValue("project")
	config, ok := f.config[project+"/"+r.PathValue("name")]
	var body struct {
		Config map[string]string `json:"config"`
	}
	switch err := json.NewDecoder(r.Body).Decode(&body); {
	case !ok:
		refuse(w, http.StatusNotFound, "Instance not found")
		return
	case err != nil:
		refuse(w, http.StatusBadRequest, err.Error())
		return
	case f.refuse != "":
		refuse(w, http.StatusInternalServerError, f.refuse)
		return
	}
	for key, value := range body.Config {
		if config[key] = value; value == "" {
			delete(config, key)
		}
	}
	if !f.async {
		answer(w, map[string]any{})
		return
	}
	operation := "/1.0/operations/0815"
	if project != "default" {
		operation += "?project=" + project // (LXD lxd/operations/operations.go: Render)
	}
	w.WriteHeader(http.StatusAccepted)
	_ = json.NewEncoder(w).Encode(map[string]any{"type": "async", "operation": operation, "status_code": 100})
}

func (f *fakeLXD) wait(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waited = append(f.waited, r.URL.RawQuery)
	if f.failed != "" {
		answer(w, map[string]any{"status_code": 400, "err": f.failed})
		return
	}
	answer(w, map[string]any{"status_code": 200, "err": ""})
}

func (f *fakeLXD) configOf(name string) map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.config[name])
}

func (f *fakeLXD) find(t *testing.T) *LXD {
	t.Helper()
	d, err := FindLXD(context.Background(), "lxd", f.path, "/guest/sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.api.CloseIdleConnections)
	return d
}

// TestFindLXD: containers that guests can ask from are found, and nothing else.
func TestFindLXD(t *testing.T) {
	f := newFakeLXD(t)
	f.add("default", "c2", 102, nil, nil)
	f.add("default", "c1", 101, nil, map[string]any{"location": "here"})
	f.add("other", "c3", 103, nil, nil)
	f.add("default", "stopped", 0, nil, nil)
	f.add("default", "vm", 104, nil, map[string]any{"type": "virtual-machine"})
	f.add("default", "elsewhere", 105, nil, map[string]any{"location": "there"})
	f.add("default", "mute", 106, map[string]string{"security.devlxd": "False"}, nil)
	f.add("default", "silent", 107, map[string]string{"security.guestapi": "no"}, nil)
	f.add("default", "twice", 108, nil, nil)
	f.add("other", "twice", 109, nil, nil)
	f.add("default", "once", 110, nil, nil)
	f.add("other", "once", 0, nil, nil)
	f.add("other", "nostate", 0, nil, map[string]any{"state": nil})
	d := f.find(t)
	want := []Instance{{"c1", "default", 101}, {"c2", "default", 102}, {"c3", "other", 103}, {"once", "default", 110}}
	if got := d.Instances(); !slices.Equal(got, want) {
		t.Errorf("instances = %v; want %v", got, want)
	}
	if d.Name() != "lxd" || d.Socket() != "/guest/sock" || d.Features() != Identity|Routes|Events {
		t.Errorf("%s at %s with features %b", d.Name(), d.Socket(), d.Features())
	}
	// It is this process that listens, whatever the daemon says of itself.
	if d.PID() != os.Getpid() {
		t.Errorf("pid %d; want %d", d.PID(), os.Getpid())
	}
}

func TestFindLXDFails(t *testing.T) {
	if _, err := FindLXD(context.Background(), "lxd", filepath.Join(t.TempDir(), "none"), "/guest/sock"); err == nil {
		t.Error("a daemon that is not there was found")
	}
	f := newFakeLXD(t)
	f.add("default", "stopped", 0, nil, nil)
	if _, err := FindLXD(context.Background(), "lxd", f.path, "/guest/sock"); !errors.Is(err, ErrNoInstances) {
		t.Errorf("error = %v; want %v", err, ErrNoInstances)
	}
}

// TestLXDKeys: keys are set in the right instance, synchronously or by an operation, and Close leaves everything as it was.
func TestLXDKeys(t *testing.T) {
	for _, async := range []bool{false, true} {
		t.Run(fmt.Sprintf("async %v", async), func(t *testing.T) {
			f := newFakeLXD(t)
			f.async = async
			before := map[string]string{"cloud-init.user-data": "#cloud-config\nmine: 1\n", "user.other": "stays"}
			f.add("default", "c1", 101, before, nil)
			f.add("other", "c2", 102, nil, nil)
			f.add("default", "c3", 103, before, nil)
			d := f.find(t)
			containers := []Container{
				{Name: "c1", Config: map[string]string{Key: "001", "cloud-init.user-data": "ours"}},
				{Name: "c2", Config: map[string]string{Key: "002"}},
			}
			most := 0
			err := errors.Join(d.Register(context.Background(), containers, func(n int) { most = max(most, n) }),
				d.Set(context.Background(), "c2", "user.event", "7"))
			if err != nil || most != 2 {
				t.Fatalf("%d of 2 are registered: %v", most, err)
			}
			for name, want := range map[string]map[string]string{
				"default/c1": {Key: "001", "cloud-init.user-data": "ours", "user.other": "stays"}, "other/c2": {Key: "002", "user.event": "7"},
			} {
				if got := f.configOf(name); !maps.Equal(got, want) {
					t.Errorf("%s = %v; want %v", name, got, want)
				}
			}
			if async != slices.Contains(f.waited, "project=other") || async != slices.Contains(f.waited, "") {
				t.Errorf("operations that were waited for: %q", f.waited)
			}
			f.patches = 0
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			for name, want := range map[string]map[string]string{"default/c1": before, "other/c2": {}, "default/c3": before} {
				if got := f.configOf(name); !maps.Equal(got, want) {
					t.Errorf("after Close %s = %v; want %v", name, got, want)
				}
			}
			if f.patches != 2 {
				t.Errorf("Close has changed %d instances; want the 2 that were changed", f.patches)
			}
		})
	}
}

// TestLXDRefuses: what a daemon says against a change is in the error.
func TestLXDRefuses(t *testing.T) {
	f := newFakeLXD(t)
	f.add("default", "c1", 101, nil, nil)
	d := f.find(t)
	set := func(name string) error { return d.Set(context.Background(), name, "user.event", "1") }
	if err := set("c9"); !errors.Is(err, errNotFound) {
		t.Errorf("unknown container: %v; want %v", err, errNotFound)
	}
	f.refuse = "Disk is full"
	if err := set("c1"); err == nil || !strings.Contains(err.Error(), f.refuse) {
		t.Errorf("refused change: %v", err)
	}
	f.refuse, f.async, f.failed = "", true, "It broke"
	if err := set("c1"); err == nil || !strings.Contains(err.Error(), f.failed) {
		t.Errorf("failed operation: %v", err)
	}
	for what, err := range map[string]error{"bind": d.Bind(context.Background(), "c1", 1), "restart": d.Restart(context.Background())} {
		if !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v; want %v", what, err, ErrUnsupported)
		}
	}
}

// TestLXDClose: an instance that is gone is no error, one that is not set back is named, and keeps nobody else from being set back.
func TestLXDClose(t *testing.T) {
	f := newFakeLXD(t)
	for i := range 10 {
		f.add("default", fmt.Sprintf("c%d", i), 100+i, nil, nil)
	}
	d := f.find(t)
	for _, i := range d.Instances() {
		if err := d.Set(context.Background(), i.Name, Key, "1"); err != nil {
			t.Fatal(err)
		}
	}
	f.mu.Lock()
	delete(f.config, "default/c0")
	f.mu.Unlock()
	if err := d.Close(); err != nil {
		t.Errorf("an instance that is gone: %v", err)
	}
	for i := 1; i < 10; i++ {
		if got := f.configOf(fmt.Sprintf("default/c%d", i)); len(got) > 0 {
			t.Errorf("c%d keeps %v", i, got)
		}
	}
	_ = f.server.Close()
	err := d.Close()
	if !errors.Is(err, errNotSetBack) || !strings.Contains(err.Error(), Key+" of 10 containers (such as c0)") {
		t.Errorf("a daemon that is gone: %v; want %v", err, errNotSetBack)
	}
}
