package server

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"devlxd/internal/logging"
	"devlxd/registry"
)

// lineBuffer keeps what is logged. Safe for concurrent use.
type lineBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lineBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// lines are those with a message, by their attributes.
func (b *lineBuffer) lines(t *testing.T, msg string) (list []map[string]any) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for line := range strings.Lines(b.b.String()) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if v["msg"] == msg {
			list = append(list, v)
		}
	}
	return list
}

// standing is a limiter for which no time passes.
func standing(log *slog.Logger) *logging.Limiter {
	now := time.Now()
	return logging.NewLimiter(log, func() time.Time { return now })
}

// TestDebugLines: at level debug each request of a container has a line, with what the guest chose escaped and cut, up to its quota of
// lines, which is not that of others; at level info there is none.
func TestDebugLines(t *testing.T) {
	var level slog.LevelVar
	out := &lineBuffer{}
	log := slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: &level}))
	r := newRig(t, Options{Loops: 1, Log: log, Lines: standing(log)})
	for _, name := range []string{"web", "db"} {
		r.container(name, map[string]string{"user.a": "1"})
	}
	ask := func(name, agent string) {
		c := r.dial(name)
		c.send("GET /1.0/config/user.a?x=" + strings.Repeat("y", 1000) + " HTTP/1.1\r\nHost: a\r\nUser-Agent: " + agent + "\r\n\r\n")
		if a := c.answer("GET"); a.status != 200 {
			t.Fatal(a.status)
		}
	}
	ask("web", "quiet")
	level.Set(slog.LevelDebug)
	for range 100 {
		ask("web", "\xff\u202e\\")
	}
	ask("db", "curl/8")
	eventually(t, "the other container has its line", func() bool {
		lines := out.lines(t, "request")
		return len(lines) > 0 && lines[len(lines)-1]["container"] == "db"
	})
	lines := out.lines(t, "request")
	closed := out.lines(t, "connection closed")
	if n := len(lines) + len(closed); n < 51 || n > 53 { // 50 of the one, and the other's
		t.Errorf("%d lines for 100 requests of a container", n)
	}
	if got := lines[0]["user_agent"]; got != `\xff\u202e\\` {
		t.Errorf("user agent %q", got)
	}
	if got := lines[0]["target"].(string); len(got) > 200 || !strings.HasSuffix(got, " bytes)") {
		t.Errorf("target %q", got)
	}
	if got := lines[len(lines)-1]; got["user_agent"] != "curl/8" || got["code"] != 200. || got["route"] != "config_key" || got["method"] != "GET" {
		t.Errorf("line %v", got)
	}
	if r.srv.opts.Lines.Dropped() == 0 {
		t.Error("no line is counted as left out")
	}
}

// TestRefusedLines: each of many peers that are refused has a reason in the log, and strangers cannot use up the lines of a container.
func TestRefusedLines(t *testing.T) {
	out := &lineBuffer{}
	log := slog.New(slog.NewJSONHandler(out, nil))
	r := newRig(t, Options{Loops: 1, Log: log, Lines: standing(log)})
	for range 50 {
		r.dial(stranger).get("/1.0")
	}
	lines := out.lines(t, "connection refused")
	if n := len(lines); n != 10 {
		t.Errorf("%d lines for 50 strangers; want 10", n)
	}
	if lines[0]["reason"] != "unknown" || lines[0]["container"] != "" {
		t.Errorf("line %v", lines[0])
	}
}

// TestSetLimits: quotas that are set while the server runs count at once, but not for what has a quota of its own in its config.
func TestSetLimits(t *testing.T) {
	r := newRig(t, Options{Loops: 2})
	r.container("c1", nil)
	r.container("c2", map[string]string{"limits.devlxd.images": "3"})
	if err := r.srv.SetLimits(registry.Limits{registry.LimitImages: 2, registry.LimitRequests: registry.Unlimited}); err != nil {
		t.Fatal(err)
	}
	want := DefaultLimits()
	want[registry.LimitImages], want[registry.LimitRequests] = 2, registry.Unlimited
	c1, _ := r.srv.Registry().Container("c1")
	if got := r.srv.Usage(c1).Limits; got != want {
		t.Errorf("limits %v; want %v", got, want)
	}
	c2, _ := r.srv.Registry().Container("c2")
	if got := r.srv.Usage(c2).Limits[registry.LimitImages]; got != 3 {
		t.Errorf("%d images; want 3, as the config has it", got)
	}
	if err := r.srv.SetLimits(registry.Limits{-1}); err == nil {
		t.Error("a negative quota is taken")
	}
}

// TestSetSubscribers: a lower quota refuses the next one.
func TestSetSubscribers(t *testing.T) {
	r := newRig(t, Options{Loops: 1})
	r.container("c1", nil)
	subscribe := func() int {
		c := r.dial("c1")
		c.send("GET /1.0/events HTTP/1.1\r\nHost: a\r\n\r\n")
		return c.answer("GET").status
	}
	if code := subscribe(); code != 200 {
		t.Fatal(code)
	}
	if err := r.srv.SetLimits(registry.Limits{registry.LimitSubscribers: 1}); err != nil {
		t.Fatal(err)
	}
	if code := subscribe(); code != 500 {
		t.Errorf("the second of one subscription is answered %d", code)
	}
}
