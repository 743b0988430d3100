package lxd

import (
	"context"
	"log/slog"
	"maps"
	"strconv"
	"sync"
	"time"

	"devlxd/internal/logging"
	"devlxd/registry"
)

// states are the lives of containers whose guest has set a state (PATCH /1.0) that the daemon is yet to be told. Safe for concurrent use.
type states struct {
	mu      sync.Mutex
	pending map[*registry.Binding]int // times that it was tried
	wake    chan struct{}
}

func newStates() *states {
	return &states{pending: make(map[*registry.Binding]int), wake: make(chan struct{}, 1)}
}

// StateSet notes that a guest has set its state, to be forwarded to the daemon. It never waits, and keeps one note for each container however
// often a guest does it.
func (m *Mirror) StateSet(b *registry.Binding) { m.states.add(b, 0) }

func (s *states) add(b *registry.Binding, tries int) {
	s.mu.Lock()
	s.pending[b] = tries
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take returns what is pending, which is no longer.
func (s *states) take() map[*registry.Binding]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.pending
	s.pending = make(map[*registry.Binding]int)
	return taken
}

// peek returns a copy of what is pending.
func (s *states) peek() map[*registry.Binding]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.pending)
}

// forward tells the daemon of the states that guests set, until ctx ends. What is not forwarded then is so in the next session.
func (s *session) forward(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.m.states.wake:
		}
		for b, tries := range s.m.states.take() {
			if !s.forwardOne(ctx, b) && tries+1 < patience {
				s.m.states.add(b, tries+1)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.m.opts.Times.State):
		}
	}
}

// state is what the daemon has of the guest's state in one life; [Mirror.mu] is held.
func (e *entry) state(b *registry.Binding) bool {
	if e.told == b {
		return e.toldReady
	}
	return e.ready
}

// forwardOne reports whether there is nothing left to do. A daemon that lets nobody set the state, as LXD 5.0 does, is asked once in a session.
func (s *session) forwardOne(ctx context.Context, b *registry.Binding) bool {
	m, name := s.m, b.Container().Name()
	m.mu.Lock()
	k := m.names[name]
	e := m.entries[k]
	known := e != nil && !(e.told == b && e.unsure) && e.state(b) == b.Ready()
	m.mu.Unlock()
	if e == nil || b.Dead() || known {
		return true
	}
	if s.steadfast {
		m.counts.states[stateRefused].Add(1)
		return true
	}
	ready := b.Ready()
	err := s.client.setConfig(ctx, k, keyReady, strconv.FormatBool(ready))
	switch {
	case err == nil:
		m.counts.states[stateForwarded].Add(1)
		m.mu.Lock()
		e.told, e.toldReady, e.unsure = b, ready, false
		m.mu.Unlock()
		return true
	case refuses(err, keyReady):
		s.steadfast = true
		m.counts.states[stateRefused].Add(1)
		m.log.Info("the daemon takes no state of guests: it is shown by 'devlxd container show' alone", "error", err)
		return true
	}
	m.mu.Lock()
	e.told, e.toldReady, e.unsure = b, ready, true
	m.mu.Unlock()
	m.counts.states[stateFailed].Add(1)
	m.opts.Lines.Log(logging.QuotaOf(b.Container()), slog.LevelWarn, "state of a guest was not forwarded", "source", m.opts.Address.Kind.String(), "container", name, "error", logging.GuestError(err))
	return false
}
