package server

import (
	"devlxd/registry"
)

// Figures are what one life of a container has had of the server: counters since it was bound, or since the process began to serve it, and
// gauges.
type Figures struct {
	Requests    uint64 // answered, whatever the answer was
	Connections int64  // open
	Subscribers int64  // event subscriptions
	Events      uint64 // written to subscribers, each subscriber's counted
	Sent        uint64 // bytes of answers and events
	Waits       [registry.NumLimits]uint64
	Refused     [registry.NumLimits]uint64 // connections and subscriptions that were answered 500
	Lost        uint64                     // events that subscribers did not get because they read too slowly
	// Lag is how many events the slowest of the subscribers whose socket is full is behind the head of its ring, as of the last second.
	Lag uint64
}

// existingAccount is the account of a binding, nil if there is none: nobody has connected yet. b may be nil.
func existingAccount(b *registry.Binding) *account {
	if b == nil {
		return nil
	}
	a, _ := b.Attachment(func() any { return nil }).(*account)
	return a
}

func (a *account) figures() (f Figures) {
	f.Requests = a.requests.Load()
	f.Connections = max(a.connections.Load(), 0) + max(a.turnedAway.Load(), 0)
	f.Subscribers = max(a.subscribers.Load(), 0)
	f.Events = a.events.Load()
	f.Sent = a.sent.Load()
	e := a.excess.Load()
	if e == nil {
		return f
	}
	for q := range registry.NumLimits {
		f.Waits[q], f.Refused[q] = e.waits[q].Load(), e.refused[q].Load()
	}
	f.Lost = e.lost.Load()
	for i := range e.lag {
		f.Lag = max(f.Lag, e.lag[i].Load())
	}
	return f
}

// waits are those of all quotas.
func (f *Figures) waits() (n uint64) {
	for _, waits := range f.Waits {
		n += waits
	}
	return n
}
