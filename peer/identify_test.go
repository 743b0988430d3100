package peer

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"devlxd/peer/peertest"

	"golang.org/x/sys/unix"
)

// TestIdentify runs real processes in real cgroups and namespaces, and identifies each
// peer in every way that this kernel can emulate.
func TestIdentify(t *testing.T) {
	tests := []struct {
		name string
		// run makes a connection whose peer is to be identified.
		run  func(w *world) int
		want expect
	}{
		{"init of a container", func(w *world) int {
			w.container("c2", sharedRoot)
			w.container("c1", sharedRoot).Connect(w.Path)
			return w.Accept()
		}, all("c1")},

		{"child of the init", func(w *world) int {
			w.container("c1", sharedRoot).Spawn(peertest.Spec{}).Connect(w.Path)
			return w.Accept()
		}, all("c1")},

		{"privileged container", func(w *world) int {
			w.privileged("c1").Connect(w.Path)
			return w.Accept()
		}, all("c1")},

		{"exited and reaped before accept", func(w *world) int {
			p := w.container("c1", sharedRoot).Spawn(peertest.Spec{})
			p.Connect(w.Path)
			p.Exit()
			return w.Accept()
		}, exitedIs("c1", "gone")},

		{"exited and reaped in a privileged container", func(w *world) int {
			p := w.privileged("c1").Spawn(peertest.Spec{})
			p.Connect(w.Path)
			p.Exit()
			return w.Accept()
		}, all("gone")},

		{"exited and reaped in a leaf", func(w *world) int {
			c := w.container("c1", sharedRoot)
			p := c.Spawn(peertest.Spec{})
			p.Enter(filepath.Join(c.Spec.Cgroup.Dir, "leaf"))
			p.Connect(w.Path)
			p.Exit()
			return w.Accept()
		}, expect{"": "gone", LevelInfoExit.String(): "c1"}},

		{"exited and reaped, leaf removed", func(w *world) int {
			c := w.container("c1", sharedRoot)
			p := c.Spawn(peertest.Spec{})
			leaf := filepath.Join(c.Spec.Cgroup.Dir, "leaf")
			p.Enter(leaf)
			p.Connect(w.Path)
			p.Exit()
			if err := peertest.RemoveCgroup(leaf); err != nil {
				w.Fatal(err)
			}
			return w.Accept()
		}, all("gone")},

		{"zombie", func(w *world) int {
			c := w.container("c1", sharedRoot)
			p := peertest.Start(w.T, peertest.Spec{Cgroup: c.Spec.Cgroup, RootUID: sharedRoot})
			p.Connect(w.Path)
			p.Exit()
			return w.Accept()
		}, all("c1")},

		{"zombie in a privileged container", func(w *world) int {
			p := w.privileged("c1")
			p.Connect(w.Path)
			p.Exit()
			return w.Accept()
		}, all("c1")},

		{"thread after its leader exited", func(w *world) int {
			p := w.container("c1", sharedRoot).Spawn(peertest.Spec{})
			p.LeaderExit()
			p.Connect(w.Path)
			return w.Accept()
		}, all("c1")},

		{"thread after its leader exited, privileged", func(w *world) int {
			p := w.privileged("c1").Spawn(peertest.Spec{})
			p.LeaderExit()
			p.Connect(w.Path)
			return w.Accept()
		}, all("c1")},

		{"leaf cgroup", func(w *world) int {
			c := w.container("c1", sharedRoot)
			c.Enter(filepath.Join(c.Spec.Cgroup.Dir, "sub.slice"))
			c.Enter(filepath.Join(c.Spec.Cgroup.Dir, "sub.slice", "a.service"))
			c.Connect(w.Path)
			return w.Accept()
		}, all("c1")},

		{"leaf cgroup, privileged", func(w *world) int {
			c := w.privileged("c1")
			c.Enter(filepath.Join(c.Spec.Cgroup.Dir, "sub.slice"))
			c.Connect(w.Path)
			return w.Accept()
		}, all("c1")},

		{"two nested pid namespaces", func(w *world) int {
			c := w.container("c1", sharedRoot)
			c.Spawn(peertest.Spec{PidNS: true}).Spawn(peertest.Spec{PidNS: true}).Connect(w.Path)
			return w.Accept()
		}, all("c1")},

		{"two nested pid namespaces, privileged", func(w *world) int {
			c := w.privileged("c1")
			c.Spawn(peertest.Spec{PidNS: true}).Spawn(peertest.Spec{PidNS: true}).Connect(w.Path)
			return w.Accept()
		}, all("c1")},

		{"no cgroup of its own", func(w *world) int {
			w.container("c2", sharedRoot)
			p := peertest.Start(w.T, peertest.Spec{RootUID: sharedRoot, PidNS: true})
			w.bind("c1", p)
			p.Connect(w.Path)
			return w.Accept()
		}, all("c1")},

		{"no cgroup of its own, nested pid namespaces", func(w *world) int {
			p := peertest.Start(w.T, peertest.Spec{RootUID: sharedRoot, PidNS: true})
			w.bind("c1", p)
			p.Spawn(peertest.Spec{PidNS: true}).Spawn(peertest.Spec{PidNS: true}).Connect(w.Path)
			return w.Accept()
		}, all("c1")},

		{"no cgroup of its own, registered inside another", func(w *world) int {
			outer := peertest.Start(w.T, peertest.Spec{RootUID: sharedRoot, PidNS: true})
			inner := outer.Spawn(peertest.Spec{PidNS: true})
			w.bind("outer", outer)
			w.bind("inner", inner)
			inner.Connect(w.Path)
			return w.Accept()
		}, all("outer")},

		{"no cgroup of its own, exited and reaped", func(w *world) int {
			p := peertest.Start(w.T, peertest.Spec{RootUID: sharedRoot, PidNS: true})
			w.bind("c1", p)
			c := p.Spawn(peertest.Spec{})
			c.Connect(w.Path)
			c.Exit()
			return w.Accept()
		}, all("gone")},

		{"container that is not registered", func(w *world) int {
			w.container("c1", sharedRoot)
			peertest.Start(w.T, peertest.Container(w.T, sharedRoot)).Connect(w.Path)
			return w.Accept()
		}, all("unknown")},

		{"host process", func(w *world) int {
			w.privileged("c1")
			peertest.Start(w.T, peertest.Spec{}).Connect(w.Path)
			return w.Accept()
		}, all("unknown")},

		{"host process in a cgroup", func(w *world) int {
			w.privileged("c1")
			peertest.Start(w.T, peertest.Spec{Cgroup: peertest.NewCgroup(w.T)}).Connect(w.Path)
			return w.Accept()
		}, all("unknown")},

		{"plain user in a container", func(w *world) int {
			p := w.container("c1", sharedRoot).Spawn(peertest.Spec{})
			p.Setuid(1000)
			p.Exec("curl") // as after su: a process that ran setuid is not dumpable
			p.Connect(w.Path)
			return w.Accept()
		}, all("uid")},

		{"plain user in a privileged container", func(w *world) int {
			p := w.privileged("c1").Spawn(peertest.Spec{})
			p.Setuid(1000)
			p.Exec("curl")
			p.Connect(w.Path)
			return w.Accept()
		}, all("uid")},

		{"moved by the host's root after connect", func(w *world) int {
			c2 := w.container("c2", sharedRoot)
			p := w.container("c1", sharedRoot)
			p.Connect(w.Path)
			fd := w.Accept()
			w.verify(fd, all("c1"))
			c2.Spec.Cgroup.Move(p.PID)
			return fd
		}, all("c2")}, // the host's root is believed until the peer is identified

		{"descriptor passed to another container", func(w *world) int {
			c1, c2 := w.container("c1", sharedRoot), w.container("c2", sharedRoot)
			conn := c1.Connect(w.Path)
			given := conn.Pass(c2)
			conn.Close()
			given.Write([]byte("c2 writes"))
			return w.Accept()
		}, all("c1")},

		{"descriptor passed on, connector gone", func(w *world) int {
			c1, c2 := w.container("c1", sharedRoot), w.container("c2", sharedRoot)
			p := c1.Spawn(peertest.Spec{})
			p.Connect(w.Path).Pass(c2)
			p.Exit()
			return w.Accept()
		}, exitedIs("c1", "gone")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.verify(tt.run(w), tt.want)
		})
	}
}

