package registry

import (
	"slices"
	"sync/atomic"
)

// The states of a Watch.
const (
	watchIdle   uint32 = iota // notified; waits for Rearm
	watchArmed                // the next event notifies
	watchClosed               // for good
)

// Watch wakes one reader, usually an event loop with many cursors in the ring. Safe for concurrent use.
type Watch struct {
	ring   *Ring
	notify func()
	state  atomic.Uint32
}

// Watch arranges that notify is called after an event was appended and after the container has stopped, at most once until Rearm. The
// watch starts armed. notify runs on the writer's goroutine, outside the registry's locks: it must return at once, and may call
// anything of this package. The cost of adding one grows with the number of watches, so a loop needs one for all its cursors.
// A ring whose container is dead already notifies no more: watch first, then look at Binding.Dead.
func (r *Ring) Watch(notify func()) *Watch {
	w := &Watch{ring: r, notify: notify}
	w.state.Store(watchArmed)
	r.watchesMu.Lock()
	defer r.watchesMu.Unlock()
	// Copied, not appended in place: the writer goes through the old list without a lock.
	watches := append(slices.Clone(r.watchList()), w)
	r.watches.Store(&watches)
	return w
}

// Rearm asks for the next notification. Call it before draining the cursors: an event that draining does not find then notifies.
func (w *Watch) Rearm() { w.state.CompareAndSwap(watchIdle, watchArmed) }

// Close ends the watch. A call of notify that has begun already may still be under way when Close returns. Closing twice is harmless.
func (w *Watch) Close() {
	if w.state.Swap(watchClosed) == watchClosed {
		return
	}
	r := w.ring
	r.watchesMu.Lock()
	defer r.watchesMu.Unlock()
	watches := slices.DeleteFunc(slices.Clone(r.watchList()), func(o *Watch) bool { return o == w })
	r.watches.Store(&watches)
}

func (r *Ring) watchList() []*Watch {
	if watches := r.watches.Load(); watches != nil {
		return *watches
	}
	return nil
}

// wake notifies every armed watch. It comes after what the readers are to find, with no lock held.
func (r *Ring) wake() {
	for _, w := range r.watchList() {
		if w.state.CompareAndSwap(watchArmed, watchIdle) {
			w.notify()
		}
	}
}
