package lxd

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"devlxd/fault"
	"devlxd/registry"
	"devlxd/source"
)

var (
	c1 = key{"default", "c1"}
	c2 = key{"default", "c2"}
	p1 = key{"p1", "c1"}
)

// TestMirror: what there is at the start, and each change after it.
func TestMirror(t *testing.T) {
	for _, blind := range []bool{false, true} {
		t.Run(fmt.Sprintf("blind=%v", blind), func(t *testing.T) {
			r := newRig(t, func(f *fake) {
				f.host.blind = blind
				f.create(c1, map[string]string{"user.a": "1", "security.nesting": "true", "environment.SECRET": "x", "volatile.eth0.hwaddr": "00:16:3e:00:00:01"})
				f.start(c1)
				f.create(p1, nil)
				f.create(key{"default", "vm"}, nil)
				f.instances[key{"default", "vm"}].Type = "virtual-machine"
				f.image(fingerprint('a'), "image", true)
			})
			r.settled()
			for what, change := range map[string]func(f *fake){
				"config":   func(f *fake) { f.set(c1, map[string]string{"user.a": "2", "cloud-init.user-data": "x"}) },
				"device":   func(f *fake) { f.device(c1, "eth0", map[string]string{"type": "nic"}) },
				"create":   func(f *fake) { f.create(c2, nil) },
				"start":    func(f *fake) { f.start(p1) },
				"profile":  func(f *fake) { f.profile(map[string]string{"user.p": "1"}) },
				"image":    func(f *fake) { f.image(fingerprint('b'), "image", false) },
				"location": func(f *fake) { f.move(key{"default", "vm"}, "there") },
			} {
				change(r.f)
				r.settled()
				t.Log(what)
			}
			r.f.stop(c1, false)
			r.f.rename(c1, key{"default", "c3"})
			r.f.restart(p1, false)
			r.f.remove(c2)
			r.f.removeImage(fingerprint('a'))
			r.settled()
			if got := r.m.counts.binds[bindAPI].Load() > 0; got != blind {
				t.Errorf("the daemon was asked for the process: %v", got)
			}
		})
	}
}

// TestKept: nothing of the config is kept but what is named.
func TestKept(t *testing.T) {
	config := map[string]string{
		"user.a": "", "cloud-init.user-data": "", "security.devlxd": "", "security.devlxd.images": "", "security.guestapi": "", "security.guestapi.images": "",
		"limits.devlxd.requests": "", "volatile.eth0.hwaddr": "",
		"environment.SECRET": "", "volatile.uuid": "", "volatile.cloud-init.instance-id": "", "security.nesting": "", "limits.cpu": "", "users": "", "raw.lxc": "",
		"volatile.last_state.ready": "", "": "", "cloud-init": "", "image.user.x": "",
	}
	s := (&instance{Name: "c1", Project: "default", ExpandedConfig: config}).spec()
	want := []string{"cloud-init.user-data", "limits.devlxd.requests", "security.devlxd", "security.devlxd.images", "security.guestapi", "security.guestapi.images", "user.a", "volatile.eth0.hwaddr"}
	if got := slices.Sorted(maps.Keys(s.Config)); !slices.Equal(got, want) {
		t.Errorf("kept %v; want %v", got, want)
	}
}

// TestProjects: containers of one name in two projects are two, and their guests are told the name.
func TestProjects(t *testing.T) {
	r := newRig(t, func(f *fake) {
		for _, k := range []key{c1, p1} {
			f.create(k, map[string]string{"user.of": k.project})
			f.start(k)
		}
	})
	for name, of := range map[string]string{"c1": "default", "p1_c1": "p1"} {
		s := r.container(name).Snapshot()
		if v, _ := s.Value("user.of"); string(v) != of || s.Hostname() != "c1" {
			t.Errorf("%s: user.of %q, host name %q", name, v, s.Hostname())
		}
	}
	if a, b := r.container("c1").Binding(), r.container("p1_c1").Binding(); a == nil || b == nil || a.CgroupID() == b.CgroupID() {
		t.Error("not bound apart")
	}
}

// TestChangeDuringRead: what changes while it is being read is read again.
func TestChangeDuringRead(t *testing.T) {
	r := newRig(t, func(f *fake) { f.create(c1, nil); f.slow = 5 * time.Millisecond })
	for n := range 20 {
		r.f.set(c1, map[string]string{"user.n": fmt.Sprint(n)})
		time.Sleep(time.Millisecond)
	}
	r.settled()
}

