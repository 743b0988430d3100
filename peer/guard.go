package peer

// guard says of which bindings the pid namespace is demanded as a second proof
// although they are not privileged themselves. Immutable; nil means none.
type guard struct {
	all       bool
	contested map[uint64]struct{}
}

// guardCounts is what the open Inits demand, and what is demanded for good, under
// Host.guardMu.
type guardCounts struct {
	latched    bool // a privileged container is known: it may run whether it is bound or not
	privileged int
	contested  map[uint64]int
}

// RequirePidNS demands the pid namespace of every peer from now on, until the Host is
// closed: a privileged container is known. It is not taken back when the container is
// stopped or forgotten, because its processes may live on, and can go where they like.
// OpenInit does this by itself for a privileged process in a pid namespace of its own.
func (h *Host) RequirePidNS() {
	h.guardMu.Lock()
	defer h.guardMu.Unlock()
	if !h.binds.latched {
		h.binds.latched = true
		h.publishGuard()
	}
}

// PidNSRequired tells whether the pid namespace is demanded of every peer.
func (h *Host) PidNSRequired() bool {
	g := h.guard.Load()
	return h.always || g != nil && g.all
}

// proof tells whether the pid namespace is demanded for a cgroup, and whether
// another container is known to share it.
func (h *Host) proof(cgroup uint64) (need, contested bool) {
	g := h.guard.Load()
	if g == nil {
		return h.always, false
	}
	_, contested = g.contested[cgroup]
	return h.always || g.all || contested, contested
}

// demand counts what one Init asks for: a step of +1 or -1 for a privileged
// container, and for the cgroup (0: none) which it shares with another one.
func (h *Host) demand(step int, privileged bool, contested uint64) {
	if !privileged && contested == 0 {
		return
	}
	h.guardMu.Lock()
	defer h.guardMu.Unlock()
	if privileged {
		h.binds.privileged += step
	}
	if contested != 0 {
		if h.binds.contested == nil {
			h.binds.contested = map[uint64]int{}
		}
		h.binds.contested[contested] += step
		if h.binds.contested[contested] == 0 {
			delete(h.binds.contested, contested)
		}
	}
	h.publishGuard()
}

// publishGuard makes what is counted count. guardMu is held.
func (h *Host) publishGuard() {
	all := h.binds.latched || h.binds.privileged > 0
	if !all && len(h.binds.contested) == 0 {
		h.guard.Store(nil)
		return
	}
	g := &guard{all: all, contested: make(map[uint64]struct{}, len(h.binds.contested))}
	for id := range h.binds.contested {
		g.contested[id] = struct{}{}
	}
	h.guard.Store(g)
}
