package guest

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff says how long to wait before another try: from firstWait on twice as
// long each time, up to lastWait. Up to half of it is left to chance, so that
// the containers of a host do not come back all at once.
type backoff struct{ next time.Duration }

const (
	firstWait = 50 * time.Millisecond
	lastWait  = 5 * time.Second
)

func (b *backoff) reset() { b.next = 0 }

// wait returns false when ctx ends first.
func (b *backoff) wait(ctx context.Context) bool {
	b.next = min(max(b.next*2, firstWait), lastWait)
	timer := time.NewTimer(b.next/2 + rand.N(b.next/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
