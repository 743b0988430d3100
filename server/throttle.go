package server

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// throttle logs a condition that can repeat at the speed of hostile guests at
// most once per interval, and says how often it was silent. Safe for
// concurrent use.
type throttle struct {
	logger   *slog.Logger
	level    slog.Level
	interval time.Duration
	now      func() time.Time

	mu     sync.Mutex
	last   map[string]time.Time // by message: a closed set of literals
	silent map[string]int
}

func newThrottle(logger *slog.Logger, level slog.Level, interval time.Duration, now func() time.Time) *throttle {
	return &throttle{
		logger: logger, level: level, interval: interval, now: now,
		last: make(map[string]time.Time), silent: make(map[string]int),
	}
}

func (t *throttle) log(msg string, args ...any) {
	t.mu.Lock()
	now := t.now()
	if last, ok := t.last[msg]; ok && now.Sub(last) < t.interval {
		t.silent[msg]++
		t.mu.Unlock()
		return
	}
	silent := t.silent[msg]
	t.last[msg], t.silent[msg] = now, 0
	t.mu.Unlock()
	if silent > 0 {
		args = append(args, "repeated", silent)
	}
	t.logger.Log(context.Background(), t.level, msg, args...)
}
