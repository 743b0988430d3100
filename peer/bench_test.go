package peer

import (
	"fmt"
	"path/filepath"
	"testing"

	"devlxd/peer/peertest"
)

// BenchmarkIdentify measures every way of identification among many registered
// containers, of which one is real. "miss" is a leaf that was not seen before.
func BenchmarkIdentify(b *testing.B) {
	peertest.Need(b, peertest.Root, peertest.Cgroup2, peertest.UserNS)
	l := peertest.Listen(b)
	spec := peertest.Container(b, sharedRoot)
	direct := peertest.Start(b, spec)
	leaf := direct.Spawn(peertest.Spec{})
	leaf.Enter(filepath.Join(spec.Cgroup.Dir, "leaf"))
	none := peertest.Start(b, peertest.Spec{RootUID: sharedRoot, PidNS: true})
	nested := none.Spawn(peertest.Spec{PidNS: true}).Spawn(peertest.Spec{PidNS: true})
	accept := func(p *peertest.Proc) int {
		p.Connect(l.Path)
		return l.Accept()
	}
	ways := []struct {
		name        string
		fd          int
		miss, proof bool
	}{
		{"payload", accept(direct), false, false},
		{"cached leaf", accept(leaf), false, false},
		{"leaf miss", accept(leaf), true, false},
		{"payload and pid namespace", accept(direct), false, true},
		{"pid namespace", accept(none), false, false},
		{"nested pid namespace", accept(nested), false, false},
	}
	best := probeHost(b, Options{}).Level()
	for _, level := range AllLevels()[1:] {
		if level > best {
			continue
		}
		for _, way := range ways {
			for _, size := range []int{10, 1_000, 100_000} {
				b.Run(fmt.Sprintf("%s/%s/%d", level, way.name, size), func(b *testing.B) {
					h := probeHost(b, Options{Level: level, PidNSAlways: way.proof})
					r := &rig{name: level.String(), h: h, dir: newDirectory()}
					for n := range uint64(size - 2) {
						r.dir.add(&binding{cgroup: 1<<40 + n*7})
					}
					r.bind(b, "c1", direct.PID, InitOptions{})
					r.bind(b, "c2", none.PID, InitOptions{})
					b.ReportAllocs()
					for b.Loop() {
						if way.miss {
							clear(r.dir.leaves)
						}
						if _, _, reject := Identify(h, r.dir, way.fd); reject != RejectNone {
							b.Fatal(reject)
						}
					}
				})
			}
		}
	}
}

// BenchmarkOpenInit measures what a (re)start of the server costs for each container.
func BenchmarkOpenInit(b *testing.B) {
	peertest.Need(b, peertest.Root, peertest.Cgroup2, peertest.UserNS)
	p := peertest.Start(b, peertest.Container(b, sharedRoot))
	h := probeHost(b, Options{})
	b.ReportAllocs()
	for b.Loop() {
		i, err := h.OpenInit(p.PID, InitOptions{})
		if err != nil {
			b.Fatal(err)
		}
		i.Close()
	}
}

// BenchmarkProbe measures the start-up probe.
func BenchmarkProbe(b *testing.B) {
	for b.Loop() {
		h, err := Probe(Options{})
		if err != nil {
			b.Fatal(err)
		}
		h.Close()
	}
}

// BenchmarkSyscalls measures the bare system calls of the shortest way, as the bound of
// what BenchmarkIdentify can reach on the machine at hand.
func BenchmarkSyscalls(b *testing.B) {
	l := peertest.Listen(b)
	p := peertest.Start(b, peertest.Spec{})
	p.Connect(l.Path)
	fd := l.Accept()
	b.Run("SO_PEERCRED", func(b *testing.B) {
		for b.Loop() {
			if _, e := sysPeerCred(fd); e != 0 {
				b.Fatal(e)
			}
		}
	})
	b.Run("all four", func(b *testing.B) {
		if probeHost(b, Options{}).Level() < LevelInfo {
			b.Skip("needs Linux 6.13")
		}
		for b.Loop() {
			_, e1 := sysPeerCred(fd)
			pidfd, e2 := sysPeerPidfd(fd)
			_, _, e3 := sysInfo(pidfd, 0xc)
			sysClose(pidfd)
			if e1 != 0 || e2 != 0 || e3 != 0 {
				b.Fatal(e1, e2, e3)
			}
		}
	})
}
