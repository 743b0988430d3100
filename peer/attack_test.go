package peer

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"devlxd/peer/peertest"
)

// TestAttack: what a container does to pass for another one. There is always a
// victim with the same root uid, which the answer must never be.
func TestAttack(t *testing.T) {
	tests := []struct {
		name string
		run  func(w *world, victim *peertest.Proc) int
		want expect
	}{
		{"cgroup named lxc.payload.victim", func(w *world, victim *peertest.Proc) int {
			c := w.container("attacker", sharedRoot)
			c.Enter(filepath.Join(c.Spec.Cgroup.Dir, "lxc.payload.victim"))
			c.Connect(w.Path)
			return w.Accept()
		}, all("attacker")},

		{"cgroup named lxc.monitor.victim", func(w *world, victim *peertest.Proc) int {
			c := w.container("attacker", sharedRoot)
			c.Enter(filepath.Join(c.Spec.Cgroup.Dir, "lxc.monitor.victim"))
			c.Connect(w.Path)
			return w.Accept()
		}, all("attacker")},

		{"cgroup named like the victim's", func(w *world, victim *peertest.Proc) int {
			c := w.container("attacker", sharedRoot)
			c.Enter(filepath.Join(c.Spec.Cgroup.Dir, victim.Spec.Cgroup.Path))
			c.Connect(w.Path)
			return w.Accept()
		}, all("attacker")},

		{"cgroup whose name ends in (deleted)", func(w *world, victim *peertest.Proc) int {
			c := w.container("attacker", sharedRoot)
			c.Enter(filepath.Join(c.Spec.Cgroup.Dir, "x (deleted)"))
			c.Connect(w.Path)
			return w.Accept()
		}, expect{
			"":                                 "attacker",
			LevelPeerPidfd.String():            "unknown", // a path with that end says nothing
			LevelPidfdOpen.String():            "unknown",
			LevelInfo.String() + noHandles:     "unknown",
			LevelInfoExit.String() + noHandles: "unknown",
		}},

		{"argv of an LXC monitor", func(w *world, victim *peertest.Proc) int {
			c := w.container("attacker", sharedRoot).Spawn(peertest.Spec{})
			c.Exec("[lxc monitor] /var/lib/lxc victim")
			c.Connect(w.Path)
			return w.Accept()
		}, all("attacker")},

		{"argv of an LXC monitor, on the host", func(w *world, victim *peertest.Proc) int {
			p := peertest.Start(w.T, peertest.Spec{Argv: []string{"[lxc monitor] /var/lib/lxc victim"}})
			p.Connect(w.Path)
			return w.Accept()
		}, all("unknown")},

		{"same pid namespace depth, unprivileged, enters the victim's cgroup", func(w *world, victim *peertest.Proc) int {
			c := w.container("attacker", sharedRoot)
			if problem := c.TryEnter(victim.Spec.Cgroup.Dir); !strings.Contains(problem, "permission denied") {
				w.Errorf("the kernel let it in (%q): cgroups do not keep containers apart", problem)
			}
			if problem := c.TryEnter(filepath.Join(victim.Spec.Cgroup.Dir, "mine")); !strings.Contains(problem, "permission denied") {
				w.Errorf("the kernel let it in below (%q): cgroups do not keep containers apart", problem)
			}
			c.Connect(w.Path)
			return w.Accept()
		}, all("attacker")},

		{"privileged, enters the victim's cgroup as its root uid", func(w *world, victim *peertest.Proc) int {
			c := w.privileged("attacker").Spawn(peertest.Spec{})
			c.Enter(victim.Spec.Cgroup.Dir)
			c.Setuid(sharedRoot)
			c.Exec("innocent")
			c.Connect(w.Path)
			return w.Accept()
		}, all("pid_namespace")},

		{"privileged, enters a leaf of the victim's", func(w *world, victim *peertest.Proc) int {
			c := w.privileged("attacker").Spawn(peertest.Spec{})
			c.Enter(filepath.Join(victim.Spec.Cgroup.Dir, "leaf"))
			c.Setuid(sharedRoot)
			c.Exec("innocent")
			c.Connect(w.Path)
			return w.Accept()
		}, all("pid_namespace")},

		{"privileged, enters the victim's cgroup and exits", func(w *world, victim *peertest.Proc) int {
			c := w.privileged("attacker").Spawn(peertest.Spec{})
			c.Enter(victim.Spec.Cgroup.Dir)
			c.Setuid(sharedRoot)
			c.Exec("innocent")
			c.Connect(w.Path)
			c.Exit()
			return w.Accept()
		}, all("gone")},

		{"privileged, enters a privileged victim's cgroup", func(w *world, victim *peertest.Proc) int {
			other := w.privileged("privileged victim")
			c := w.privileged("attacker")
			c.Enter(other.Spec.Cgroup.Dir)
			c.Connect(w.Path)
			return w.Accept()
		}, all("pid_namespace")},

		{"host process in the victim's cgroup while a privileged container is bound", func(w *world, victim *peertest.Proc) int {
			w.privileged("other")
			p := peertest.Start(w.T, peertest.Spec{Cgroup: victim.Spec.Cgroup, RootUID: sharedRoot})
			p.Connect(w.Path)
			return w.Accept()
		}, all("pid_namespace")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			victim := w.container("victim", sharedRoot)
			w.verify(tt.run(w, victim), tt.want)
			victim.Connect(w.Path)
			w.verify(w.Accept(), all("victim"))
		})
	}
}

