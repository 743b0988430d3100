package lxd

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"devlxd/internal/lxdapi"
)

// fake is a daemon that serves the part of the API that a mirror uses, with the faults that a test wants.
type fake struct {
	t      testing.TB
	socket string
	dir    string
	host   *fakeHost

	mu        sync.Mutex
	server    *http.Server // nil: the daemon is down
	instances map[key]*fakeInstance
	images    map[string]image
	profiles  map[string]map[string]string // user.* of each
	feeds     map[*fakeFeed]struct{}
	asked     map[string]int // requests by method and kind

	quit chan struct{} // closed by close

	// Faults.
	cut        int           // so many of the next answers about instances are cut off in the middle
	broken     int           // so many of the next answers are 500
	slow       time.Duration // before each answer, which is of before it
	during     func()        // called once, in the middle of the next list: after it was made and before it is sent
	duringOne  func()        // the same for one instance
	takesState bool          // the state of a guest may be set, as with Incus
	mangle     func(*event) []*event
	deaf       bool // feeds are neither read nor written
}

// fakeInstance is an instance of the daemon.
type fakeInstance struct {
	instance
	config  map[string]string
	devices map[string]map[string]string
	pid     int
}

func newFake(t testing.TB) *fake {
	dir, err := os.MkdirTemp("", "lxd") // short: a socket path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{
		t: t, dir: dir, socket: filepath.Join(dir, lxdapi.SocketName), host: newFakeHost(), instances: make(map[key]*fakeInstance),
		images: make(map[string]image), profiles: map[string]map[string]string{"default": {}}, feeds: make(map[*fakeFeed]struct{}), asked: make(map[string]int), quit: make(chan struct{}),
	}
	if err := os.Mkdir(filepath.Join(dir, imagesDir), 0o700); err != nil {
		t.Fatal(err)
	}
	f.up()
	return f
}

// close ends the daemon for good.
func (f *fake) close() {
	close(f.quit)
	f.down()
	_ = os.RemoveAll(f.dir)
}

// up starts the daemon, down ends it as a crash does.
func (f *fake) up() {
	_ = os.Remove(f.socket)
	ln, err := net.Listen("unix", f.socket)
	if err != nil {
		f.t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // it may be closed after another one was made
	s := &http.Server{Handler: http.HandlerFunc(f.serve)}
	f.mu.Lock()
	f.server = s
	f.mu.Unlock()
	go func() { _ = s.Serve(ln) }()
}

func (f *fake) down() {
	f.mu.Lock()
	s := f.server
	f.server = nil
	f.mu.Unlock()
	if s != nil {
		_ = s.Close()
	}
	f.drop()
}

// drop breaks the feeds.
func (f *fake) drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for feed := range f.feeds {
		_ = feed.conn.Close()
	}
	clear(f.feeds)
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/1.0")
	project := orDefault(r.URL.Query().Get("project"))
	if path == "/events" {
		f.feed(w, r)
		return
	}
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	f.mu.Lock()
	f.asked[r.Method+" "+parts[0]+strings.Repeat("/x", len(parts)-1)]++
	if f.broken > 0 {
		f.broken--
		f.mu.Unlock()
		f.fail(w, http.StatusInternalServerError, "broken as the test wants it")
		return
	}
	var metadata any
	code := http.StatusOK
	var during func()
	switch {
	case path == "":
		metadata = map[string]any{"environment": map[string]any{"server": "lxd", "server_version": "5.0.2", "server_name": "here", "server_clustered": true}}
	case path == "/images":
		metadata = slices.Collect(maps.Values(f.images))
	case path == "/instances":
		list := make([]instance, 0, len(f.instances))
		for _, i := range f.instances {
			list = append(list, f.show(i))
		}
		metadata = list
		during, f.during = f.during, nil
	default:
		metadata, code = f.one(r, parts, project)
		if len(parts) == 2 && r.Method == http.MethodGet {
			during, f.duringOne = f.duringOne, nil
		}
	}
	cut, slow := f.cut > 0 && parts[0] == "instances", f.slow
	if cut {
		f.cut--
	}
	f.mu.Unlock()
	time.Sleep(slow)
	if during != nil {
		during()
	}
	if code != http.StatusOK {
		f.fail(w, code, fmt.Sprint(metadata))
		return
	}
	body, err := json.Marshal(map[string]any{"type": "sync", "status": "Success", "status_code": 200, "metadata": metadata})
	if err != nil {
		panic(err)
	}
	if cut {
		body = body[:len(body)/2]
	}
	_, _ = w.Write(body)
}

