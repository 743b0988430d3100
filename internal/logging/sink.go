package logging

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
)

// Levels are the names of the levels that a log can be set to, from the most lines to the fewest.
func Levels() []string { return []string{"debug", "info", "warn", "error"} }

// ParseLevel reads one of Levels. The error says what to use.
func ParseLevel(text string) (slog.Level, error) {
	for _, name := range Levels() {
		if text == name {
			var level slog.Level
			return level, level.UnmarshalText([]byte(name))
		}
	}
	return 0, fmt.Errorf("unknown level %q: %w", text, errLevel)
}

// FormatLevel is the inverse of ParseLevel.
func FormatLevel(level slog.Level) string { return strings.ToLower(level.String()) }

// Sink is where the lines of a process go. Level and format can change at any time, also for loggers that were derived before.
type Sink struct {
	level    slog.LevelVar
	json     atomic.Bool
	terminal bool

	mu       sync.Mutex // held while a line is written
	out      io.Writer
	journal  bool   // out is a stream to the journal
	priority string // of the line that is being written, in front of it where it goes to the journal
}

// NewSink writes to f at level info. Where f is the stream to the journal that the value of [JournalVariable] names, a line begins with
// its priority (sd-daemon(3), "<4>"), which the journal takes off and can be asked for (journalctl -p warning).
func NewSink(f *os.File, journalStream string) *Sink {
	s := &Sink{out: f, terminal: isTerminal(f), journal: toJournal(f, journalStream)}
	s.SetFormat(FormatAuto)
	return s
}

// SetLevel has lines below a level left out.
func (s *Sink) SetLevel(level slog.Level) { s.level.Set(level) }

// Level is what SetLevel has set.
func (s *Sink) Level() slog.Level { return s.level.Level() }

// SetFormat changes the format of the lines to come.
func (s *Sink) SetFormat(f Format) { s.json.Store(f == FormatJSON || f == FormatAuto && !s.terminal) }

// Logger logs to the sink.
func (s *Sink) Logger() *slog.Logger {
	options := &slog.HandlerOptions{Level: &s.level, ReplaceAttr: sanitize}
	w := lineWriter{s}
	return slog.New(&handler{sink: s, text: slog.NewTextHandler(w, options), json: slog.NewJSONHandler(w, options)})
}

// handler passes a line to the handler of the format.
type handler struct {
	sink       *Sink
	text, json slog.Handler
}

// Enabled implements slog.Handler with one atomic load.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.sink.level.Level()
}

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	h.sink.mu.Lock()
	defer h.sink.mu.Unlock()
	h.sink.priority = priority(r.Level)
	if h.sink.json.Load() {
		return h.json.Handle(ctx, r)
	}
	return h.text.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.sink, h.text.WithAttrs(attrs), h.json.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.sink, h.text.WithGroup(name), h.json.WithGroup(name)}
}

// priority is the level as sd-daemon(3) has it.
func priority(level slog.Level) string {
	switch {
	case level >= slog.LevelError:
		return "<3>"
	case level >= slog.LevelWarn:
		return "<4>"
	case level >= slog.LevelInfo:
		return "<6>"
	}
	return "<7>"
}

// lineWriter takes a line in one call, as slog's handlers promise; the sink is locked.
type lineWriter struct{ s *Sink }

func (w lineWriter) Write(line []byte) (int, error) {
	if !w.s.journal {
		return w.s.out.Write(line)
	}
	// In one write, as the journal reads a stream.
	if _, err := w.s.out.Write(append([]byte(w.s.priority), line...)); err != nil {
		return 0, err
	}
	return len(line), nil
}
