package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"devlxd/bench/rival"
	"devlxd/loadtest"
	"devlxd/loadtest/guests"
	"devlxd/loadtest/report"
	"devlxd/loadtest/target"
)

// devlxdBinary is the server under load, built once.
var devlxdBinary string

// TestMain makes the test binary what the processes that it starts need: devlxd-load itself.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "rival" || os.Args[1] == string(loadtest.Idle)) {
		os.Exit(execute(context.Background(), os.Args[1:]))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "devlxd-load-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	devlxdBinary = filepath.Join(dir, "devlxd")
	if out, err := exec.Command("go", "build", "-o", devlxdBinary, "devlxd/cmd/devlxd").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "cannot build devlxd: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: the server looks at processes of other users")
	}
}

// load runs a command that must pass, and returns what it wrote as JSON.
func load(t *testing.T, into any, args ...string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "result.json")
	page := filepath.Join(t.TempDir(), "result.html")
	args = append(args, "--json", path, "--devlxd", devlxdBinary, "--settle", "50ms")
	if !slices.Contains(args, "--servers") {
		args = append(args, "--html", page)
		defer func() {
			if text, err := os.ReadFile(page); err != nil || !strings.Contains(string(text), "</html>") {
				t.Errorf("the page is not whole: %v", err)
			}
		}()
	}
	if code := execute(context.Background(), args); code != 0 {
		t.Fatalf("devlxd-load %s: exit code %d", strings.Join(args, " "), code)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

// TestScenarios does a small round of each scenario against devlxd: every answer and every event is right.
func TestScenarios(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		args   []string
		phases int
	}{
		{[]string{"request", "--connections", "60", "--registered", "50"}, 1},
		{[]string{"request", "--pipeline", "16", "--value-size", "5000"}, 1},
		{[]string{"request", "--rate", "500"}, 1},
		{[]string{"connect"}, 1},
		{[]string{"connect", "--rate", "200"}, 1},
		{[]string{"bootstorm"}, 1},
		{[]string{"idle", "--connections", "100"}, 1},
		{[]string{"fanout", "--connections", "100", "--events", "20", "--event-rate", "100"}, 2},
		{[]string{"slow", "--connections", "100", "--events", "20", "--event-rate", "100"}, 2},
		{[]string{"churn"}, 1},
		{[]string{"image", "--image-size", "3000000"}, 2},
		{[]string{"flood", "--flooding", "3", "--flood-connections", "8", "--rate", "300"}, 2},
		{[]string{"identity", "--rate", "1000"}, 1},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			args := append(c.args, "--containers", "30", "--duration", "500ms", "--warmup", "100ms")
			var results []report.Result
			if c.phases > 1 {
				load(t, &results, args...)
			} else {
				results = make([]report.Result, 1)
				load(t, &results[0], args...)
			}
			if len(results) != c.phases {
				t.Fatalf("%d results; want %d", len(results), c.phases)
			}
			for _, r := range results {
				if !r.OK() || r.Containers != 30 || r.Machine == nil || len(r.Distribution) == 0 && r.Scenario != string(loadtest.Identity) {
					t.Errorf("result = %+v", r)
				}
			}
		})
	}
}

// TestSoak does everything at once for some seconds. That is too short to say whether the server needs more and more.
func TestSoak(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	path, page := filepath.Join(dir, "soak.json"), filepath.Join(dir, "soak.html")
	code := execute(context.Background(), []string{
		"soak", "--containers", "30", "--duration", "8s", "--upgrade", "--flooding", "1", "--flood-connections", "8",
		"--devlxd", devlxdBinary, "--json", path, "--html", page,
	})
	var r report.Result
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	delete(r.ByKind, "growth")
	if len(r.ByKind) > 0 || r.Lost > 0 || r.Requests == 0 || code == exitUsage {
		t.Errorf("exit code %d, errors %v %v, lost %d, %d requests", code, r.ByKind, r.Examples, r.Lost, r.Requests)
	}
	values := make(map[string]float64)
	for _, v := range r.Values {
		values[v.Name] = v.Value
	}
	for _, name := range []string{
		"events delivered", "images downloaded", "storms of booting containers", "containers killed", "connections cut in a request",
		"downloads aborted", "stuck readers", "bursts of a flood", "answers with the right secret", "open files, last third",
		"of these, told that they lost events", "upgrades of the server",
	} {
		if values[name] == 0 {
			t.Errorf("no %s in %v", name, values)
		}
	}
	if len(r.Curves) != 3 {
		t.Errorf("%d curves; want 3", len(r.Curves))
	}
	if html, err := os.ReadFile(page); err != nil || strings.Count(string(html), "<svg") != 6 {
		t.Errorf("%d plots on the page (%v); want 6", strings.Count(string(html), "<svg"), err)
	}
}

