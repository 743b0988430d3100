package fault

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Interval is how often a condition that comes and goes may say so in the log.
const Interval = 10 * time.Second

// Board holds the conditions of one daemon. Safe for concurrent use.
type Board struct {
	log    *slog.Logger
	now    func() time.Time
	active atomic.Uint32 // a bit for each Kind: what guests can provoke costs nobody a lock to ask for
	total  [numKinds]atomic.Uint64

	mu     sync.Mutex
	states [numKinds]state
}

// state is what a board remembers of a kind.
type state struct {
	since  time.Time // entered last
	logged time.Time // of the last line on entering
	told   bool      // the log knows that the condition holds
	silent int       // times it was entered without a line
}

// NewBoard makes a board on which no condition holds. A nil log is silent; now is
// the time of the throttle, nil for the clock of the host.
func NewBoard(log *slog.Logger, now func() time.Time) *Board {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if now == nil {
		now = time.Now
	}
	return &Board{log: log, now: now}
}

// Enter says that the condition k holds; args are attributes of its line in the log. It
// may be called again and again while it does.
func (b *Board) Enter(k Kind, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, now := &b.states[k], b.now()
	if b.active.Load()&(1<<k) == 0 {
		b.active.Or(1 << k)
		b.total[k].Add(1)
		s.since = now
		s.silent++
	}
	if s.told || !s.logged.IsZero() && now.Sub(s.logged) < Interval {
		return
	}
	args = append(args, "fault", k.String())
	if s.silent > 1 {
		args = append(args, "times", s.silent)
	}
	s.told, s.logged, s.silent = true, now, 0
	b.log.Log(context.Background(), k.level(), table[k].enter, args...)
}

// Leave says that none of the conditions holds any more. It costs one load of a
// word if none did.
func (b *Board) Leave(kinds ...Kind) {
	var mask uint32
	for _, k := range kinds {
		mask |= 1 << k
	}
	if b.active.Load()&mask == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range kinds {
		if b.active.Load()&(1<<k) == 0 {
			continue
		}
		b.active.And(^uint32(1 << k))
		if s := &b.states[k]; s.told {
			s.told = false
			b.log.Info(table[k].leave, "fault", k.String(), "lasted", b.now().Sub(s.since).Round(time.Millisecond).String())
		}
	}
}

// Active reports whether the condition holds.
func (b *Board) Active(k Kind) bool { return b.active.Load()&(1<<k) != 0 }

// Total is how often the condition was entered.
func (b *Board) Total(k Kind) uint64 { return b.total[k].Load() }
