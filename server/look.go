package server

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/registry"
)

// lookApart is how far apart the looks are that rates are counted from, and at least how long a rate goes back.
const lookApart = time.Second

// looks is when it was looked at what containers have had, so that rates can be told: of the last look that was at least lookApart ago, and
// not of one that somebody else has had a moment before. Its lock is for those who look; loops never take it.
type looks struct {
	sync.Mutex
	at    [2]time.Duration // on the clock of the server: of the older and of the newer mark
	total [2]mark          // of the whole server
	cpu   [2]time.Duration // of the process

	scored time.Duration // when scores were brought up to date
}

// look is what an account was when it was looked at.
type look struct {
	marks  [2]mark // older and newer
	score  float64 // of the metrics, see busiest
	scored uint64  // requests that are in it
	shown  bool    // the metrics have it
}

// mark is counters at one time. Those of an account that was made since are zero.
type mark struct{ requests, events, sent, waits uint64 }

func (f *Figures) mark() mark { return mark{f.Requests, f.Events, f.Sent, f.waits()} }

// since is how much was added since another one.
func (m mark) since(old mark) mark {
	return mark{m.requests - old.requests, m.events - old.events, m.sent - old.sent, m.waits - old.waits}
}

// lookAt returns the look of a, which is made by the first call; k is held.
func (k *looks) lookAt(a *account) *look {
	if a.look == nil {
		a.look = &look{}
	}
	return a.look
}

// move makes the newer marks the older ones where those are old enough, and reports whether new ones are to be made; k is held.
func (k *looks) move(now, cpu time.Duration, total mark) bool {
	if now-k.at[1] < lookApart && k.at[1] != 0 {
		return false
	}
	k.at = [2]time.Duration{k.at[1], now}
	k.total = [2]mark{k.total[1], total}
	k.cpu = [2]time.Duration{k.cpu[1], cpu}
	return true
}

// processTime is the CPU time of the process, of all of its threads.
func processTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0 // it cannot fail with these arguments
	}
	return time.Duration(unix.TimevalToNsec(u.Utime) + unix.TimevalToNsec(u.Stime))
}

// totalMark is what the whole server has had.
func (s *Server) totalMark() (m mark) {
	t := s.Totals()
	m.requests, m.events = t.Requests, t.Delivered
	for _, l := range s.loops {
		m.sent += l.stats.sent.Load()
		for q := range registry.NumLimits {
			m.waits += l.stats.quotaWaits[q].Load()
		}
	}
	return m
}