// TestPidReuse: the peer exits before accept, and its pid becomes that of a process of
// the victim. LevelPidfdOpen cannot see that by itself, which is its documented hole.
func TestPidReuse(t *testing.T) {
	for _, tt := range []struct {
		name    string
		rootUID int // the victim's
		want    expect
	}{
		{"same root uid", sharedRoot, expect{LevelPidfdOpen.String(): "victim"}},
		{"other root uid", otherRoot, expect{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			peertest.Need(t, peertest.LastPid)
			w := newWorld(t)
			victim := w.container("victim", tt.rootUID)
			c1 := w.container("c1", sharedRoot)
			p := peertest.Start(t, peertest.Spec{Cgroup: c1.Spec.Cgroup, RootUID: sharedRoot})
			p.Connect(w.Path)
			p.Exit()
			p.Reap()
			peertest.StartAt(t, peertest.Spec{Cgroup: victim.Spec.Cgroup, RootUID: tt.rootUID}, p.PID)
			want := exitedIs("c1", "gone")
			for name, answer := range tt.want {
				want[name] = answer
			}
			w.verify(w.Accept(), want)
		})
	}
}

// TestSharedCgroup: two containers in one cgroup, which was the first one's own when
// it was registered, are told apart by their pid namespaces.
func TestSharedCgroup(t *testing.T) {
	w := newWorld(t)
	shared := peertest.NewCgroup(t)
	spec := peertest.Spec{Cgroup: shared, RootUID: sharedRoot, PidNS: true}
	first := peertest.Start(t, spec)
	w.bind("first", first)
	second := peertest.Start(t, spec)
	third := peertest.Start(t, spec) // never registered
	inits := make([]*Init, len(w.rigs))
	for n, r := range w.rigs {
		i, err := r.h.OpenInit(second.PID, InitOptions{InUse: func(id uint64) bool { return id == shared.ID }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { i.Close() })
		if i.CgroupID != 0 || !strings.Contains(i.CgroupNote, "belongs to another") {
			t.Errorf("%s: cgroup %d, note %q; want none of its own", r.name, i.CgroupID, i.CgroupNote)
		}
		r.dir.add(&binding{name: "second", ns: i.PidNS, root: i.RootUID})
		inits[n] = i
	}
	connect := func(p *peertest.Proc) int {
		p.Connect(w.Path)
		return w.Accept()
	}
	w.verify(connect(first), all("first"))
	w.verify(connect(first.Spawn(peertest.Spec{PidNS: true})), all("first"))
	w.verify(connect(second), all("second"))
	w.verify(connect(second.Spawn(peertest.Spec{PidNS: true})), all("second"))
	w.verify(connect(third), all("unknown"))
}

// TestManyLeaves: a container that makes one cgroup after the other is identified each
// time, and what is offered to the cache is always its own.
func TestManyLeaves(t *testing.T) {
	w := newWorld(t)
	w.container("victim", sharedRoot)
	c := w.container("attacker", sharedRoot)
	const leaves = 2 * maxLeaves
	for n := range leaves {
		c.Enter(filepath.Join(c.Spec.Cgroup.Dir, fmt.Sprint("leaf", n)))
		conn := c.Connect(w.Path)
		fd := w.Accept()
		w.verify(fd, all("attacker"))
		conn.Close()
	}
	for _, r := range w.rigs {
		if r.dir.offered != leaves {
			t.Errorf("%s: %d leaves offered; want %d", r.name, r.dir.offered, leaves)
		}
		if len(r.dir.leaves) != maxLeaves {
			t.Errorf("%s: %d leaves kept; want %d", r.name, len(r.dir.leaves), maxLeaves)
		}
		for leaf, b := range r.dir.leaves {
			if b.name != "attacker" || leaf == b.cgroup {
				t.Errorf("%s: leaf %d of %s cached", r.name, leaf, b.name)
			}
		}
	}
}

// TestSharedPidNSWithServer: for a container that shares the server's pid namespace
// everything is "below" it, so only a peer in that very namespace passes.
func TestSharedPidNSWithServer(t *testing.T) {
	w := newWorld(t)
	host := peertest.Start(t, peertest.Spec{Cgroup: peertest.NewCgroup(t), MountNS: true})
	w.bind("host pid namespace", host)
	host.Connect(w.Path)
	w.verify(w.Accept(), all("host pid namespace"))
	attacker := w.privileged("attacker")
	attacker.Enter(host.Spec.Cgroup.Dir)
	attacker.Connect(w.Path)
	w.verify(w.Accept(), all("pid_namespace"))
}

// TestCgroupIDsReserved: the root and the server's own cgroup identify nobody, even
// when a directory claims them.
func TestCgroupIDsReserved(t *testing.T) {
	w := newWorld(t)
	p := peertest.Start(t, peertest.Spec{})
	p.Connect(w.Path)
	fd := w.Accept()
	for _, r := range w.rigs {
		for _, id := range append([]uint64{0, 1}, r.h.own...) {
			r.dir.cgroups[id] = &binding{name: "root", cgroup: id, ns: r.h.ownNS}
		}
		r.dir.pidns[r.h.ownNS] = &binding{name: "own pid namespace", ns: r.h.ownNS}
	}
	w.verify(fd, all("unknown"))
	p = peertest.Start(t, peertest.Spec{Cgroup: peertest.NewCgroup(t)})
	p.Connect(w.Path)
	w.verify(w.Accept(), all("unknown"))
}

// serveCommand identifies the peer of a descriptor, in a child that plays the server.
func serveCommand(args []string) (string, error) {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return "", err
	}
	fd, err := strconv.Atoi(args[1])
	if err != nil {
		return "", err
	}
	h, err := Probe(Options{})
	if err != nil {
		return "", err
	}
	defer h.Close()
	i, err := h.OpenInit(pid, InitOptions{})
	if err != nil {
		return "", err
	}
	defer i.Close()
	dir := newDirectory()
	dir.add(&binding{cgroup: i.CgroupID, ns: i.PidNS, root: i.RootUID})
	_, _, reject := Identify(h, dir, fd)
	return fmt.Sprintf("server in %v: container in %d is %s", h.own, i.CgroupID, reject), nil
}

