package peer

import (
	"testing"

	"devlxd/peer/peertest"
)

// TestPrivilegedGone: the second proof is demanded of all from the first privileged
// container on, also when none is bound any more, or always where the option says so.
func TestPrivilegedGone(t *testing.T) {
	w := newWorld(t)
	always := &rig{name: "always", h: probeHost(t, Options{PidNSAlways: true}), dir: newDirectory()}
	w.rigs = append(w.rigs, always)
	victim := w.container("victim", sharedRoot)
	intruder := peertest.Start(t, peertest.Spec{Cgroup: victim.Spec.Cgroup, RootUID: sharedRoot})
	intruder.Connect(w.Path)
	fd := w.Accept()
	// Put there by the host's root, which is believed.
	w.verify(fd, expect{"": "victim", "always": "pid_namespace"})

	p := peertest.Start(t, peertest.Spec{Cgroup: peertest.NewCgroup(t), PidNS: true})
	var open []*Init
	for _, r := range w.rigs {
		for range 2 {
			i, err := r.h.OpenInit(p.PID, InitOptions{})
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, i)
		}
	}
	for n, i := range open {
		r := w.rigs[n/2]
		if got := r.identify(fd); got != "pid_namespace" {
			t.Errorf("%s: %s while a privileged container is bound", r.name, got)
		}
		i.Close()
		i.Close() // counts once
	}
	w.verify(fd, all("pid_namespace"))
}

// TestPrivilegedUnbound: a privileged container that is not bound takes the victim's cgroup
// and root uid. It passes for nobody once the server knows of it.
func TestPrivilegedUnbound(t *testing.T) {
	for _, tt := range []struct {
		name  string
		known func(t *testing.T, r *rig, attacker *peertest.Proc)
		want  expect
	}{
		{"bound and stopped", func(t *testing.T, r *rig, attacker *peertest.Proc) {
			i, err := r.h.OpenInit(attacker.PID, InitOptions{})
			if err != nil {
				t.Fatal(err)
			}
			b := &binding{name: "attacker", cgroup: i.CgroupID, ns: i.PidNS, root: i.RootUID, privileged: true}
			r.dir.add(b)
			r.dir.stop(b)
			i.Close()
		}, all("pid_namespace")},
		{"could not be bound", func(t *testing.T, r *rig, attacker *peertest.Proc) {
			if _, err := r.h.OpenInit(attacker.PID, InitOptions{Cgroup: "/no/such/cgroup"}); err == nil {
				t.Error("it was bound")
			}
		}, all("pid_namespace")},
		{"remembered", func(_ *testing.T, r *rig, _ *peertest.Proc) {
			r.h.RequirePidNS()
			r.h.RequirePidNS()
		}, all("pid_namespace")},
		// What the documentation says is not covered, so that it stays true.
		{"never known", nil, expect{"": "victim", "always": "pid_namespace"}},
		{"known as another process of the host", func(t *testing.T, r *rig, _ *peertest.Proc) {
			p := peertest.Start(t, peertest.Spec{Cgroup: peertest.NewCgroup(t)})
			i, err := r.h.OpenInit(p.PID, InitOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if !i.Privileged || !r.h.PidNSRequired() {
				t.Errorf("privileged %v, pid namespace required %v while it is open", i.Privileged, r.h.PidNSRequired())
			}
			i.Close()
		}, expect{"": "victim", "always": "pid_namespace"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.rigs = append(w.rigs, &rig{name: "always", h: probeHost(t, Options{PidNSAlways: true}), dir: newDirectory()})
			victim := w.container("victim", sharedRoot)
			attacker := peertest.Start(t, peertest.Spec{Cgroup: peertest.NewCgroup(t), PidNS: true, MountNS: true})
			for _, r := range w.rigs {
				if got := r.h.PidNSRequired(); got != (r.name == "always") {
					t.Errorf("%s: pid namespace required %v before anything is known", r.name, got)
				}
				if tt.known != nil {
					tt.known(t, r, attacker)
				}
			}
			p := attacker.Spawn(peertest.Spec{})
			p.Enter(victim.Spec.Cgroup.Dir)
			p.Setuid(sharedRoot)
			p.Exec("innocent")
			p.Connect(w.Path)
			fd := w.Accept()
			w.verify(fd, tt.want)
			for _, r := range w.rigs {
				want, ok := tt.want[r.name]
				if !ok {
					want = tt.want[""]
				}
				if got := r.h.PidNSRequired(); got != (want == "pid_namespace") {
					t.Errorf("%s: pid namespace required %v", r.name, got)
				}
			}
			victim.Connect(w.Path)
			w.verify(w.Accept(), all("victim"))
		})
	}
}
