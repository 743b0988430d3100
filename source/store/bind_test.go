package store

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"devlxd/registry"
	"devlxd/source"
)

func TestBind(t *testing.T) {
	h := newHarness(t)
	h.must(h.AddContainer(source.NewContainer{Name: "c"}))
	facts := h.binder.start(70)
	h.must(h.Bind("c", source.BindRequest{PID: 70}))
	if got := h.running("c"); got != 70 {
		t.Fatalf("container runs as pid %d; want 70", got)
	}
	c, _ := h.reg.Container("c")
	if got := c.Binding(); got.CgroupID() != facts.CgroupID || got.RootUID() != facts.RootUID {
		t.Errorf("binding has cgroup %d and uid %d; want those of %+v", got.CgroupID(), got.RootUID(), facts)
	}
	if n := h.binder.opened(); n != 1 {
		t.Errorf("%d processes are held; want the one that is bound", n)
	}
	h.reg.Stop(c.Binding())
	if n := h.binder.opened(); n != 0 {
		t.Errorf("%d processes are held after the stop; want none", n)
	}
	h.must(h.Bind("c", source.BindRequest{PID: 70}))
	h.must(h.RemoveContainer("c"))
	if n := h.binder.opened(); n != 0 {
		t.Errorf("%d processes are held after the container was removed; want none", n)
	}
}

func TestBindDefaults(t *testing.T) {
	stored, given := uint32(100000), uint32(200000)
	h := newHarness(t)
	h.must(h.AddContainer(source.NewContainer{Name: "c", Cgroup: "/stored", RootUID: &stored}))
	facts := h.binder.start(70)
	facts.Privileged = true
	h.binder.alive[70] = facts
	for _, c := range []struct {
		name      string
		req, want source.BindRequest
	}{
		{"both stored", source.BindRequest{PID: 70}, source.BindRequest{PID: 70, Cgroup: "/stored", RootUID: &stored}},
		{"cgroup given", source.BindRequest{PID: 70, Cgroup: "/given"}, source.BindRequest{PID: 70, Cgroup: "/given", RootUID: &stored}},
		{"uid given", source.BindRequest{PID: 70, RootUID: &given}, source.BindRequest{PID: 70, Cgroup: "/stored", RootUID: &given}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.must(h.Bind("c", c.req))
			if got := h.binder.last(); !reflect.DeepEqual(got, c.want) {
				t.Fatalf("process opened by %+v; want %+v", got, c.want)
			}
			h.reopen() // opens it by what served at the bind
			c.want.Was = &facts
			if got := h.binder.last(); !reflect.DeepEqual(got, c.want) {
				t.Fatalf("process opened after a restart by %+v; want %+v", got, c.want)
			}
			container, _ := h.reg.Container("c")
			h.reg.Stop(container.Binding())
		})
	}
	h.binder.start(71)
	h.must(h.AddContainer(source.NewContainer{Name: "d", Cgroup: "/d", RootUID: &stored, PID: 71}))
	if got, want := h.binder.last(), (source.BindRequest{PID: 71, Cgroup: "/d", RootUID: &stored}); !reflect.DeepEqual(got, want) {
		t.Errorf("added with a pid: process opened by %+v; want %+v", got, want)
	}
}

func TestBindRefused(t *testing.T) {
	h := newHarness(t)
	h.must(h.AddContainer(source.NewContainer{Name: "c"}))
	h.must(h.AddContainer(source.NewContainer{Name: "running"}))
	h.binder.start(70)
	h.binder.start(71)
	h.must(h.Bind("running", source.BindRequest{PID: 70}))
	before := readAll(t, h.path(stateName))
	boom := errors.New("boom")
	for _, c := range []struct {
		name   string
		openTo error // Open of the binder fails with it
		bind   func() error
		kind   error
		text   string
	}{
		{"pid 0", nil, func() error { return h.Bind("c", source.BindRequest{}) }, source.ErrInvalid, "pid 0"},
		{"no container", nil, func() error { return h.Bind("x", source.BindRequest{PID: 71}) }, source.ErrNotFound, `container "x"`},
		{"no process", nil, func() error { return h.Bind("c", source.BindRequest{PID: 9}) }, source.ErrNoProcess, "pid 9"},
		{"not examined", boom, func() error { return h.Bind("c", source.BindRequest{PID: 71}) }, boom, `container "c" to pid 71`},
		{"runs already", nil, func() error { return h.Bind("running", source.BindRequest{PID: 71}) }, source.ErrConflict, "runs already with pid 70"},
		{"runs perhaps", boom, func() error { return h.Bind("running", source.BindRequest{PID: 71}) }, source.ErrConflict, "runs already with pid 70"},
		{"add with no process", nil, func() error { return h.AddContainer(source.NewContainer{Name: "n", PID: 9}) }, source.ErrNoProcess, "pid 9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.binder.fail(c.openTo, nil)
			defer h.binder.fail(nil, nil)
			wantError(t, c.bind(), c.kind, c.text)
		})
	}
	if readAll(t, h.path(stateName)) != before {
		t.Error("a refused bind was written")
	}
	if n, got := h.binder.opened(), h.reg.Len(); n != 1 || got != 2 {
		t.Errorf("%d processes held and %d containers; want 1 and 2", n, got)
	}
}