// TestDuringList: what changes between the list and its arrival is not lost, nor what is announced before the list is read.
func TestDuringList(t *testing.T) {
	r := newRig(t, func(f *fake) {
		f.create(c1, map[string]string{"user.a": "old"})
		f.create(c2, nil)
		f.during = func() {
			f.set(c1, map[string]string{"user.a": "new"})
			f.start(c1)
			f.remove(c2)
			f.create(p1, nil)
		}
	})
	r.settled()
	r.f.mu.Lock()
	r.f.during = func() { r.f.set(c1, map[string]string{"user.a": "newer"}); r.f.stop(c1, false) }
	r.f.mu.Unlock()
	r.f.drop()
	r.settled()
}

// TestProfileDuringRead: a profile or project that changes while an instance that is not mirrored yet is read, or all are for the first time, is not
// lost, though nobody knows at that time who uses it.
func TestProfileDuringRead(t *testing.T) {
	for what, change := range map[string]func(f *fake){
		"profile": func(f *fake) { f.profile(map[string]string{"user.p": "new"}) },
		"project": func(f *fake) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.profiles["default"]["user.p"] = "new" // as with a project that gets profiles of its own
			f.announceAbout("project-updated", "/1.0/projects/p1", defaultProject, nil)
		},
	} {
		t.Run(what, func(t *testing.T) {
			read := func(f *fake) func() {
				return func() {
					change(f)
					time.Sleep(20 * time.Millisecond) // so that the announcement comes before the answer
				}
			}
			r := newRig(t, func(f *fake) {
				f.create(p1, nil)
				f.during = read(f)
			})
			r.settled()
			r.f.profile(map[string]string{"user.p": "old"})
			r.settled()
			r.f.mu.Lock()
			r.f.duringOne = read(r.f)
			r.f.mu.Unlock()
			r.f.create(key{"p1", "c2"}, nil)
			r.settled()
		})
	}
}

// TestListBesideRead: a list that is older than what is read of one instance meanwhile does not undo that.
func TestListBesideRead(t *testing.T) {
	r := newRig(t, func(f *fake) { f.create(c1, map[string]string{"user.a": "old"}) })
	r.settled()
	r.f.mu.Lock()
	r.f.during = func() {
		r.f.set(c1, map[string]string{"user.a": "new"})
		time.Sleep(50 * time.Millisecond) // for the read, if it does not wait for the list
	}
	r.f.announceAbout("cluster-member-updated", "/1.0/cluster/members/here", "", nil)
	r.f.mu.Unlock()
	eventually(t, "no list is read", func() error {
		if n := r.f.count("GET instances"); n < 2 {
			return fmt.Errorf("%d lists", n)
		}
		return nil
	})
	r.settled()
}

// TestEventsAnyOrder: announcements that come twice, late and the other way round.
func TestEventsAnyOrder(t *testing.T) {
	var held []*event
	r := newRig(t, func(f *fake) { f.create(c1, nil); f.start(c1) })
	v := newView(r.container("c1"))
	r.f.mu.Lock()
	r.f.mangle = func(e *event) []*event {
		held = append([]*event{e, e}, held...)
		if len(held) < 6 {
			return nil
		}
		out := held
		held = nil
		return out
	}
	r.f.mu.Unlock()
	for n := range 30 {
		r.f.set(c1, map[string]string{"user.n": fmt.Sprint(n)})
	}
	r.settled()
	if err := errors.Join(v.follow(), v.matches()); err != nil {
		t.Error(err)
	}
}

// TestLateExit: a restart is seen although the host notices the end of the old process late, and the new process is the one that is bound.
func TestLateExit(t *testing.T) {
	r := newRig(t, func(f *fake) { f.create(c1, nil); f.start(c1) })
	for range 5 {
		r.f.restart(c1, true)
		r.settled()
	}
}

// TestWrongProcess: a pid that is another process's by the time it is opened is not bound.
func TestWrongProcess(t *testing.T) {
	r := newRig(t, func(f *fake) { f.host.blind = true; f.create(c1, nil) })
	first := true
	r.f.host.onOpen = func(pid int) {
		if !first {
			return
		}
		first = false
		// The container is restarted after the daemon has told its pid, which another process has by now.
		r.f.mu.Lock()
		defer r.f.mu.Unlock()
		r.f.host.end(pid, false)
		r.f.host.mu.Lock()
		r.f.host.procs[pid].alive = true // of a stranger
		r.f.host.procs[pid].name = "stranger"
		r.f.host.mu.Unlock()
		r.f.instances[c1].pid = r.f.host.start("c1")
	}
	r.f.start(c1)
	r.settled()
	if pid := r.container("c1").Binding().InitPID(); r.f.host.procs[pid].name != "c1" {
		t.Errorf("bound to pid %d of %q", pid, r.f.host.procs[pid].name)
	}
	if first {
		t.Error("nothing was opened")
	}
}

