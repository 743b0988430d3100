package store

import (
	"errors"
	"testing"

	"devlxd/registry"
	"devlxd/source"
)

func foundAs(name string, pid int) source.Found {
	return source.Found{Name: name, InstanceID: "id-" + name, Request: source.BindRequest{PID: pid}}
}

func (h *harness) gone(name string) {
	h.t.Helper()
	if _, ok := h.reg.Container(name); ok {
		h.t.Fatalf("container %q is in the registry", name)
	}
}

func (h *harness) stop(name string) {
	h.t.Helper()
	c, ok := h.reg.Container(name)
	if !ok || !h.reg.Stop(c.Binding()) {
		h.t.Fatalf("container %q cannot be stopped", name)
	}
}

// TestFoundIsNotStored: it is there while it runs, and nothing of it is left in the state directory.
func TestFoundIsNotStored(t *testing.T) {
	h := newHarness(t)
	h.binder.start(70)
	h.must(h.BindFound(foundAs("c", 70)))
	h.must(h.BindFound(foundAs("c", 70))) // again, as a scan does
	if h.running("c") != 70 || h.instanceID("c") != "id-c" || len(h.config("c")) != 0 {
		t.Fatalf("runs as %d with instance id %q and %v", h.running("c"), h.instanceID("c"), h.config("c"))
	}
	if n := h.binder.opened(); n != 1 {
		t.Errorf("%d processes are held; want one", n)
	}
	h.must(h.ForgetFound("c")) // runs
	h.running("c")
	h.stop("c")
	h.must(h.ForgetFound("c"))
	h.gone("c")
	h.must(h.ForgetFound("c"))
	h.must(h.BindFound(foundAs("c", 70)))
	h.reopen()
	h.gone("c")
}

// TestFoundOfTheStore: a stored container has its config, and the bind is stored as that of a start hook is.
func TestFoundOfTheStore(t *testing.T) {
	h := newHarness(t)
	h.must(h.AddContainer(source.NewContainer{Name: "c", Config: map[string]string{"user.a": "1"}}))
	id := h.instanceID("c")
	h.binder.start(70)
	f := foundAs("c", 70)
	f.Hold = true
	h.want(h.BindFound(f), source.ErrLocked, `"c"`)
	f.Hold = false
	h.must(h.BindFound(f))
	f.Hold = true
	h.must(h.BindFound(f)) // nothing is to be written down
	h.reopen()
	if h.running("c") != 70 || h.instanceID("c") != id {
		t.Errorf("after the restart it runs as %d with instance id %q; want 70 and %q", h.running("c"), h.instanceID("c"), id)
	}
	h.wantConfig("c", map[string]string{"user.a": "1"})
	h.must(h.ForgetFound("c"))
	h.stop("c")
	h.must(h.ForgetFound("c"))
	h.wantConfig("c", map[string]string{"user.a": "1"})
}

// TestFoundIsStoredWithAChange: from the first change on it is a container like any other, and runs on.
func TestFoundIsStoredWithAChange(t *testing.T) {
	uid := uint32(5)
	for name, change := range map[string]func(h *harness) error{
		"config": func(h *harness) error { return h.UpdateConfig("c", map[string]string{"user.a": "1"}, nil) },
		"add": func(h *harness) error {
			return h.AddContainer(source.NewContainer{Name: "c", PID: 70, Cgroup: "/x", RootUID: &uid, Config: map[string]string{"user.a": "1"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.binder.start(70)
			h.must(h.BindFound(foundAs("c", 70)))
			h.must(h.UpdateConfig("c", nil, []string{"user.none"})) // changes nothing
			c, _ := h.reg.Container("c")
			life := c.Binding()
			h.must(change(h))
			if c.Binding() != life {
				t.Error("its life has ended")
			}
			h.wantConfig("c", map[string]string{"user.a": "1"})
			h.reopen()
			if h.running("c") != 70 || h.instanceID("c") != "id-c" {
				t.Errorf("after the restart it runs as %d with instance id %q", h.running("c"), h.instanceID("c"))
			}
			h.wantConfig("c", map[string]string{"user.a": "1"})
		})
	}
}

func TestFoundDevice(t *testing.T) {
	h := newHarness(t)
	h.binder.start(70)
	h.must(h.BindFound(foundAs("c", 70)))
	h.want(h.SetDevice("c", "eth0", nil, nil), source.ErrNotFound, "eth0")
	h.must(h.AddDevice("c", "d", map[string]string{"type": "disk"}))
	h.reopen()
	if c, _ := h.reg.Container("c"); len(c.Snapshot().Devices()) != 1 {
		t.Error("the device is lost")
	}
}

// TestFoundRemove: an operator may remove it, running or not.
func TestFoundRemove(t *testing.T) {
	h := newHarness(t)
	h.binder.start(70)
	h.must(h.BindFound(foundAs("c", 70)))
	h.must(h.RemoveContainer("c"))
	h.gone("c")
	if n := h.binder.opened(); n != 0 {
		t.Errorf("%d processes are held; want none", n)
	}
	h.want(h.RemoveContainer("c"), source.ErrNotFound, "c")
	h.must(h.AddContainer(source.NewContainer{Name: "c"}))
}

// TestFoundRestarts: another process under the same name, bound by discovery or by a start hook.
func TestFoundRestarts(t *testing.T) {
	h := newHarness(t)
	h.binder.start(70)
	h.must(h.BindFound(foundAs("c", 70)))
	h.binder.start(71)
	h.want(h.BindFound(foundAs("c", 71)), source.ErrConflict, "pid 70")
	h.want(h.AddContainer(source.NewContainer{Name: "c", PID: 71}), source.ErrConflict, "pid 70")
	h.binder.exit(70) // which nobody has seen yet
	h.must(h.BindFound(foundAs("c", 71)))
	if h.running("c") != 71 {
		t.Fatalf("runs as %d; want 71", h.running("c"))
	}
	h.stop("c")
	h.must(h.Bind("c", source.BindRequest{PID: 71}))
	h.reopen()
	if h.running("c") != 71 {
		t.Error("a bind of a start hook is not stored")
	}
}

// TestFoundFails: nothing of it is left behind.
func TestFoundFails(t *testing.T) {
	h := newHarness(t)
	h.want(h.BindFound(foundAs("a/b", 70)), source.ErrInvalid, "container name")
	h.want(h.BindFound(foundAs("c", 0)), source.ErrInvalid, "pid 0")
	h.want(h.BindFound(foundAs("c", 70)), source.ErrNoProcess, "70")
	h.gone("c")
	h.binder.start(70)
	h.binder.fail(nil, registry.ErrCgroupTaken)
	h.want(h.BindFound(foundAs("c", 70)), source.ErrConflict, "c")
	h.gone("c")
	h.binder.fail(nil, nil)
	h.must(h.BindFound(foundAs("c", 70)))
	h.stop("c")
	h.binder.fail(nil, errors.New("no"))
	if err := h.Bind("c", source.BindRequest{PID: 70}); err == nil {
		t.Fatal("the bind has succeeded")
	}
	h.must(h.ForgetFound("c")) // so it is not stored
	h.gone("c")
	h.binder.fail(nil, nil)
	h.must(h.Suspend())
	h.want(h.BindFound(foundAs("c", 70)), source.ErrLocked, "take over")
	h.want(h.ForgetFound("c"), source.ErrLocked, "take over")
	h.must(h.Resume())
	h.must(h.BindFound(foundAs("c", 70)))
}