// leaky is a daemon that opens more and more: at each look at it a connection that it keeps.
type leaky struct {
	*target.Devlxd
	held []net.Conn
}

func (l *leaky) Counters(ctx context.Context) (map[string]float64, error) {
	for range 2 {
		c, err := net.Dial("unix", filepath.Join(filepath.Dir(filepath.Dir(l.Socket())), "admin.sock"))
		if err != nil {
			return nil, err
		}
		l.held = append(l.held, c)
	}
	return l.Devlxd.Counters(ctx)
}

// TestSoakFindsLeak: a daemon whose open files and goroutines grow does not pass, and nothing else is said of it.
func TestSoakFindsLeak(t *testing.T) {
	needRoot(t)
	set, err := guests.Start(t.Context(), guests.Options{Count: 21})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	daemon, err := target.StartDevlxd(t.Context(), target.Options{Binary: devlxdBinary})
	if err != nil {
		t.Fatal(err)
	}
	l := &leaky{Devlxd: daemon}
	defer func() {
		for _, c := range l.held {
			_ = c.Close()
		}
		if err := daemon.Close(); err != nil {
			t.Error(err)
		}
	}()
	fleet := loadtest.NewFleet(set, 3)
	if err := daemon.Register(t.Context(), fleet.Containers(), func(int) {}); err != nil {
		t.Fatal(err)
	}
	results, err := loadtest.Run(t.Context(), l, fleet, loadtest.Options{
		Scenario: loadtest.Soak, Duration: 6 * time.Second, Flood: loadtest.FloodOptions{Containers: 1, Connections: 8},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &results[0]
	// Memory may be what it likes in so short a time.
	if n := r.ByKind["growth"]; n < 2 || uint64(n) != r.Errors || r.Lost > 0 {
		t.Errorf("errors %v %v, %d lost; want two of growth, and those alone", r.ByKind, r.Examples, r.Lost)
	}
}

// TestKeys: the keys of a result are an interface.
func TestKeys(t *testing.T) {
	needRoot(t)
	var result map[string]any
	load(t, &result, "request", "--containers", "3", "--duration", "100ms", "--warmup", "10ms")
	for _, key := range []string{"scenario", "containers", "connections", "requests", "errors", "lost", "rps"} {
		if _, ok := result[key]; !ok {
			t.Errorf("no %q in the result", key)
		}
	}
	for key, parts := range map[string][]string{
		"latency_us": {"p50", "p90", "p99", "p999", "max"},
		"server":     {"cpu_us_per_request", "rss_before", "rss_after", "bytes_per_connection"},
	} {
		inner, ok := result[key].(map[string]any)
		for _, part := range parts {
			if _, has := inner[part]; !ok || !has {
				t.Errorf("no %q in %q of the result", part, key)
			}
		}
	}
}

// TestCompare gives all rivals the same load.
func TestCompare(t *testing.T) {
	needRoot(t)
	names := []string{"devlxd"}
	for _, kind := range rival.Kinds() {
		names = append(names, string(kind))
	}
	var c report.Comparison
	load(t, &c, "compare", "--targets", strings.Join(names, ","), "--scenarios", "request,connect,bootstorm,idle,fanout,image",
		"--rounds", "1", "--containers", "20", "--connections", "40", "--duration", "200ms", "--warmup", "20ms")
	seen := make(map[string][]string)
	for _, r := range c.Results {
		seen[r.Title()] = append(seen[r.Title()], r.Target)
	}
	for title, want := range map[string]int{
		"request": 7, "request, pipeline 16": 7, "connect": 7, "bootstorm": 2, "idle": 7, "fanout one container": 4, "image beside downloads": 3,
	} {
		if len(seen[title]) != want {
			t.Errorf("%s was done against %v; want %d targets", title, seen[title], want)
		}
	}
}

// TestCompareFlood floods two servers, of which devlxd has its quotas.
func TestCompareFlood(t *testing.T) {
	needRoot(t)
	var c report.Comparison
	load(t, &c, "compare", "--targets", "devlxd,limit", "--scenarios", "flood", "--mix", "pipeline", "--flooding", "2", "--flood-connections", "40",
		"--rounds", "1", "--containers", "10", "--duration", "1s", "--warmup", "100ms")
	answers := make(map[string]float64)
	for _, r := range c.Results {
		if !r.OK() {
			t.Errorf("%s: %+v", r.Target, r)
		}
		for _, v := range r.Values {
			if v.Name == "answers that the flood read" {
				answers[r.Target] = v.Value
			}
		}
	}
	// A second's requests at once, and then as many a second. How much the bare loop answers depends on what else the machine does.
	if _, ok := answers["limit"]; !ok || len(c.Results) != 4 || answers["devlxd"] > 2*2000 {
		t.Errorf("answers of the flood a second: %v, in %d results", answers, len(c.Results))
	}
}

// TestScale takes two points of each curve.
func TestScale(t *testing.T) {
	needRoot(t)
	var c report.Comparison
	load(t, &c, "scale", "--containers", "10", "--registered", "10,40", "--connections", "10,20", "--duration", "200ms", "--warmup", "20ms")
	if len(c.Curves) != 2 {
		t.Fatalf("%d charts; want 2", len(c.Curves))
	}
	for _, chart := range c.Curves {
		if len(chart.Lines) < 3 {
			t.Errorf("%s has %d lines; want at least 3", chart.Title, len(chart.Lines))
		}
		for _, l := range chart.Lines {
			if len(l.Points) != 2 {
				t.Errorf("%s: %s has %d points; want 2", chart.Title, l.Name, len(l.Points))
			}
		}
	}
}

// TestServers shares connections out to several servers.
func TestServers(t *testing.T) {
	needRoot(t)
	var r report.Result
	load(t, &r, "idle", "--servers", "2", "--containers", "10", "--connections", "21", "--duration", "1s")
	if !r.OK() || r.Connections != 21 || r.Containers != 10 || r.Requests != 21 || r.Server == nil {
		t.Errorf("result = %+v", r)
	}
}

// TestUsage: what is wrong with a command is said in one line, and the exit code is 2.
func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{"dance"}, {"request", "more"}, {"request", "--connections", "x"}, {"request", "--no-such-flag"}, {"request", "--containers", "0"},
		{"request", "--containers", "1000000"}, {"request", "--registered", "3"}, {"request", "--run-dir", "/a", "--socket", "/b"}, {"request", "--admin", "lxd:/a"},
		{"compare", "--targets", "apache"}, {"compare", "--scenarios", "dance"}, {"compare", "--rounds", "2"}, {"idle", "--servers", "2", "--pin"},
		{"flood", "--mix", "dance", "--devlxd", devlxdBinary}, {"soak", "--containers", "3", "--devlxd", devlxdBinary},
		{"soak", "--duration", "1s", "--sample", "1s", "--devlxd", devlxdBinary}, {"identity", "--rate", "1", "--devlxd", devlxdBinary},
		{"compare", "--scenarios", "soak"}, {"compare", "--scenarios", "flood,request"}, {"identity", "--connections", "5"},
	} {
		if code := execute(context.Background(), args); code != exitUsage {
			t.Errorf("devlxd-load %s: exit code %d; want %d", strings.Join(args, " "), code, exitUsage)
		}
	}
}

// TestFailed: a server that cannot be reached is no wrong usage.
func TestFailed(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none")
	for _, args := range [][]string{
		{"request", "--socket", missing}, {"request", "--run-dir", missing}, {"request", "--socket", missing, "--admin", "lxd:" + missing},
	} {
		if code := execute(context.Background(), args); code != exitFailed {
			t.Errorf("devlxd-load %s: exit code %d; want %d", strings.Join(args, " "), code, exitFailed)
		}
	}
}
