package registry_test

import (
	"testing"
	"time"

	"devlxd/registry"
	"devlxd/registry/registrytest"
)

// binding and directory are what the identification of peers asks for; package peer states them, and nothing is imported here.
type binding interface {
	comparable
	CgroupID() uint64
	PidNS() (dev, ino uint64)
	RootUID() uint32
	Privileged() bool
	Dead() bool
}

type directory[B binding] interface {
	LookupCgroup(id uint64) (B, bool)
	LookupPidNS(dev, ino uint64) (B, bool)
	CacheLeaf(leaf uint64, b B)
}

var _ directory[*registry.Binding] = (*registry.Registry)(nil)

func TestBindingSaysWhatWasBound(t *testing.T) {
	now := time.Unix(1700000000, 0)
	r := registry.New(registry.Options{Now: func() time.Time { return now }})
	c := put(t, r, registry.Spec{Name: "c1"})
	if c.Binding() != nil {
		t.Error("a container that was never bound has a binding")
	}
	id := registry.Identity{InitPID: 42, CgroupID: 272, PidNSDev: 4, PidNSIno: 4026532466, RootUID: 100000, Privileged: true}
	b, err := r.Bind("c1", id)
	if err != nil {
		t.Fatal(err)
	}
	dev, ino := b.PidNS()
	if b.Container() != c || c.Binding() != b || b.InitPID() != 42 || b.CgroupID() != 272 || dev != 4 || ino != 4026532466 ||
		b.RootUID() != 100000 || !b.Privileged() || b.Dead() || !b.Since().Equal(now) || b.Generation() == 0 {
		t.Errorf("binding = %+v", b)
	}
	if b.Ready() {
		t.Error("Ready at the start; want Started")
	}
	if b.SetReady(true); !b.Ready() {
		t.Error("SetReady(true) had no effect")
	}
	if b.SetReady(false); b.Ready() {
		t.Error("SetReady(false) had no effect")
	}
}

func TestBindRefuses(t *testing.T) {
	alone := registry.Identity{PidNSDev: 4, PidNSIno: 900}                 // no cgroup of its own
	grouped := registry.Identity{CgroupID: 50, PidNSDev: 4, PidNSIno: 800} // with one
	for _, tt := range []struct {
		name    string
		running registry.Identity // of another container
		target  string
		id      registry.Identity
		want    error
	}{
		{"nothing to tell apart", grouped, "c2", registry.Identity{InitPID: 1, PidNSDev: 4}, registry.ErrIdentity},
		{"root cgroup", grouped, "c2", registry.Identity{CgroupID: 1, PidNSIno: 7}, registry.ErrRootCgroup},
		{"unknown container", grouped, "c3", registry.Identity{CgroupID: 51}, registry.ErrNotFound},
		{"running already", grouped, "c1", registry.Identity{CgroupID: 51}, registry.ErrBound},
		{"cgroup taken", grouped, "c2", registry.Identity{CgroupID: 50, PidNSDev: 4, PidNSIno: 801}, registry.ErrCgroupTaken},
		{"pid namespace taken", alone, "c2", alone, registry.ErrPidNSTaken},
		{"only proof is another's namespace", grouped, "c2", registry.Identity{PidNSDev: 4, PidNSIno: 800}, registry.ErrPidNSTaken},
		{"namespace is another's only proof", alone, "c2", registry.Identity{CgroupID: 51, PidNSDev: 4, PidNSIno: 900}, registry.ErrPidNSTaken},
		{"shared namespace, own cgroups", grouped, "c2", registry.Identity{CgroupID: 51, PidNSDev: 4, PidNSIno: 800}, nil},
		{"same inode on another device", alone, "c2", registry.Identity{PidNSDev: 5, PidNSIno: 900}, nil},
		{"cgroup only", grouped, "c2", registry.Identity{CgroupID: 51}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := registry.New(registry.Options{})
			put(t, r, registry.Spec{Name: "c1"})
			c2 := put(t, r, registry.Spec{Name: "c2"})
			first, err := r.Bind("c1", tt.running)
			if err != nil {
				t.Fatal(err)
			}
			tt.id.Release = func() { t.Error("Release was called") }
			b, err := r.Bind(tt.target, tt.id)
			if err != tt.want || (b == nil) != (tt.want != nil) {
				t.Fatalf("Bind = %v, %v; want %v", b, err, tt.want)
			}
			if tt.want == nil {
				return
			}
			if c2.Binding() != nil || r.Stats().Bound != 1 {
				t.Error("a refused Bind left a binding")
			}
			// Nothing of the refused identity may stand in the way after the first container has stopped.
			r.Stop(first)
			put(t, r, registry.Spec{Name: "c3"})
			tt.id.Release = nil
			if _, err := r.Bind(tt.target, tt.id); err != nil && err != registry.ErrIdentity && err != registry.ErrRootCgroup {
				t.Errorf("Bind after the stop = %v", err)
			}
		})
	}
}

