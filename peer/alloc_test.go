package peer

import (
	"path/filepath"
	"testing"

	"devlxd/peer/peertest"
)

// TestAllocs: no way of identification allocates, except that a pool is refilled.
func TestAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("needs a build without -race: there sync.Pool drops what it is given")
	}
	w := newWorld(t)
	direct := w.container("direct", sharedRoot)
	leaf := w.container("leaf", sharedRoot)
	leaf.Enter(filepath.Join(leaf.Spec.Cgroup.Dir, "leaf"))
	none := peertest.Start(t, peertest.Spec{RootUID: sharedRoot, PidNS: true})
	w.bind("none", none)
	for _, peer := range []*peertest.Proc{direct, leaf, none} {
		peer.Connect(w.Path)
	}
	fds := []int{w.Accept(), w.Accept(), w.Accept()}
	measure := func(t *testing.T, r *rig, fd int, want string, between func()) {
		t.Helper()
		if got := r.identify(fd); got != want {
			t.Fatalf("%s; want %s", got, want)
		}
		if n := testing.AllocsPerRun(200, func() { between(); Identify(r.h, r.dir, fd) }); n != 0 {
			t.Errorf("%s: %v allocations", want, n)
		}
	}
	for _, r := range w.rigs {
		t.Run(r.name, func(t *testing.T) {
			measure(t, r, fds[0], "direct", func() {})
			measure(t, r, fds[1], "leaf", func() {}) // cached from the first time on
			measure(t, r, fds[1], "leaf", func() { clear(r.dir.leaves) })
			measure(t, r, fds[2], "none", func() {})
			r.h.always = true
			measure(t, r, fds[0], "direct", func() {})
		})
	}
}
