package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"devlxd/loadtest"
	"devlxd/loadtest/guests"
	"devlxd/loadtest/report"
	"devlxd/loadtest/target"
)

// someContainers are containers that exist, as far as a command can tell: the guests of another set.
func someContainers(t *testing.T, n int) (inits []int) {
	t.Helper()
	set, err := guests.Start(context.Background(), guests.Options{Count: n})
	if errors.Is(err, guests.ErrUnavailable) {
		t.Skipf("needs user and pid namespaces: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := set.Close(); err != nil {
			t.Error(err)
		}
	})
	for i := range n {
		inits = append(inits, set.PID(i))
	}
	return inits
}

// daemonOf is a devlxd whose containers can also be changed by the API of LXD, on the socket that it returns.
func daemonOf(t *testing.T, inits []int) (d *target.Devlxd, lxdSocket string) {
	t.Helper()
	d, err := target.StartDevlxd(context.Background(), target.Options{Binary: devlxdBinary})
	if err != nil {
		t.Fatal(err)
	}
	var list []map[string]any
	var containers []target.Container
	for i, pid := range inits {
		name := "box" + strconv.Itoa(i)
		containers = append(containers, target.Container{Name: name, PID: pid})
		list = append(list, map[string]any{"name": name, "type": "container", "state": map[string]any{"pid": pid}})
	}
	dir, err := os.MkdirTemp("", "dxa-")
	if err != nil {
		t.Fatal(err)
	}
	lxdSocket = filepath.Join(dir, "unix.socket")
	ln, err := net.Listen("unix", lxdSocket)
	if err != nil {
		t.Fatal(err)
	}
	answer := func(w http.ResponseWriter, metadata any) {
		_ = json.NewEncoder(w).Encode(map[string]any{"type": "sync", "metadata": metadata})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /1.0", func(w http.ResponseWriter, _ *http.Request) { answer(w, map[string]any{}) })
	mux.HandleFunc("GET /1.0/instances", func(w http.ResponseWriter, _ *http.Request) { answer(w, list) })
	mux.HandleFunc("PATCH /1.0/instances/{name}", func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Config map[string]string }
		err := json.NewDecoder(r.Body).Decode(&body)
		for key, value := range body.Config {
			err = errors.Join(err, d.Set(r.Context(), r.PathValue("name"), key, value))
		}
		if err != nil {
			_ = json.NewEncoder(w).Encode(map[string]any{"type": "error", "error": err.Error(), "error_code": 500})
			return
		}
		answer(w, map[string]any{})
	})
	server := &http.Server{Handler: mux}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() {
		if err := errors.Join(server.Close(), d.Close(), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	if err := d.Register(context.Background(), containers, nil); err != nil {
		t.Fatal(err)
	}
	return d, lxdSocket
}

// told is a target that keeps what it is told.
type told struct {
	target.Target
	containers []target.Container
}

func (r *told) Name() string             { return "told" }
func (r *told) PID() int                 { return 0 }
func (r *told) Close() error             { return nil }
func (r *told) Features() target.Feature { return target.Identity | target.Lifecycle }
func (r *told) Register(_ context.Context, containers []target.Container, _ func(int)) error {
	r.containers = containers
	return nil
}

// TestAttachTold: a server is told of the init processes of the containers, by the names that the daemon of --admin has for them, and
// that they cannot be stopped. A guest's own process would be one that ends before its container.
func TestAttachTold(t *testing.T) {
	needRoot(t)
	inits := someContainers(t, 3)
	d, lxdSocket := daemonOf(t, inits)
	s, err := newSession(context.Background(), &flags{containers: 2, socket: d.Socket(), admin: "lxd:" + lxdSocket})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	r := &told{}
	if err := errors.Join(s.start(context.Background()), s.add(context.Background(), r)); err != nil {
		t.Fatal(err)
	}
	if len(r.containers) != 2 {
		t.Fatalf("%d containers; want 2", len(r.containers))
	}
	for i, c := range r.containers {
		if want := "box" + strconv.Itoa(i); c.PID != inits[i] || c.Name != want {
			t.Errorf("container %d is %s with init %d; want %s with %d", i, c.Name, c.PID, want, inits[i])
		}
	}
	if s.targets[0].Features() != target.Identity {
		t.Errorf("features = %b; want those without stopping containers", s.targets[0].Features())
	}
}

// TestAttach: guests in containers that exist are answered as those: devlxd is told of their inits.
func TestAttach(t *testing.T) {
	needRoot(t)
	inits := someContainers(t, 3)
	var r report.Result
	load(t, &r, "request", "--attach", strings.Trim(strings.ReplaceAll(fmt.Sprint(inits), " ", ","), "[]"),
		"--connections", "6", "--duration", "200ms", "--warmup", "20ms")
	if !r.OK() || r.Containers != 3 || r.Connections != 6 {
		t.Errorf("result = %+v", r)
	}
}

// TestAttachToDaemon loads devlxd and another server from within the containers of the latter, by the names that it has for them.
func TestAttachToDaemon(t *testing.T) {
	needRoot(t)
	d, lxdSocket := daemonOf(t, someContainers(t, 3))
	var c report.Comparison
	load(t, &c, "compare", "--targets", "devlxd,socket", "--socket", d.Socket(), "--admin", "lxd:"+lxdSocket, "--rounds", "3",
		"--scenarios", "request,bootstorm,idle,fanout,churn", "--connections", "12", "--duration", "200ms", "--warmup", "20ms")
	seen := make(map[string][]string)
	for _, r := range c.Results {
		if !r.OK() || r.Containers != 3 {
			t.Errorf("%s against %s: %d containers, errors %v %v, lost %d", r.Title(), r.Target, r.Containers, r.ByKind, r.Examples, r.Lost)
		}
		seen[r.Scenario] = append(seen[r.Scenario], r.Target)
	}
	for _, scenario := range []loadtest.Scenario{loadtest.Request, loadtest.Bootstorm, loadtest.Idle, loadtest.Fanout} {
		if got := seen[string(scenario)]; !slices.Contains(got, "devlxd") || !slices.Contains(got, "lxd") {
			t.Errorf("%s was done against %v", scenario, got)
		}
	}
	if got := seen[string(loadtest.Churn)]; len(got) > 0 {
		t.Errorf("containers that exist were stopped for %v", got)
	}
}

// TestAttachSome: of a daemon's containers no more are used than were asked for.
func TestAttachSome(t *testing.T) {
	needRoot(t)
	d, lxdSocket := daemonOf(t, someContainers(t, 3))
	var r report.Result
	load(t, &r, "request", "--socket", d.Socket(), "--admin", "lxd:"+lxdSocket, "--containers", "2", "--duration", "200ms", "--warmup", "20ms")
	if !r.OK() || r.Containers != 2 || r.Target != "lxd" {
		t.Errorf("result = %+v", r)
	}
}

// TestAttachUsage: containers that cannot be told apart, that the daemon does not know, or that would be stopped.
func TestAttachUsage(t *testing.T) {
	needRoot(t)
	d, lxdSocket := daemonOf(t, someContainers(t, 1))
	daemon := []string{"--socket", d.Socket(), "--admin", "lxd:" + lxdSocket, "--devlxd", devlxdBinary}
	self := strconv.Itoa(os.Getpid())
	for _, args := range [][]string{
		{"request", "--devlxd", devlxdBinary, "--attach", self + "," + self},
		append([]string{"request", "--attach", self}, daemon...),
		append([]string{"churn"}, daemon...),
		{"churn", "--devlxd", devlxdBinary, "--attach", self},
	} {
		if code := execute(context.Background(), args); code != exitUsage {
			t.Errorf("devlxd-load %s: exit code %d; want %d", strings.Join(args, " "), code, exitUsage)
		}
	}
}
