package admin_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"devlxd/admin"
	"devlxd/internal/logging"
)

// level is a LogLevel over slog's own.
type level struct{ slog.LevelVar }

func (l *level) LogLevel() string { return logging.FormatLevel(l.Level()) }

func (l *level) SetLogLevel(name string) error {
	parsed, err := logging.ParseLevel(name)
	if err == nil {
		l.Set(parsed)
	}
	return err
}

// locked is a buffer. Safe for concurrent use.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestLogLevel: the level is shown and changed, wrong ones change nothing, and that it changes is logged whichever way.
func TestLogLevel(t *testing.T) {
	var l level
	log := &locked{}
	f := start(t, func(_ *fixture, o *admin.Options) {
		o.LogLevel, o.Log = &l, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: &l.LevelVar}))
	})
	const path = "/1.0/log-level"
	for _, s := range []step{
		{"GET", path, "", 200, ok(`{"level":"info"}`), ""},
		{"PUT", path, `{"level":"error"}`, 200, ok(`null`), ""},
		{"GET", path, "", 200, ok(`{"level":"error"}`), ""},
		{"PUT", path, `{"level":"loud\n"}`, 400, failed(400, "level: unknown level \"loud\\n\": use debug, info, warn or error"), ""},
		{"PUT", path, `{"level":"info","more":1}`, 400, failed(400, `unknown field "more" in the request body`), ""},
		{"PUT", path, "", 400, failed(400, "request has no body: send a JSON object"), ""},
		{"GET", path, "", 200, ok(`{"level":"error"}`), ""},
		{"PUT", path, `{"level":"info"}`, 200, ok(`null`), ""},
	} {
		s.run(f)
	}
	for _, want := range []string{"from=info to=error", "from=error to=info"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not logged:\n%s", want, log)
		}
	}
	off := start(t, nil)
	for _, s := range []step{
		{"GET", path, "", 501, failed(501, "the log of this server has a level that stays: restart it with another"), ""},
		{"PUT", path, `{"level":"info"}`, 501, failed(501, "the log of this server has a level that stays: restart it with another"), ""},
	} {
		s.run(off)
	}
}