func TestLookups(t *testing.T) {
	r := registry.New(registry.Options{})
	put(t, r, registry.Spec{Name: "grouped"})
	put(t, r, registry.Spec{Name: "alone"})
	grouped, _ := r.Bind("grouped", registry.Identity{CgroupID: 50, PidNSDev: 4, PidNSIno: 800})
	alone, _ := r.Bind("alone", registry.Identity{PidNSDev: 4, PidNSIno: 900})
	for _, id := range []uint64{0, 1, 51} {
		if b, ok := r.LookupCgroup(id); ok || b != nil {
			t.Errorf("LookupCgroup(%d) = %v, %v", id, b, ok)
		}
	}
	if b, ok := r.LookupCgroup(50); !ok || b != grouped {
		t.Errorf("LookupCgroup(50) = %v, %v", b, ok)
	}
	if b, ok := r.LookupPidNS(4, 900); !ok || b != alone {
		t.Errorf("LookupPidNS(4, 900) = %v, %v", b, ok)
	}
	if b, ok := r.LookupPidNS(4, 800); ok {
		t.Errorf("LookupPidNS = %v for a container that has a cgroup", b)
	}
	r.Stop(grouped)
	r.Stop(alone)
	if _, ok := r.LookupCgroup(50); ok {
		t.Error("LookupCgroup finds a dead binding")
	}
	if _, ok := r.LookupPidNS(4, 900); ok {
		t.Error("LookupPidNS finds a dead binding")
	}
}

// orderObserver checks what is visible when Stopped is called.
type orderObserver struct {
	t        *testing.T
	registry *registry.Registry
	released bool
	calls    int
}

func (o *orderObserver) Revoked(*registry.Container) {}
func (o *orderObserver) Stopped(b *registry.Binding) {
	o.calls++
	if _, found := o.registry.LookupCgroup(b.CgroupID()); found || !b.Dead() || b.Container().Binding() != nil || !o.released {
		o.t.Error("Stopped was called before the stop was complete")
	}
	o.registry.Len() // would never return under the registry's lock if it took one
	if o.registry.Stop(b) {
		o.t.Error("Stop from Stopped = true; want false for a dead binding")
	}
}

func TestStop(t *testing.T) {
	o := &orderObserver{t: t}
	r := registry.New(registry.Options{Observer: o})
	o.registry = r
	put(t, r, registry.Spec{Name: "c1"})
	releases := 0
	id := registry.Identity{CgroupID: 50, Release: func() {
		releases++
		o.released = true
		if _, ok := r.LookupCgroup(50); ok {
			t.Error("Release was called while the id still leads to the container")
		}
	}}
	b, _ := r.Bind("c1", id)
	for i, want := range []bool{true, false, false} {
		if got := r.Stop(b); got != want {
			t.Errorf("Stop no. %d = %v; want %v", i+1, got, want)
		}
	}
	if releases != 1 || o.calls != 1 {
		t.Errorf("%d releases, %d calls of Stopped; want one each", releases, o.calls)
	}
	if r.Stop(nil) {
		t.Error("Stop(nil) = true")
	}
	other := registry.New(registry.Options{})
	put(t, other, registry.Spec{Name: "c1"})
	foreign, _ := other.Bind("c1", registry.Identity{CgroupID: 50})
	if r.Stop(foreign) || foreign.Dead() {
		t.Error("Stop ended a binding of another registry")
	}
}

func TestRestart(t *testing.T) {
	var host registrytest.Host
	r := registry.New(registry.Options{})
	first := host.Start(t, r, registry.Spec{Name: "c1"})
	first.SetReady(true)
	ring := first.Ring()
	position := ring.Position()
	r.Stop(first)
	second := host.Start(t, r, registry.Spec{Name: "c1"})
	if second == first || second.Generation() <= first.Generation() || second.Ready() || second.Dead() || !first.Dead() {
		t.Errorf("second life = %+v after %+v", second, first)
	}
	if second.Ring().Epoch() == ring.Epoch() {
		t.Error("the epoch outlived the life")
	}
	if _, err := second.Ring().Resume(position, bothTypes); err != registry.ErrGone {
		t.Errorf("Resume in the second life = %v; want ErrGone", err)
	}
	if r.Stop(first) || second.Dead() {
		t.Error("stopping the first life again ended the second")
	}
}

func TestRemove(t *testing.T) {
	var host registrytest.Host
	var seen registrytest.Recorder
	r := registry.New(registry.Options{Observer: &seen})
	b := host.Start(t, r, registry.Spec{Name: "c1", Config: config{"user.a": "1"}})
	c := b.Container()
	if err := r.Remove("c1"); err != nil {
		t.Fatal(err)
	}
	if err := r.Remove("c1"); err != registry.ErrNotFound {
		t.Errorf("second Remove = %v; want ErrNotFound", err)
	}
	if _, ok := r.Container("c1"); ok || !b.Dead() || c.Binding() != nil || host.Open() != 0 || len(seen.AllStopped()) != 1 {
		t.Errorf("after Remove: found %v, dead %v, %d open", ok, b.Dead(), host.Open())
	}
	if v, _ := c.Snapshot().Value("user.a"); string(v) != "1" {
		t.Errorf("the last snapshot says user.a = %q", v)
	}
	if again := put(t, r, registry.Spec{Name: "c1"}); again == c {
		t.Error("a removed container came back to life")
	}
}