// TestIdentifyPeer tests what is told about the peer, and the binding that comes with a refusal.
func TestIdentifyPeer(t *testing.T) {
	w := newWorld(t)
	c := w.container("c1", sharedRoot)
	p := c.Spawn(peertest.Spec{})
	leaf := filepath.Join(c.Spec.Cgroup.Dir, "leaf")
	p.Enter(leaf)
	p.Setuid(1000)
	p.Exec("curl")
	p.Connect(w.Path)
	fd := w.Accept()
	var st unix.Stat_t
	if err := unix.Stat(leaf, &st); err != nil {
		t.Fatal(err)
	}
	want := Peer{PID: int32(p.PID), UID: sharedRoot + 1000, GID: sharedRoot + 1000, CgroupID: st.Ino}
	for _, want.Path = range []Path{PathAncestors, PathCgroup} {
		for _, r := range w.rigs {
			b, got, reject := Identify(r.h, r.dir, fd)
			if reject != RejectUID || b == nil || b.name != "c1" {
				t.Errorf("%s: %v, %v; want uid and the binding", r.name, b, reject)
			}
			if got != want {
				t.Errorf("%s: peer = %+v; want %+v", r.name, got, want)
			}
			if r.dir.leaves[st.Ino] == nil {
				t.Errorf("%s: the leaf was not cached", r.name)
			}
		}
	}
	peertest.Start(t, peertest.Spec{RootUID: sharedRoot, PidNS: true}).Connect(w.Path)
	stranger := w.Accept()
	for _, r := range w.rigs {
		if _, got, reject := Identify(r.h, r.dir, stranger); reject != RejectUnknown || got.Path != PathPidNS {
			t.Errorf("%s: a process of no container: %+v, %v; want path %v, %v", r.name, got, reject, PathPidNS, RejectUnknown)
		}
	}
}