// TestActivateFails: the change was on disk already and has to come off again.
func TestActivateFails(t *testing.T) {
	for _, c := range []struct{ cause, kind error }{
		{errors.New("boom"), nil},
		{registry.ErrCgroupTaken, source.ErrConflict},
		{registry.ErrPidNSTaken, source.ErrConflict},
		{registry.ErrBound, source.ErrConflict},
		{fmt.Errorf("%w: taken", source.ErrConflict), source.ErrConflict},
	} {
		t.Run(c.cause.Error(), func(t *testing.T) {
			kind := c.kind
			if kind == nil {
				kind = c.cause
			}
			h := newHarness(t)
			h.must(h.AddContainer(source.NewContainer{Name: "c"}))
			h.binder.start(70)
			h.binder.fail(nil, c.cause)
			err := h.Bind("c", source.BindRequest{PID: 70})
			h.want(err, kind, c.cause.Error())
			if n := strings.Count(err.Error(), "conflict"); n > 1 {
				t.Errorf("error = %q; want it to say conflict once", err)
			}
			h.want(h.AddContainer(source.NewContainer{Name: "n", PID: 70}), kind, c.cause.Error())
			h.binder.fail(nil, nil)
			for range 2 {
				if n := h.binder.opened(); n != 0 {
					t.Errorf("%d processes held; want none", n)
				}
				if got := h.running("c"); got != 0 || h.reg.Len() != 1 {
					t.Errorf("container runs as pid %d, %d containers; want it stopped and alone", got, h.reg.Len())
				}
				h.reopen()
			}
			h.must(h.AddContainer(source.NewContainer{Name: "n", PID: 70}))
		})
	}
}

// TestBindAgain: a container that was restarted is bound before the exit of its old process was seen.
func TestBindAgain(t *testing.T) {
	for name, restart := range map[string]func(h *harness) int{
		"another pid":    func(h *harness) int { h.binder.exit(70); h.binder.start(71); return 71 },
		"the same pid":   func(h *harness) int { h.binder.start(70); return 70 },
		"old pid reused": func(h *harness) int { h.binder.start(70); h.binder.start(71); return 71 },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.binder.start(70)
			h.must(h.AddContainer(source.NewContainer{Name: "c", PID: 70}))
			c, _ := h.reg.Container("c")
			old := c.Binding()
			pid := restart(h)
			h.must(h.Bind("c", source.BindRequest{PID: pid}))
			if got := h.running("c"); got != pid || !old.Dead() || h.binder.opened() != 1 {
				t.Errorf("runs as pid %d, old binding dead: %v, %d processes held; want %d, true, 1", got, old.Dead(), h.binder.opened(), pid)
			}
		})
	}
}

// TestBindRunningOlderKernel: without a pidfd inode, and with its cgroup in use, a process that runs is still not taken for gone.
func TestBindRunningOlderKernel(t *testing.T) {
	h := newHarness(t)
	facts := h.binder.start(70)
	facts.PidfdInode = 0
	h.binder.alive[70] = facts
	h.must(h.AddContainer(source.NewContainer{Name: "c", PID: 70}))
	facts.CgroupID = 0
	h.binder.alive[70] = facts
	h.binder.start(71)
	h.want(h.Bind("c", source.BindRequest{PID: 71}), source.ErrConflict, "runs already with pid 70")
	if got := h.running("c"); got != 70 {
		t.Errorf("container runs as pid %d; want 70 as before", got)
	}
	facts.PidNSIno++
	h.binder.alive[70] = facts
	h.must(h.Bind("c", source.BindRequest{PID: 71}))
}

