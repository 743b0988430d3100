package logging

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	// A container may cause lineBurst lines at once and then one a second.
	lineRate  = 1
	lineBurst = 10
	// At level debug a container that boots is to be seen whole: cloud-init asks for a few dozen things.
	debugRate  = 5
	debugBurst = 50
	// sumTime is how long lines that were left out are summed up for.
	sumTime = 10 * time.Second
)

// Quota is what one container has caused lately. Keep it with the container, by its address.
type Quota struct {
	once         sync.Once
	lines, debug *rate.Limiter
	dropped      atomic.Uint64
}

// Holder keeps something beside itself, as registry.Container does: what make makes, or nil if it has nothing and make is nil.
type Holder interface{ Attachment(make func() any) any }

// QuotaOf is the quota that h holds, made by the first call; so it lives as long as h.
func QuotaOf(h Holder) *Quota { return h.Attachment(func() any { return new(Quota) }).(*Quota) }

// HeldQuota is the quota that h holds, nil if it holds none yet.
func HeldQuota(h Holder) *Quota {
	q, _ := h.Attachment(nil).(*Quota)
	return q
}

// allow takes a token.
func (q *Quota) allow(level slog.Level, now time.Time) bool {
	q.once.Do(func() {
		q.lines, q.debug = rate.NewLimiter(lineRate, lineBurst), rate.NewLimiter(debugRate, debugBurst)
	})
	if level < slog.LevelInfo {
		return q.debug.AllowN(now, 1)
	}
	return q.lines.AllowN(now, 1)
}

// Limiter logs what containers cause, as often as their quotas allow. What is left out is counted, and told of in one line for all containers
// together: see sumTime. It holds a quota only for that time, and none that nothing was left out of.
type Limiter struct {
	log     *slog.Logger
	now     func() time.Time
	dropped atomic.Uint64

	mu     sync.Mutex
	behind []*Quota    // those with lines that were left out since the last sum
	timer  *time.Timer // of the sum; nil: none is due
}

// NewLimiter logs to log; now nil is time.Now.
func NewLimiter(log *slog.Logger, now func() time.Time) *Limiter {
	if now == nil {
		now = time.Now
	}
	return &Limiter{log: log, now: now}
}

// Log is slog.Logger.Log for a line that the container of q has caused, whose text is to be [Guest] where it is the container's.
func (l *Limiter) Log(q *Quota, level slog.Level, msg string, args ...any) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	if q.allow(level, l.now()) {
		l.log.Log(context.Background(), level, msg, args...)
		return
	}
	l.dropped.Add(1)
	if q.dropped.Add(1) > 1 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.behind = append(l.behind, q)
	if l.timer == nil {
		l.timer = time.AfterFunc(sumTime, l.Sum)
	}
}

// Dropped is how many lines were left out.
func (l *Limiter) Dropped() uint64 { return l.dropped.Load() }

// Sum tells of the lines that were left out since it did so last, if there are any. It is called by itself, and is to be called
// when the process ends.
func (l *Limiter) Sum() {
	l.mu.Lock()
	behind := l.behind
	l.behind = nil
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	l.mu.Unlock()
	var lines uint64
	for _, q := range behind {
		lines += q.dropped.Swap(0)
	}
	if lines > 0 {
		l.log.Warn("lines left out that guests caused too often", "lines", lines, "containers", len(behind))
	}
}