func TestIdentifyStopped(t *testing.T) {
	w := newWorld(t)
	w.container("c1", sharedRoot).Connect(w.Path)
	fd := w.Accept()
	for _, r := range w.rigs {
		for _, b := range r.dir.cgroups {
			b.dead.Store(true)
		}
	}
	w.verify(fd, all("stopped"))
}

// TestIdentifyRestart starts a container again under the same name and cgroup path.
func TestIdentifyRestart(t *testing.T) {
	w := newWorld(t)
	p := w.container("first", sharedRoot)
	p.Connect(w.Path)
	old := w.Accept()
	path, oldID := p.Spec.Cgroup.Path, p.Spec.Cgroup.ID
	w.verify(old, all("first"))
	p.Kill()
	p.Spec.Cgroup.Remove()
	for _, r := range w.rigs {
		r.dir.stop(r.dir.cgroups[oldID])
	}

	again := peertest.NewCgroupAt(t, path)
	if again.ID == oldID {
		t.Fatalf("cgroup id %d was given out twice", oldID)
	}
	p = peertest.Start(t, peertest.Spec{Cgroup: again, RootUID: sharedRoot, PidNS: true})
	p.Connect(w.Path)
	fresh := w.Accept()
	w.verify(fresh, all("unknown"))
	w.bind("second", p)
	w.verify(fresh, all("second"))
	w.verify(old, all("gone"))
}

// TestIdentifyNotAPeer gives Identify descriptors that no container is behind.
func TestIdentifyNotAPeer(t *testing.T) {
	w := newWorld(t)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pair[0]); unix.Close(pair[1]) })
	unconnected, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(unconnected) })
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close() })
	tcpFile, err := tcp.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcpFile.Close() })
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	for _, tt := range []struct {
		name string
		fd   int
		want string
	}{
		{"the server itself", pair[0], "unknown"},
		{"unconnected socket", unconnected, "credentials"},
		{"TCP socket", int(tcpFile.Fd()), "credentials"},
		{"no socket", int(null.Fd()), "credentials"},
		{"no descriptor", -1, "credentials"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{T: t, rigs: w.rigs}
			w.verify(tt.fd, all(tt.want))
		})
	}
}

// TestIdentifyNone: with LevelNone everybody is refused.
func TestIdentifyNone(t *testing.T) {
	b, _, reject := Identify(&Host{k: realKernel()}, newDirectory(), 0)
	if reject != RejectUnsupported || b != nil {
		t.Errorf("got %v, %v; want unsupported", b, reject)
	}
}

// TestIdentifyNested: of nested registered cgroups the outermost answers for a leaf.
func TestIdentifyNested(t *testing.T) {
	w := newWorld(t)
	p := w.container("outer", sharedRoot)
	inner := p.Spec.Cgroup.Sub("inner")
	for _, r := range w.rigs {
		var outer *binding
		for _, outer = range r.dir.cgroups {
		}
		r.dir.add(&binding{name: "inner", cgroup: inner.ID, ns: outer.ns, root: sharedRoot})
	}
	leaf := inner.Sub("leaf")
	leaf.Move(p.PID)
	p.Connect(w.Path)
	w.verify(w.Accept(), all("outer"))
}

// TestIdentifyDeep: a leaf as deep as the bound is found, one deeper is refused.
func TestIdentifyDeep(t *testing.T) {
	w := newWorld(t)
	p := w.container("c1", sharedRoot)
	dir := p.Spec.Cgroup.Dir
	for depth := 2; depth <= maxCgroupDepth+1; depth++ {
		dir = filepath.Join(dir, "d")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		want := all("c1")
		switch depth {
		case maxCgroupDepth:
		case maxCgroupDepth + 1:
			want = all("unknown")
		default:
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(p.PID)), 0); err != nil {
			t.Fatal(err)
		}
		p.Connect(w.Path)
		w.verify(w.Accept(), want)
	}
}

// TestPID: the pid of who connected, and none of a socket that has no peer.
func TestPID(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		defer func() { _ = unix.Close(fd) }()
		if got := PID(fd); got != int32(os.Getpid()) {
			t.Errorf("pid %d; want %d", got, os.Getpid())
		}
	}
	if got := PID(-1); got != 0 {
		t.Errorf("pid %d of no socket", got)
	}
}