// TestBindRetried: a bind that fails is tried again, and leaves no process open.
func TestBindRetried(t *testing.T) {
	r := newRig(t, func(f *fake) { f.create(c1, nil) })
	r.f.host.mu.Lock()
	r.f.host.refuse = 4
	r.f.host.mu.Unlock()
	r.f.start(c1)
	r.settled()
	r.f.remove(c1)
	r.settled()
	if h := r.f.host; h.opened != h.closed || h.opened < 5 {
		t.Errorf("%d processes opened, %d closed", h.opened, h.closed)
	}
}

// TestPart: what cannot be mirrored is told of, and everything else goes on.
func TestPart(t *testing.T) {
	r := newRig(t, func(f *fake) { f.create(c1, nil); f.create(c2, nil) })
	r.f.host.mu.Lock()
	r.f.host.refuse = 1 << 20
	r.f.host.mu.Unlock()
	r.f.start(c1)
	eventually(t, "the failure is not told of", func() error {
		if s := r.m.Status(); s.Broken != 1 || s.BrokenError == nil || !r.m.faults.Active(fault.MirrorPart) {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	r.f.set(c2, map[string]string{"user.a": "1"})
	eventually(t, "others are not mirrored", func() error {
		if v, _ := r.container("c2").Snapshot().Value("user.a"); string(v) != "1" {
			return fmt.Errorf("user.a is %q", v)
		}
		return nil
	})
	r.f.host.mu.Lock()
	r.f.host.refuse = 0
	r.f.host.mu.Unlock()
	r.settled()
	if r.m.faults.Active(fault.MirrorPart) {
		t.Error("still told of")
	}
}

// TestManyChanges: of many instances the list is read in place of each.
func TestManyChanges(t *testing.T) {
	r := newRig(t, func(f *fake) {
		for n := range 200 {
			f.create(key{"default", fmt.Sprint("c", n)}, nil)
		}
	})
	r.settled()
	for n := range 10 {
		r.f.profile(map[string]string{"user.p": fmt.Sprint(n)})
	}
	r.settled()
	if reads, lists := r.f.count("GET instances/x"), r.f.count("GET instances"); reads > 500 || lists < 2 {
		t.Errorf("%d instances and %d lists were read", reads, lists)
	}
}

// TestPassing: what changes nothing is not read again.
func TestPassing(t *testing.T) {
	r := newRig(t, func(f *fake) { f.create(c1, nil); f.start(c1) })
	r.settled()
	before := r.f.count("GET instances/x")
	r.f.mu.Lock()
	for range 100 {
		r.f.announce("instance-exec", c1, map[string]any{"command": []string{"true"}})
		r.f.announceAbout("instance-snapshot-created", "/1.0/instances/c1/snapshots/s0", "default", nil)
		r.f.announceAbout("network-updated", "/1.0/networks/br0", "default", nil)
	}
	r.f.mu.Unlock()
	eventually(t, "events do not come", func() error {
		if n := r.m.counts.events[aboutOther].Load(); n < 300 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	if n := r.f.count("GET instances/x") - before; n != 0 {
		t.Errorf("read %d times", n)
	}
}

// TestAccess: security.devlxd closes and opens the guest API, and nothing that is set meanwhile is announced.
func TestAccess(t *testing.T) {
	r := newRig(t, func(f *fake) { f.create(c1, nil); f.start(c1) })
	c := r.container("c1")
	v := newView(c)
	for _, value := range []string{"false", "true"} {
		r.f.set(c1, map[string]string{"security.devlxd": value, "user.a": value})
		r.settled()
		if allowed := c.Snapshot().Allowed(); allowed != (value == "true") {
			t.Errorf("security.devlxd=%s: allowed %v", value, allowed)
		}
	}
	if err := v.follow(); !errors.Is(err, registry.ErrRevoked) {
		t.Errorf("the ring of before gives %v", err)
	}
}

// TestReadOnly: changes are refused with one line that says what to do.
func TestReadOnly(t *testing.T) {
	r := newRig(t, nil)
	for want, err := range map[string]error{
		"lxc launch":               r.m.AddContainer(source.NewContainer{}),
		"lxc delete":               r.m.RemoveContainer("c1"),
		"lxc start":                r.m.Bind("c1", source.BindRequest{}),
		"lxc config set":           r.m.UpdateConfig("c1", map[string]string{"user.a": "1"}, nil),
		"lxc config unset":         r.m.UpdateConfig("c1", nil, []string{"user.a"}),
		"lxc config device add":    r.m.AddDevice("c1", "d", nil),
		"lxc config device set":    r.m.SetDevice("c1", "d", nil, nil),
		"lxc config device remove": r.m.RemoveDevice("c1", "d"),
		"lxc image delete":         r.m.RemoveImage(fingerprint('a')),
	} {
		if !errors.Is(err, source.ErrReadOnly) || !strings.Contains(err.Error(), "'"+want+"'") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := r.m.ImportImage(bytes.NewReader(nil), nil, source.ImageOptions{}); !errors.Is(err, source.ErrReadOnly) {
		t.Error(err)
	}
}
