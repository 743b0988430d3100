package peer

import (
	"path/filepath"
	"syscall"
	"testing"

	"devlxd/peer/peertest"

	"golang.org/x/sys/unix"
)

// TestOpenInitKnownCgroup: the cgroup that an earlier Init has found stays the container's, wherever below it the init has gone; otherwise it is
// found out anew.
func TestOpenInitKnownCgroup(t *testing.T) {
	inode := func(t *testing.T, dir string) uint64 {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	never := func(uint64) bool { return false }
	tests := []struct {
		name string
		// prepare changes what was when the cgroup was found, and returns the id that is right and what is in use.
		prepare func(t *testing.T, p *peertest.Proc) (want uint64, inUse func(uint64) bool)
	}{
		{"unchanged", func(_ *testing.T, p *peertest.Proc) (uint64, func(uint64) bool) { return p.Spec.Cgroup.ID, never }},
		{"init moved below", func(_ *testing.T, p *peertest.Proc) (uint64, func(uint64) bool) {
			p.Enter(filepath.Join(p.Spec.Cgroup.Dir, "init.service"))
			return p.Spec.Cgroup.ID, never
		}},
		{"init moved far below", func(_ *testing.T, p *peertest.Proc) (uint64, func(uint64) bool) {
			p.Enter(filepath.Join(p.Spec.Cgroup.Dir, "docker"))
			p.Enter(filepath.Join(p.Spec.Cgroup.Dir, "docker", "a"))
			return p.Spec.Cgroup.ID, never
		}},
		{"init moved to init.scope", func(_ *testing.T, p *peertest.Proc) (uint64, func(uint64) bool) {
			p.Enter(filepath.Join(p.Spec.Cgroup.Dir, "init.scope"))
			return p.Spec.Cgroup.ID, never
		}},
		{"host process in it", func(t *testing.T, p *peertest.Proc) (uint64, func(uint64) bool) {
			peertest.Start(t, peertest.Spec{Cgroup: p.Spec.Cgroup})
			return p.Spec.Cgroup.ID, nil
		}},
		{"moved by the host", func(t *testing.T, p *peertest.Proc) (uint64, func(uint64) bool) {
			next := peertest.NewCgroup(t)
			next.Move(p.PID)
			return next.ID, never
		}},
		{"in use", func(_ *testing.T, p *peertest.Proc) (uint64, func(uint64) bool) {
			p.Enter(filepath.Join(p.Spec.Cgroup.Dir, "a"))
			return 0, func(id uint64) bool { return id == p.Spec.Cgroup.ID }
		}},
		{"init went into one in use", func(t *testing.T, p *peertest.Proc) (uint64, func(uint64) bool) {
			dir := filepath.Join(p.Spec.Cgroup.Dir, "a")
			p.Enter(dir)
			leaf := inode(t, dir)
			return 0, func(id uint64) bool { return id == leaf }
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			p := peertest.Start(t, peertest.Container(t, sharedRoot))
			known := openInit(t, w.rigs[0].h, p.PID, InitOptions{}).CgroupID
			if known != p.Spec.Cgroup.ID {
				t.Fatalf("found cgroup %d at first; want %d", known, p.Spec.Cgroup.ID)
			}
			want, inUse := tt.prepare(t, p)
			for _, r := range w.rigs {
				before := openFDs(t)
				i, err := r.h.OpenInit(p.PID, InitOptions{CgroupID: known, InUse: inUse})
				if err != nil {
					if want != 0 {
						t.Errorf("%s: %v", r.name, err)
					}
					continue
				}
				if i.CgroupID != want || want != 0 && inode(t, filepath.Join(r.h.Mount(), i.CgroupPath)) != want {
					t.Errorf("%s: cgroup %d %q; want %d", r.name, i.CgroupID, i.CgroupPath, want)
				}
				i.Close()
				if after := openFDs(t); after != before {
					t.Errorf("%s: descriptors: %d before, %d after", r.name, before, after)
				}
			}
		})
	}
}

// TestOpenInitKnownCgroupFaults makes each system call fail in turn: what is found is never another cgroup than the known one or that of the init.
func TestOpenInitKnownCgroupFaults(t *testing.T) {
	w := newWorld(t)
	p := peertest.Start(t, peertest.Container(t, sharedRoot))
	leaf := filepath.Join(p.Spec.Cgroup.Dir, "leaf")
	p.Enter(leaf)
	var st unix.Stat_t
	if err := unix.Stat(leaf, &st); err != nil {
		t.Fatal(err)
	}
	for _, r := range w.rigs {
		before := openFDs(t)
		real := r.h.k
		for _, e := range []syscall.Errno{unix.EMFILE, unix.ESRCH, unix.EACCES} {
			for n := 1; ; n++ {
				left := n
				r.h.k = failing(real, &left, e)
				i, err := r.h.OpenInit(p.PID, InitOptions{CgroupID: p.Spec.Cgroup.ID})
				if err == nil {
					if i.CgroupID != p.Spec.Cgroup.ID && i.CgroupID != st.Ino && i.CgroupID != 0 {
						t.Errorf("%s: %v at call %d: cgroup %d", r.name, e, n, i.CgroupID)
					}
					i.Close()
				}
				if left > 0 {
					break
				}
			}
		}
		if after := openFDs(t); after != before {
			t.Errorf("%s: descriptors: %d before, %d after", r.name, before, after)
		}
	}
}

// TestLevels: which ways to identify the tests of this package are run with. A way that this machine does not have is skipped by name, so that
// no machine passes them over in silence.
func TestLevels(t *testing.T) {
	peertest.Need(t, peertest.Root, peertest.Cgroup2, peertest.UserNS)
	best := probeHost(t, Options{})
	w := newWorld(t)
	tested := make(map[string]bool)
	for _, r := range w.rigs {
		tested[r.name] = true
	}
	for _, l := range AllLevels()[1:] {
		names := []string{l.String()}
		if l >= LevelInfo {
			names = append(names, l.String()+noHandles)
		}
		for _, name := range names {
			t.Run(name, func(t *testing.T) {
				if l > best.Level() {
					t.Skipf("needs a kernel with level %s, this one has %s", l, best.Level())
				}
				if !tested[name] {
					t.Error("no test is run with it")
				}
			})
		}
	}
	t.Run("open_by_handle_at", func(t *testing.T) {
		if !best.handles {
			t.Skipf("needs open_by_handle_at: %s", findCheck(best, "open_by_handle_at").Detail)
		}
	})
}
