package discover

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devlxd/source"
)

func TestScan(t *testing.T) {
	w := newWorld(t, LXC, Nspawn, Podman)
	a := w.lxc("lxc.payload.a")
	w.cgroup("lxc.payload.empty")
	w.cgroup("lxc.monitor.a")
	b := w.init()
	w.cgroup(`machine.slice/machine-b\x2d1.scope/payload`)
	w.cgroup(`machine.slice/machine-b\x2d1.scope/supervisor`)
	w.enter(`machine.slice/machine-b\x2d1.scope/payload`, b)
	conmon := w.process(1, "", []string{"conmon", "-c", podmanID, "-n", "web"})
	c := w.process(conmon, "", nil, 1)
	w.cgroup("machine.slice/libpod-" + podmanID + ".scope/container")
	w.enter("machine.slice/libpod-"+podmanID+".scope/container", c)
	w.scan()
	w.has(map[string]int{"a": a, "b-1": b, "web": c})
	f := w.keeper.bound["a"]
	info, err := os.Stat(filepath.Join(w.tree, "lxc.payload.a"))
	w.must(err)
	st, _ := statOf(info)
	if f.Request.Cgroup != filepath.Join(w.tree, "lxc.payload.a") || f.Request.CgroupID != st.Ino || f.Hold {
		t.Errorf("a is bound by %+v; want its cgroup with inode %d", f, st.Ino)
	}
	if id := f.InstanceID; len(id) != 36 || id == w.keeper.bound["web"].InstanceID || id != instanceID(LXC, "a") || id == instanceID(Podman, "a") {
		t.Errorf("instance id of a is %q; want one of its own, the same each time", id)
	}
}

func TestScanHolds(t *testing.T) {
	w := newWorld(t, LXC)
	w.lxc("lxc.payload.a")
	w.must(w.d.Scan(w.keeper, true))
	if !w.keeper.bound["a"].Hold {
		t.Error("nothing was said of writing nothing down")
	}
	w.follow()
	b := w.lxc("lxc.payload.b")
	w.wants(map[string]int{"a": w.keeper.pids()["a"], "b": b})
	w.keeper.mu.Lock()
	defer w.keeper.mu.Unlock()
	if w.keeper.bound["b"].Hold {
		t.Error("what is found afterwards may not be written down either")
	}
}

// TestFollow: containers come and go after the scan, and places too.
func TestFollow(t *testing.T) {
	w := newWorld(t, LXC, Nspawn)
	w.run()
	a := w.lxc("lxc.payload.a")
	w.wants(map[string]int{"a": a})
	b := w.init()
	w.cgroup("machine.slice/systemd-nspawn@b.service/payload")
	w.enter("machine.slice/systemd-nspawn@b.service/payload", b)
	w.wants(map[string]int{"a": a, "b": b})
	w.remove("lxc.payload.a")
	w.wants(map[string]int{"b": b})
	w.remove("machine.slice")
	w.wants(map[string]int{})
	w.cgroup("machine.slice/systemd-nspawn@b.service/payload")
	w.enter("machine.slice/systemd-nspawn@b.service/payload", b)
	w.wants(map[string]int{"b": b})
}

// TestInitComesLater: the cgroup is there first, then some process, and at last one that is an init with what it needs.
func TestInitComesLater(t *testing.T) {
	w := newWorld(t, LXC)
	w.run()
	w.cgroup("lxc.payload.a")
	w.keeper.deny("a", errors.New("no uid map yet"))
	helper := w.process(1, "", nil) // a process of the host that prepares the container
	w.enter("lxc.payload.a", helper)
	w.eventually("the helper is looked at", func() bool { return w.d.counts.failed[LXC].Load() > 2 })
	a := w.init()
	w.write("lxc.payload.a", helper, a) // nothing tells of it: populated stays 1
	tries := w.keeper.tried()
	w.eventually("the init is tried", func() bool { return w.keeper.tried() > tries+2 })
	w.keeper.deny("a", nil)
	w.wants(map[string]int{"a": a})
}