// one answers about one instance; f.mu is held.
func (f *fake) one(r *http.Request, parts []string, project string) (metadata any, code int) {
	i := f.instances[key{project, parts[1]}]
	switch {
	case i == nil:
		return "Instance not found", http.StatusNotFound
	case len(parts) == 3:
		return map[string]any{"pid": i.pid}, http.StatusOK
	case r.Method != http.MethodPatch:
		return f.show(i), http.StatusOK
	}
	var change struct{ Config map[string]string }
	if err := json.NewDecoder(r.Body).Decode(&change); err != nil {
		return err.Error(), http.StatusBadRequest
	}
	if !f.takesState {
		return "Invalid config: Unknown configuration key: " + keyReady, http.StatusInternalServerError
	}
	maps.Copy(i.config, change.Config)
	f.announce("instance-updated", i.key(), nil)
	return nil, http.StatusOK
}

// fail is LXD's error form.
func (f *fake) fail(w http.ResponseWriter, code int, text string) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"type": "error", "error_code": code, "error": text})
}

// show expands an instance; f.mu is held.
func (f *fake) show(i *fakeInstance) instance {
	out := i.instance
	out.ExpandedConfig = make(map[string]string)
	for _, p := range i.Profiles {
		maps.Copy(out.ExpandedConfig, f.profiles[p])
	}
	maps.Copy(out.ExpandedConfig, i.config)
	out.ExpandedConfig["volatile.uuid"] = "secret"
	out.ExpandedDevices = make(map[string]map[string]string)
	for name, d := range i.devices {
		out.ExpandedDevices[name] = maps.Clone(d)
	}
	out.StatusCode = codeStopped
	if i.pid != 0 {
		out.StatusCode = codeRunning
	}
	return out
}

// announce sends an event to all feeds; f.mu is held.
func (f *fake) announce(action string, k key, context map[string]any) {
	path := "/1.0/instances/" + url.PathEscape(k.name)
	if k.project != defaultProject {
		path += "?project=" + url.QueryEscape(k.project)
	}
	f.announceAbout(action, path, k.project, context)
}

func (f *fake) announceAbout(action, path, project string, context map[string]any) {
	e := &event{Type: "lifecycle", Timestamp: time.Now(), Project: project}
	e.Metadata.Action, e.Metadata.Source, e.Metadata.Context = action, path, context
	events := []*event{e}
	if f.mangle != nil {
		events = f.mangle(e)
	}
	for feed := range f.feeds {
		for _, e := range events {
			feed.send(e)
		}
	}
}

// fakeFeed is one follower.
type fakeFeed struct {
	conn net.Conn
	out  chan []byte
}

func (c *fakeFeed) send(e *event) {
	b, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	select {
	case c.out <- b:
	default: // LXD drops a listener that does not read
		_ = c.conn.Close()
	}
}

func (f *fake) feed(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("type") != "lifecycle" || r.URL.Query().Get("all-projects") != "true" {
		f.fail(w, http.StatusBadRequest, "wrong query")
		return
	}
	conn, _, _, err := ws.UpgradeHTTP(r, w)
	if err != nil {
		return
	}
	c := &fakeFeed{conn: conn, out: make(chan []byte, 1<<14)}
	// LXD too begins to announce some time after it has answered the handshake, and to read after that.
	time.Sleep(2 * time.Millisecond)
	f.mu.Lock()
	deaf := f.deaf
	f.asked["events"]++
	if f.server == nil {
		_ = conn.Close()
	}
	f.feeds[c] = struct{}{}
	f.mu.Unlock()
	ended, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		defer close(ended)
		for !deaf {
			if _, _, err := wsutil.ReadClientData(conn); err != nil {
				return
			}
		}
	}()
	if !deaf {
		_ = wsutil.WriteServerMessage(conn, ws.OpPing, []byte("keepalive"))
	}
	for {
		select {
		case b := <-c.out:
			if !deaf && wsutil.WriteServerText(conn, b) != nil {
				return
			}
		case <-ended:
			if !deaf {
				return
			}
			ended = nil
		case <-f.quit:
			_ = conn.Close()
			<-gone
			return
		}
	}
}
