package peer

import (
	"sync/atomic"
	"syscall"
	"testing"

	"devlxd/peer/peertest"

	"golang.org/x/sys/unix"
)

// Root uids of the tests' containers. LXD gives the same one to all by default.
const (
	sharedRoot = 100000
	otherRoot  = 300000
)

// binding is a Binding made by hand or of an Init.
type binding struct {
	name       string
	cgroup     uint64
	ns         NS
	root       uint32
	privileged bool
	dead       atomic.Bool
}

func (b *binding) CgroupID() uint64         { return b.cgroup }
func (b *binding) PidNS() (dev, ino uint64) { return b.ns.Dev, b.ns.Ino }
func (b *binding) RootUID() uint32          { return b.root }
func (b *binding) Privileged() bool         { return b.privileged }
func (b *binding) Dead() bool               { return b.dead.Load() }

// maxLeaves bounds the leaf cache of a binding, as a registry does.
const maxLeaves = 64

// directory is a Directory of plain maps, for one goroutine.
type directory struct {
	cgroups map[uint64]*binding
	leaves  map[uint64]*binding
	pidns   map[NS]*binding
	offered int // calls of CacheLeaf
}

func newDirectory() *directory {
	return &directory{cgroups: map[uint64]*binding{}, leaves: map[uint64]*binding{}, pidns: map[NS]*binding{}}
}

func (d *directory) add(b *binding) {
	if b.cgroup != 0 {
		d.cgroups[b.cgroup] = b
	} else {
		d.pidns[b.ns] = b
	}
}

// stop does what a registry does when a container stops.
func (d *directory) stop(b *binding) {
	b.dead.Store(true)
	delete(d.cgroups, b.cgroup)
	for leaf, of := range d.leaves {
		if of == b {
			delete(d.leaves, leaf)
		}
	}
	if b.cgroup == 0 {
		delete(d.pidns, b.ns)
	}
}

func (d *directory) LookupCgroup(id uint64) (*binding, bool) {
	b, ok := d.cgroups[id]
	if !ok {
		b, ok = d.leaves[id]
	}
	return b, ok
}

func (d *directory) LookupPidNS(dev, ino uint64) (*binding, bool) {
	b, ok := d.pidns[NS{dev, ino}]
	return b, ok
}

func (d *directory) CacheLeaf(leaf uint64, b *binding) {
	d.offered++
	if len(d.leaves) < maxLeaves {
		d.leaves[leaf] = b
	}
}

// rig is one way to identify: a host and what is registered with it.
type rig struct {
	name string
	h    *Host
	dir  *directory
}

// identify returns the name of the binding, or the label of the refusal.
func (r *rig) identify(fd int) string {
	b, _, reject := Identify(r.h, r.dir, fd)
	if reject != RejectNone {
		return reject.String()
	}
	return b.name
}

// world is a test with containers that are registered in every rig.
type world struct {
	*testing.T
	*peertest.Listener
	rigs []*rig
}

// rigNames are the levels, and the levels with ids where open_by_handle_at is not permitted.
const noHandles = " without handles"

// newWorld makes a rig for every way that works on this machine. TestLevels says which do not.
func newWorld(t *testing.T) *world {
	t.Helper()
	peertest.Need(t, peertest.Root, peertest.Cgroup2, peertest.UserNS)
	w := &world{T: t, Listener: peertest.Listen(t)}
	best := probeHost(t, Options{}).Level()
	for _, l := range AllLevels()[1:] {
		if l > best {
			t.Logf("level %s does not work on this kernel and is not tested", l)
			continue
		}
		w.addRig(l.String(), l, realKernel())
		if l >= LevelInfo {
			k := realKernel()
			k.openHandle = func(int, uint64) (int, syscall.Errno) { return -1, unix.EPERM }
			w.addRig(l.String()+noHandles, l, k)
		}
	}
	return w
}

func (w *world) addRig(name string, l Level, k kernel) {
	w.rigs = append(w.rigs, &rig{name: name, h: probeKernel(w.T, Options{Level: l}, k), dir: newDirectory()})
}

// bind registers a container in every rig.
func (w *world) bind(name string, p *peertest.Proc) {
	w.Helper()
	for _, r := range w.rigs {
		r.bind(w.T, name, p.PID, InitOptions{})
	}
}

func (r *rig) bind(t testing.TB, name string, pid int, o InitOptions) *binding {
	t.Helper()
	if o.InUse == nil {
		o.InUse = func(id uint64) bool { _, ok := r.dir.cgroups[id]; return ok }
	}
	i, err := r.h.OpenInit(pid, o)
	if err != nil {
		t.Fatalf("%s: %v", r.name, err)
	}
	t.Cleanup(func() { i.Close() })
	b := &binding{name: name, cgroup: i.CgroupID, ns: i.PidNS, root: i.RootUID, privileged: i.Privileged}
	r.dir.add(b)
	return b
}

// container starts an unprivileged container and registers it.
func (w *world) container(name string, rootUID int) *peertest.Proc {
	w.Helper()
	p := peertest.Start(w.T, peertest.Container(w.T, rootUID))
	w.bind(name, p)
	return p
}

// privileged starts a container without a user namespace, which sees the host's cgroupfs.
func (w *world) privileged(name string) *peertest.Proc {
	w.Helper()
	p := peertest.Start(w.T, peertest.Spec{Cgroup: peertest.NewCgroup(w.T), PidNS: true, MountNS: true})
	w.bind(name, p)
	return p
}

// expect says what each rig must answer: by the rig's name, or by "" for all others.
type expect map[string]string

func all(want string) expect { return expect{"": want} }

// below says what holds for the levels that cannot identify an exited peer.
func exitedIs(want, without string) expect {
	e := expect{"": without}
	e[LevelInfoExit.String()] = want
	e[LevelInfoExit.String()+noHandles] = want
	return e
}

func (w *world) verify(fd int, want expect) {
	w.Helper()
	for _, r := range w.rigs {
		exp, ok := want[r.name]
		if !ok {
			exp = want[""]
		}
		if got := r.identify(fd); got != exp {
			w.Errorf("%s: %s; want %s", r.name, got, exp)
		}
	}
}