// TestInitExecs: the process is the same before and after, whatever it is called, and so are processes that it has started.
func TestInitExecs(t *testing.T) {
	w := newWorld(t, LXC)
	a := w.lxc("lxc.payload.a")
	child := w.process(a, "", nil, 2)
	nested := w.process(child, "", nil, 3, 1) // init of a container in the container
	w.enter("lxc.payload.a", nested)
	w.say(a, 1, "lxc.payload.a", []string{"[lxc monitor] /var/lib/lxc victim"}, 1)
	w.scan()
	w.has(map[string]int{"a": a})
}

// TestRestart: another init runs under the same path, with and without the cgroup having been empty.
func TestRestart(t *testing.T) {
	w := newWorld(t, LXC)
	first := w.lxc("lxc.payload.a")
	w.run()
	w.has(map[string]int{"a": first})

	w.enter("lxc.payload.a")
	w.keeper.stop(w.d, "a")
	w.wants(map[string]int{})
	second := w.init()
	w.enter("lxc.payload.a", second)
	w.wants(map[string]int{"a": second})

	third := w.init()
	w.write("lxc.payload.a", third) // there before the exit of the second is known
	w.keeper.stop(w.d, "a")
	w.wants(map[string]int{"a": third})

	fourth := w.init()
	w.remove("lxc.payload.a")
	w.cgroup("lxc.payload.a")
	w.write("lxc.payload.a", fourth)
	w.keeper.stop(w.d, "a")
	w.wants(map[string]int{"a": fourth})
}

// TestCgroupGoesFirst: the cgroup is removed before the exit of init is known, or while nothing can be forgotten.
func TestCgroupGoesFirst(t *testing.T) {
	w := newWorld(t, LXC)
	w.lxc("lxc.payload.a")
	w.keeper.runs = map[string]bool{"a": true}
	w.run()
	w.remove("lxc.payload.a")
	b := w.lxc("lxc.payload.b") // seen after the removal
	w.eventually("b is found", func() bool { return len(w.keeper.pids()) == 2 })
	w.keeper.mu.Lock()
	w.keeper.runs = nil
	w.keeper.mu.Unlock()
	w.d.Stopped("a")
	w.wants(map[string]int{"b": b})
	w.keeper.mu.Lock()
	w.keeper.keep = source.ErrLocked
	w.keeper.mu.Unlock()
	w.remove("lxc.payload.b")
	c := w.lxc("lxc.payload.c")
	w.wants(map[string]int{"b": b, "c": c})
	w.keeper.mu.Lock()
	w.keeper.keep = nil
	w.keeper.mu.Unlock()
	w.wants(map[string]int{"c": c})
}

// TestReusedPid: an init that has ended by the time that it is bound is not bound.
func TestReusedPid(t *testing.T) {
	w := newWorld(t, LXC)
	a := w.init()
	p, err := w.d.procs.read(a)
	w.must(err)
	h, err := hold(w.d.procs, p)
	w.must(err)
	defer h.close()
	w.must(h.check())
	w.say(a, 1, "", nil) // what has the pid now is on the host
	if _, err := hold(w.d.procs, p); !errors.Is(err, errReused) {
		t.Errorf("the process was held as an init: %v", err)
	}
	w.must(unix.Kill(a, unix.SIGKILL))
	w.eventually("the exit is seen", func() bool { return errors.Is(h.check(), source.ErrNoProcess) })
}

// TestImpostors: what a guest with a cgroup of its own can make is never taken for a container.
func TestImpostors(t *testing.T) {
	w := newWorld(t, LXC, Nspawn, Podman)
	a := w.lxc("lxc.payload.a")
	w.scan()
	stop := w.follow()
	for _, dir := range []string{
		"lxc.payload.a/lxc.payload.victim", "lxc.payload.a/machine.slice/machine-victim.scope/payload", "lxc.payload.a/libpod_parent/libpod-" + podmanID,
		"lxc.payload.a/.lxc",
	} {
		w.cgroup(dir)
		w.enter(dir, w.process(a, dir, nil, 9, 1), w.process(a, dir, nil, 10))
	}
	b := w.lxc("lxc.payload.b") // seen after all of them
	w.wants(map[string]int{"a": a, "b": b})
	stop()
	for _, dir := range w.d.watches {
		if strings.HasPrefix(dir, "lxc.payload.a") {
			t.Errorf("%s is watched: a guest can make events without end", dir)
		}
	}
}