// TestServerInCgroup identifies from a server that has a cgroup of its own: neighbours in
// it and above it are nobody, containers below it are found.
func TestServerInCgroup(t *testing.T) {
	peertest.Need(t, peertest.Root, peertest.Cgroup2, peertest.UserNS)
	slice := peertest.NewCgroup(t)
	service := slice.Sub("devlxd.service")
	server := peertest.Start(t, peertest.Spec{Cgroup: service})
	below := peertest.Start(t, peertest.Spec{Cgroup: service.Sub("payload"), RootUID: sharedRoot, PidNS: true})
	beside := peertest.Start(t, peertest.Spec{Cgroup: slice.Sub("payload"), RootUID: sharedRoot, PidNS: true})
	inside := peertest.Start(t, peertest.Spec{Cgroup: service, RootUID: sharedRoot, PidNS: true})
	above := peertest.Start(t, peertest.Spec{Cgroup: slice, RootUID: sharedRoot, PidNS: true})
	for _, tt := range []struct {
		name string
		p    *peertest.Proc
		own  uint64
	}{
		{"below", below, below.Spec.Cgroup.ID},
		{"beside", beside, beside.Spec.Cgroup.ID},
		{"inside", inside, 0},
		{"above", above, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := peertest.Listen(t)
			tt.p.Connect(l.Path)
			conn := server.Give(l.Accept())
			got := server.Call("serve", fmt.Sprint(tt.p.PID), fmt.Sprint(conn.Descriptor()))
			want := fmt.Sprintf("server in %v: container in %d is none", []uint64{service.ID, slice.ID, 1}, tt.own)
			if got != want {
				t.Errorf("got %q; want %q", got, want)
			}
		})
	}
}
