package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/peer"
	"devlxd/peer/peertest"
	"devlxd/registry"
)

// rootUID is the host uid of root in the containers of these benchmarks.
const rootUID = 100000

// world is two real containers, one with a cgroup of its own and one without, and connections from inside of them.
type world struct {
	tb     testing.TB
	direct *peertest.Proc // init of the first container, a child of a process that is titled as LXC's monitor
	none   *peertest.Proc // init of the second
	fds    map[string]int // accepted connections
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	peertest.Need(tb, peertest.Root, peertest.Cgroup2, peertest.UserNS)
	w := &world{tb: tb, fds: make(map[string]int)}
	spec := peertest.Container(tb, rootUID)
	cgroup := spec.Cgroup
	spec.Cgroup = nil
	monitor := peertest.Start(tb, peertest.Spec{Argv: []string{"[lxc monitor] /var/lib/lxd/containers c1"}})
	w.direct = monitor.Spawn(spec)
	cgroup.Move(w.direct.PID)
	deep := w.direct.Spawn(peertest.Spec{}).Spawn(peertest.Spec{})
	leaf, missed := w.direct.Spawn(peertest.Spec{}), w.direct.Spawn(peertest.Spec{})
	leaf.Enter(filepath.Join(cgroup.Dir, "leaf"))
	missed.Enter(filepath.Join(cgroup.Dir, "missed"))
	w.none = peertest.Start(tb, peertest.Spec{RootUID: rootUID, PidNS: true})
	nested := w.none.Spawn(peertest.Spec{PidNS: true}).Spawn(peertest.Spec{PidNS: true})
	l := peertest.Listen(tb)
	for name, p := range map[string]*peertest.Proc{
		"direct": w.direct, "deep": deep, "leaf": leaf, "missed": missed, "none": w.none, "nested": nested,
	} {
		p.Connect(l.Path)
		w.fds[name] = l.Accept()
	}
	return w
}

func probe(tb testing.TB, o peer.Options) *peer.Host {
	tb.Helper()
	h, err := peer.Probe(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = h.Close() })
	return h
}