// TestForeignPlace: a service of another user may make any cgroup below its own.
func TestForeignPlace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a directory to another user")
	}
	w := newWorld(t, Podman)
	conmon := w.process(1, "", []string{"conmon", "-c", podmanID, "-n", "victim"})
	init := w.process(conmon, "", nil, 1)
	dir := "system.slice/other.service/libpod-payload-" + podmanID
	w.cgroup(dir)
	w.enter(dir, init)
	w.must(os.Chown(filepath.Join(w.tree, "system.slice/other.service"), 1000, 1000))
	w.scan()
	w.has(map[string]int{})
	w.must(os.Chown(filepath.Join(w.tree, "system.slice/other.service"), 0, 0))
	w.must(os.Chown(filepath.Join(w.tree, dir), 100000, 100000)) // the container's own
	w.scan()
	w.has(map[string]int{"victim": init})
}

// TestDuplicateNames: the second of a name waits until the first has stopped.
func TestDuplicateNames(t *testing.T) {
	w := newWorld(t, LXC)
	first := w.lxc("lxc.payload.a")
	monitor := w.process(1, "lxc.monitor.a-1", []string{"[lxc monitor] /other a"})
	second := w.process(monitor, "", nil, 1)
	w.cgroup("lxc.payload.a-1")
	w.enter("lxc.payload.a-1", second)
	w.run()
	w.wants(map[string]int{"a": first})
	w.remove("lxc.payload.a")
	w.wants(map[string]int{"a": second})
}

// TestOverflow: the kernel drops events when nobody reads them; everything is read again then.
func TestOverflow(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Skip("no inotify limits: ", err)
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || limit > 1<<16 {
		t.Skipf("the queue of inotify is too long to be filled (%q)", text)
	}
	w := newWorld(t, LXC)
	gone := w.lxc("lxc.payload.gone")
	w.scan()
	w.has(map[string]int{"gone": gone})
	// One read of 64 KiB is under way, and as many events as the queue has room for.
	for i := range limit + 64<<10/unix.SizeofInotifyEvent {
		w.must(os.Mkdir(filepath.Join(w.tree, "x"+strconv.Itoa(i)), 0o755))
	}
	w.remove("lxc.payload.gone")
	a := w.lxc("lxc.payload.a")
	w.follow()
	w.wants(map[string]int{"a": a})
	if w.d.counts.overflows.Load() == 0 {
		t.Error("no event was dropped: nothing was tested")
	}
	b := w.lxc("lxc.payload.b")
	w.wants(map[string]int{"a": a, "b": b})
}

// TestTreeComesBack: the tree is unmounted while containers run, and what happens meanwhile is seen.
func TestTreeComesBack(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount")
	}
	w := newWorld(t, LXC)
	w.must(unix.Mount(w.tree, w.tree, "", unix.MS_BIND, ""))
	mounted := true
	t.Cleanup(func() {
		if mounted {
			_ = unix.Unmount(w.tree, unix.MNT_DETACH)
		}
	})
	d, err := New(Options{Runtimes: []Runtime{LXC}, Tree: w.tree, Proc: w.proc})
	w.must(err)
	_ = w.d.Close()
	w.d = d
	a := w.lxc("lxc.payload.a")
	w.run()
	w.must(unix.Unmount(w.tree, unix.MNT_DETACH))
	mounted = false
	// The directory under the mount is the same one, as another mount of the cgroup tree is.
	b := w.lxc("lxc.payload.b")
	w.wants(map[string]int{"a": a, "b": b})
}

func TestNew(t *testing.T) {
	if _, err := New(Options{Tree: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, ErrTree) {
		t.Errorf("error = %v; want ErrTree", err)
	}
}