// TestRebindToldOfAll: the binder hears of what is remembered of every process that was ever bound, be it gone, replaced, or impossible to examine:
// a privileged one may run on unbound.
func TestRebindToldOfAll(t *testing.T) {
	h := newHarness(t)
	want := make(map[int]source.Facts)
	for n, name := range []string{"runs", "exited", "replaced", "stopped-before"} {
		pid := 70 + n
		f := h.binder.start(pid)
		f.Privileged = n%2 == 0
		f.RootUID = uint32(n)
		h.binder.alive[pid], want[pid] = f, f
		h.must(h.AddContainer(source.NewContainer{Name: name, PID: pid}))
	}
	h.must(h.AddContainer(source.NewContainer{Name: "never-bound"}))
	c, _ := h.reg.Container("stopped-before")
	h.reg.Stop(c.Binding())
	h.binder.exit(71)
	h.binder.start(72)
	h.binder.requests = nil
	h.reopen()
	got := make(map[int]source.Facts)
	for _, req := range h.binder.requests {
		got[req.PID] = *req.Was
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("opened with %+v; want %+v", got, want)
	}
	if h.running("runs") != 70 || h.running("exited") != 0 || h.running("replaced") != 0 {
		t.Error("another container runs than the one that does")
	}
}

func TestRebind(t *testing.T) {
	for _, c := range []struct {
		name    string
		between func(h *harness) // the daemon is down
		running int
		log     string
	}{
		{"still runs", func(h *harness) {}, 70, "running=1"},
		{"has exited", func(h *harness) { h.binder.exit(70) }, 0, "DEBUG container has stopped"},
		{"pid reused", func(h *harness) { h.binder.start(70) }, 0, "INFO container left stopped: the pid now belongs to another process"},
		{"rebooted", func(h *harness) {
			f := h.binder.alive[70]
			f.BootID = "next"
			h.binder.alive[70] = f
		}, 0, "INFO container left stopped"},
		{"cannot be examined", func(h *harness) { h.binder.fail(errors.New("boom"), nil) }, 0, "WARN container left stopped"},
		{"cannot be activated", func(h *harness) { h.binder.fail(nil, errors.New("boom")) }, 0, "WARN container left stopped"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHarness(t)
			h.binder.start(70)
			h.must(h.AddContainer(source.NewContainer{Name: "c", PID: 70}))
			h.must(h.AddContainer(source.NewContainer{Name: "stopped"}))
			h.must(h.Close())
			h.binder.forget()
			c.between(h)
			before := readAll(t, h.path(stateName))
			h.open()
			want := 0
			if c.running != 0 {
				want = 1
			}
			if got, n := h.running("c"), h.binder.opened(); got != c.running || n != want {
				t.Errorf("container runs as pid %d, %d processes held; want %d, %d", got, n, c.running, want)
			}
			if !strings.Contains(h.logs.String(), c.log) {
				t.Errorf("log does not say %q:\n%s", c.log, h.logs)
			}
			if readAll(t, h.path(stateName)) != before {
				t.Error("Open wrote to the file")
			}
		})
	}
}

func TestNoBinder(t *testing.T) {
	dir := memDir(t)
	h := &harness{t: t, dir: dir, binder: newFakeBinder()}
	h.open()
	h.binder.start(70)
	h.must(h.AddContainer(source.NewContainer{Name: "c", PID: 70}))
	h.must(h.Close())
	reg := registry.New(registry.Options{})
	s, err := Open(dir, reg, nil, nil)
	h.must(err)
	defer s.Close()
	c, ok := reg.Container("c")
	if !ok || c.Binding() != nil {
		t.Fatalf("container there: %v, want it there and stopped", ok)
	}
	h.want(s.Bind("c", source.BindRequest{PID: 70}), source.ErrInvalid, "cannot bind")
	h.want(s.AddContainer(source.NewContainer{Name: "d", PID: 70}), source.ErrInvalid, "cannot bind")
	if reg.Len() != 1 {
		t.Errorf("%d containers; want 1", reg.Len())
	}
}