// bind registers a container that runs, among those that r has.
func bind(tb testing.TB, h *peer.Host, r *registry.Registry, name string, config map[string]string, pid int) *registry.Binding {
	tb.Helper()
	i, err := h.OpenInit(pid, peer.InitOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = i.Close() })
	if _, err := r.Put(registry.Spec{Name: name, Config: config}); err != nil {
		tb.Fatal(err)
	}
	b, err := r.Bind(name, registry.Identity{
		InitPID: i.PID, CgroupID: i.CgroupID, PidNSDev: i.PidNS.Dev, PidNSIno: i.PidNS.Ino, RootUID: i.RootUID, Privileged: i.Privileged,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// forgetful is a registry that is told of leaves and does not remember them, so that each peer in one is a miss.
type forgetful struct{ *registry.Registry }

func (forgetful) CacheLeaf(uint64, *registry.Binding) {}

// path is one way to find out where a peer is.
type path struct {
	name   string
	from   string // whose connection it is
	level  peer.Level
	miss   bool
	proof  bool // of the pid namespace, besides the cgroup
	result peer.Path
}

func paths(best peer.Level) []path {
	all := []path{
		{name: "cached-id", from: "direct", result: peer.PathCgroup},
		{name: "cached-leaf", from: "leaf", result: peer.PathCgroup},
		{name: "leaf-miss", from: "missed", miss: true, result: peer.PathAncestors},
		{name: "cached-id-and-pid-namespace", from: "direct", proof: true, result: peer.PathCgroup},
		{name: "pid-namespace", from: "none", result: peer.PathPidNS},
		{name: "nested-pid-namespace", from: "nested", result: peer.PathPidNS},
	}
	for _, level := range peer.AllLevels()[1:] {
		if level < best {
			all = append(all, path{name: "level-" + level.String(), from: "direct", level: level, result: peer.PathCgroup})
		}
	}
	return all
}

// identityContests identifies peers in real containers by each path. In a contest named after a path the ways are the number of
// containers in the registry; all but two are made up. "paths" compares the paths, in the largest registry. "rivals" has,
// beside the shortest path: SO_PEERCRED alone, which tells a uid and no container; and the search that LXD makes for each
// request, without the load from its database that follows, from init itself and from two processes further down.
func identityContests(tb testing.TB, sizes []int) (contests []contest) {
	w := newWorld(tb)
	best := probe(tb, peer.Options{})
	registries := make([]*registry.Registry, len(sizes))
	for i, size := range sizes {
		r := registry.New(registry.Options{})
		fill(tb, r, size-2)
		bind(tb, best, r, "c1", nil, w.direct.PID)
		bind(tb, best, r, "c2", nil, w.none.PID)
		registries[i] = r
	}
	compared := contest{name: "paths"}
	for _, p := range paths(best.Level()) {
		h := probe(tb, peer.Options{Level: p.level, PidNSAlways: p.proof})
		c := contest{name: p.name}
		for i, size := range sizes {
			if !p.miss { // a leaf is cached from now on
				peer.Identify(h, registries[i], w.fds[p.from])
			}
			run := identifyHere(h, registries[i], p, w.fds[p.from])
			c.ways = append(c.ways, way{name: strconv.Itoa(size), free: true, run: run})
		}
		contests = append(contests, c)
		compared.ways = append(compared.ways, way{name: p.name, free: true, run: c.ways[len(sizes)-1].run})
	}
	fastest := compared.ways[0].run
	names := map[string]*registry.Binding{"c1": {}}
	return append(contests, compared, contest{name: "rivals", slice: 5 * time.Millisecond, ways: []way{
		{name: "devlxd", free: true, run: fastest},
		{name: "peercred-only", run: peerCred(w.fds["direct"])},
		{name: "lxd-walk-1", run: walkLikeLXD(names, w.fds["direct"])},
		{name: "lxd-walk-3", run: walkLikeLXD(names, w.fds["deep"])},
	}})
}

func identifyHere(h *peer.Host, r *registry.Registry, p path, fd int) func(int) error {
	var dir peer.Directory[*registry.Binding] = r
	if p.miss {
		dir = forgetful{r}
	}
	return func(n int) error {
		for range n {
			_, found, reject := peer.Identify(h, dir, fd)
			if reject != peer.RejectNone {
				return fmt.Errorf("refused: %s", reject)
			}
			if found.Path != p.result {
				return fmt.Errorf("found by %s; want %s", found.Path, p.result)
			}
		}
		return nil
	}
}

func peerCred(fd int) func(int) error {
	return func(n int) error {
		for range n {
			if _, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil {
				return err
			}
		}
		return nil
	}
}

// walkLikeLXD goes from the peer up through its parents to a process in no pid namespace of its own that is titled as a monitor
// of LXC, and takes the name from its title, as LXD's devlxdFindContainerForPID does.
func walkLikeLXD(names map[string]*registry.Binding, fd int) func(int) error {
	return func(n int) error {
		for range n {
			cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
			if err != nil {
				return err
			}
			name, err := findMonitor(int(cred.Pid))
			if err != nil {
				return err
			}
			if _, ok := names[name]; !ok {
				return fmt.Errorf("the walk came to %q", name)
			}
		}
		return nil
	}
}

var errNoMonitor = errors.New("the walk came to no monitor")

func findMonitor(pid int) (name string, err error) {
	for pid > 1 {
		dir := "/proc/" + strconv.Itoa(pid)
		status, err := os.ReadFile(dir + "/status")
		if err != nil {
			return "", err
		}
		parent, outermost := 0, false
		for line := range strings.Lines(string(status)) {
			if value, ok := strings.CutPrefix(line, "PPid:"); ok {
				if parent, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
					return "", err
				}
			}
			if value, ok := strings.CutPrefix(line, "NSpid:"); ok {
				outermost = strings.TrimSpace(value) == strconv.Itoa(pid)
			}
		}
		if outermost {
			title, err := os.ReadFile(dir + "/cmdline")
			if err != nil {
				return "", err
			}
			if strings.HasPrefix(string(title), "[lxc monitor]") {
				words := strings.Fields(strings.TrimRight(string(title), "\x00"))
				return words[len(words)-1], nil
			}
		}
		pid = parent
	}
	return "", errNoMonitor
}
