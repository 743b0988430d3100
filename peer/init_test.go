package peer

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"devlxd/peer/peertest"

	"golang.org/x/sys/unix"
)

// procNS returns the pid namespace of a process.
func procNS(t testing.TB, pid int) NS {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/pid", pid), &st); err != nil {
		t.Fatal(err)
	}
	return NS{Dev: uint64(st.Dev), Ino: st.Ino}
}

// openInit is OpenInit that ends with the test.
func openInit(t testing.TB, h *Host, pid int, o InitOptions) *Init {
	t.Helper()
	i, err := h.OpenInit(pid, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Close() })
	return i
}

func TestOpenInit(t *testing.T) {
	w := newWorld(t)
	p := peertest.Start(t, peertest.Container(t, sharedRoot))
	other := peertest.Start(t, peertest.Spec{PidNS: true, Cgroup: peertest.NewCgroup(t)})
	for _, r := range w.rigs {
		t.Run(r.name, func(t *testing.T) {
			before := openFDs(t)
			i := openInit(t, r.h, p.PID, InitOptions{})
			got := Init{PID: i.PID, CgroupID: i.CgroupID, CgroupPath: i.CgroupPath, CgroupNote: i.CgroupNote,
				PidNS: i.PidNS, RootUID: i.RootUID, Privileged: i.Privileged, BootID: i.BootID}
			want := Init{PID: p.PID, CgroupID: p.Spec.Cgroup.ID, CgroupPath: p.Spec.Cgroup.Path,
				PidNS: procNS(t, p.PID), RootUID: sharedRoot, BootID: r.h.BootID()}
			if fmt.Sprintf("%+v", &got) != fmt.Sprintf("%+v", &want) {
				t.Errorf("got %+v; want %+v", &got, &want)
			}
			again := openInit(t, r.h, p.PID, InitOptions{})
			if i.PidfdInode == 0 || again.PidfdInode != i.PidfdInode {
				t.Errorf("pidfd inodes %d and %d of one process", i.PidfdInode, again.PidfdInode)
			}
			second := openInit(t, r.h, other.PID, InitOptions{})
			if second.PidfdInode == i.PidfdInode || !second.Privileged || second.RootUID != 0 {
				t.Errorf("another, privileged one: %+v", second)
			}
			for _, i := range []*Init{i, again, second} {
				i.Close()
				i.Close()
			}
			if after := openFDs(t); after != before {
				t.Errorf("descriptors: %d before, %d after", before, after)
			}
		})
	}
}

// TestOpenInitCgroup tests which cgroup is taken as the container's own.
func TestOpenInitCgroup(t *testing.T) {
	tests := []struct {
		name string
		// prepare returns the options and the cgroup id that is right.
		prepare func(t *testing.T, p *peertest.Proc) (o InitOptions, want uint64)
		note    string // why there is none
		err     error
	}{
		{"where init is", func(t *testing.T, p *peertest.Proc) (InitOptions, uint64) {
			return InitOptions{}, p.Spec.Cgroup.ID
		}, "", nil},
		{"systemd moved to init.scope", func(t *testing.T, p *peertest.Proc) (InitOptions, uint64) {
			p.Enter(filepath.Join(p.Spec.Cgroup.Dir, "init.scope"))
			return InitOptions{}, p.Spec.Cgroup.ID
		}, "", nil},
		{"init moved elsewhere", func(t *testing.T, p *peertest.Proc) (InitOptions, uint64) {
			dir := filepath.Join(p.Spec.Cgroup.Dir, "init.service")
			p.Enter(dir)
			var st unix.Stat_t
			if err := unix.Stat(dir, &st); err != nil {
				t.Fatal(err)
			}
			return InitOptions{}, st.Ino
		}, "", nil},
		{"absolute path", func(t *testing.T, p *peertest.Proc) (InitOptions, uint64) {
			p.Enter(filepath.Join(p.Spec.Cgroup.Dir, "deep"))
			return InitOptions{Cgroup: p.Spec.Cgroup.Dir}, p.Spec.Cgroup.ID
		}, "", nil},
		{"path of /proc/PID/cgroup", func(t *testing.T, p *peertest.Proc) (InitOptions, uint64) {
			return InitOptions{Cgroup: p.Spec.Cgroup.Path}, p.Spec.Cgroup.ID
		}, "", nil},
		{"relative path with a slash", func(t *testing.T, p *peertest.Proc) (InitOptions, uint64) {
			return InitOptions{Cgroup: p.Spec.Cgroup.Path[1:] + "/"}, p.Spec.Cgroup.ID
		}, "", nil},
		{"processes of its own, nested", func(t *testing.T, p *peertest.Proc) (InitOptions, uint64) {
			c := p.Spawn(peertest.Spec{PidNS: true})
			c.Enter(filepath.Join(p.Spec.Cgroup.Dir, "a"))
			p.Spawn(peertest.Spec{})
			return InitOptions{}, p.Spec.Cgroup.ID
		}, "", nil},
		{"foreign process in it", func(t *testing.T, p *peertest.Proc) (InitOptions, uint64) {
			peertest.Start(t, peertest.Spec{Cgroup: p.Spec.Cgroup})
			return InitOptions{}, 0
		}, "outside the container's pid namespace", nil},
		{"foreign process below it", func(t *testing.T, p *peertest.Proc) (InitOptions, uint64) {
			peertest.Start(t, peertest.Spec{Cgroup: p.Spec.Cgroup.Sub("a").Sub("b")})
			return InitOptions{Cgroup: p.Spec.Cgroup.Path}, 0
		}, "outside the container's pid namespace", nil},
		{"in use", func(t *testing.T, p *peertest.Proc) (InitOptions, uint64) {
			return InitOptions{InUse: func(id uint64) bool { return id == p.Spec.Cgroup.ID }}, 0
		}, "belongs to another registered container", nil},
		{"in use, given", func(t *testing.T, p *peertest.Proc) (InitOptions, uint64) {
			return InitOptions{Cgroup: p.Spec.Cgroup.Path, InUse: func(id uint64) bool { return id == p.Spec.Cgroup.ID }}, 0
		}, "", ErrCgroupTaken},
		{"below one in use", func(t *testing.T, p *peertest.Proc) (InitOptions, uint64) {
			p.Enter(filepath.Join(p.Spec.Cgroup.Dir, "a"))
			return InitOptions{InUse: func(id uint64) bool { return id == p.Spec.Cgroup.ID }}, 0
		}, "", ErrNested},
		{"above one in use", func(t *testing.T, p *peertest.Proc) (InitOptions, uint64) {
			sub := p.Spec.Cgroup.Sub("a").Sub("b")
			return InitOptions{InUse: func(id uint64) bool { return id == sub.ID }}, 0
		}, "", ErrNested},
		{"another cgroup given", func(t *testing.T, p *peertest.Proc) (InitOptions, uint64) {
			return InitOptions{Cgroup: peertest.NewCgroup(t).Path}, 0
		}, "", ErrCgroupNotInit},
		{"cgroup below it given", func(t *testing.T, p *peertest.Proc) (InitOptions, uint64) {
			return InitOptions{Cgroup: p.Spec.Cgroup.Sub("a").Path}, 0
		}, "", ErrCgroupNotInit},
		{"root given", func(t *testing.T, p *peertest.Proc) (InitOptions, uint64) {
			return InitOptions{Cgroup: "/"}, 0
		}, "", ErrCgroupReserved},
		{"the mount given", func(t *testing.T, p *peertest.Proc) (InitOptions, uint64) {
			return InitOptions{Cgroup: strings.TrimSuffix(p.Spec.Cgroup.Dir, p.Spec.Cgroup.Path)}, 0
		}, "", ErrCgroupReserved},
		{"path with ..", func(t *testing.T, p *peertest.Proc) (InitOptions, uint64) {
			return InitOptions{Cgroup: p.Spec.Cgroup.Path + "/../.." + p.Spec.Cgroup.Path}, 0
		}, "", ErrCgroupPath},
		{"path that does not exist", func(t *testing.T, p *peertest.Proc) (InitOptions, uint64) {
			return InitOptions{Cgroup: p.Spec.Cgroup.Path + "-1"}, 0
		}, "", ErrCgroupPath},
		{"path of a file", func(t *testing.T, p *peertest.Proc) (InitOptions, uint64) {
			return InitOptions{Cgroup: p.Spec.Cgroup.Path + "/cgroup.procs"}, 0
		}, "", ErrCgroupPath},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			p := peertest.Start(t, peertest.Container(t, sharedRoot))
			o, want := tt.prepare(t, p)
			for _, r := range w.rigs {
				before := openFDs(t)
				i, err := r.h.OpenInit(p.PID, o)
				if !errors.Is(err, tt.err) {
					t.Fatalf("%s: err = %v; want %v", r.name, err, tt.err)
				}
				if err == nil {
					if i.CgroupID != want || (i.CgroupPath == "") != (want == 0) {
						t.Errorf("%s: cgroup %d %q (%s); want %d", r.name, i.CgroupID, i.CgroupPath, i.CgroupNote, want)
					}
					if !strings.Contains(i.CgroupNote, tt.note) || (i.CgroupNote == "") != (want != 0) {
						t.Errorf("%s: note %q; want %q", r.name, i.CgroupNote, tt.note)
					}
					i.Close()
				}
				if after := openFDs(t); after != before {
					t.Errorf("%s: descriptors: %d before, %d after", r.name, before, after)
				}
			}
		})
	}
}

func TestOpenInitErrors(t *testing.T) {
	w := newWorld(t)
	p := peertest.Start(t, peertest.Container(t, sharedRoot))
	zombie := peertest.Start(t, peertest.Container(t, sharedRoot))
	zombie.Exit()
	reaped := peertest.Start(t, peertest.Spec{})
	reaped.Kill()
	host := peertest.Start(t, peertest.Spec{})
	unmapped := uint32(unmappedID)
	for _, tt := range []struct {
		name string
		pid  int
		o    InitOptions
		want error
	}{
		{"zombie", zombie.PID, InitOptions{}, ErrNoProcess},
		{"reaped", reaped.PID, InitOptions{}, ErrNoProcess},
		{"pid 0", 0, InitOptions{}, ErrNoProcess},
		{"negative pid", -p.PID, InitOptions{}, ErrNoProcess},
		{"pid too large", 1 << 40, InitOptions{}, ErrNoProcess},
		{"thread", thread(t, p.PID), InitOptions{}, ErrNoProcess},
		{"host process", host.PID, InitOptions{}, ErrNotContainer},
		{"the server itself", os.Getpid(), InitOptions{}, ErrNotContainer},
		{"unmapped root", p.PID, InitOptions{RootUID: &unmapped}, ErrNoRootUID},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, r := range w.rigs {
				i, err := r.h.OpenInit(tt.pid, tt.o)
				if err == nil {
					i.Close()
				}
				if !errors.Is(err, tt.want) {
					t.Errorf("%s: err = %v; want %v", r.name, err, tt.want)
				}
			}
		})
	}
	t.Run("pid namespace not below", func(t *testing.T) {
		k := realKernel()
		k.parentNS = func(int) (int, syscall.Errno) { return -1, unix.EPERM }
		if _, err := probeKernel(t, Options{}, k).OpenInit(p.PID, InitOptions{}); !errors.Is(err, ErrForeignPidNS) {
			t.Errorf("err = %v; want %v", err, ErrForeignPidNS)
		}
	})
}

// TestOpenInitHidden: a process that /proc does not show is not taken for one that has ended.
func TestOpenInitHidden(t *testing.T) {
	w := newWorld(t)
	p := peertest.Start(t, peertest.Container(t, sharedRoot))
	for _, r := range w.rigs {
		k := realKernel()
		real := k.openAt
		k.openAt = func(dir int, path []byte, flags int) (int, syscall.Errno) {
			if name := string(path[:len(path)-1]); name == fmt.Sprint(p.PID) || strings.HasPrefix(name, fmt.Sprint(p.PID, "/")) {
				return -1, unix.ENOENT
			}
			return real(dir, path, flags)
		}
		h := probeKernel(t, Options{Level: r.h.Level()}, k)
		before := openFDs(t)
		if _, err := h.OpenInit(p.PID, InitOptions{}); !errors.Is(err, ErrHidden) || errors.Is(err, ErrNoProcess) {
			t.Errorf("%s: err = %v; want %v", r.name, err, ErrHidden)
		}
		if after := openFDs(t); after != before {
			t.Errorf("%s: descriptors: %d before, %d after", r.name, before, after)
		}
	}
	p.Exit()
	for _, r := range w.rigs {
		if _, err := r.h.OpenInit(p.PID, InitOptions{}); !errors.Is(err, ErrNoProcess) {
			t.Errorf("%s: when it has ended, err = %v; want %v", r.name, err, ErrNoProcess)
		}
	}
}

// thread returns the id of a thread that is not the leader.
func thread(t testing.TB, pid int) int {
	t.Helper()
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil || len(names) < 2 {
		t.Fatalf("no threads: %v", err)
	}
	var tid int
	if _, err := fmt.Sscan(names[1].Name(), &tid); err != nil {
		t.Fatal(err)
	}
	return tid
}

func TestOpenInitRootUID(t *testing.T) {
	w := newWorld(t)
	p := peertest.Start(t, peertest.Container(t, sharedRoot))
	for _, uid := range []uint32{otherRoot, 0} {
		i := openInit(t, w.rigs[0].h, p.PID, InitOptions{RootUID: &uid})
		if i.RootUID != uid || i.Privileged != (uid == 0) {
			t.Errorf("with %d: root uid %d, privileged %v", uid, i.RootUID, i.Privileged)
		}
	}
}

// TestOpenInitWithoutCgroup2: the pid namespace alone identifies.
func TestOpenInitWithoutCgroup2(t *testing.T) {
	peertest.Need(t, peertest.Root, peertest.Cgroup2, peertest.UserNS)
	k := realKernel()
	k.info = func(int, uint64) (uint64, uint64, syscall.Errno) { return unix.PIDFD_INFO_CGROUPID, 12345, 0 }
	h := probeKernel(t, Options{Level: LevelInfo}, k)
	p := peertest.Start(t, peertest.Container(t, sharedRoot))
	i := openInit(t, h, p.PID, InitOptions{})
	if i.CgroupID != 0 || i.CgroupNote == "" || i.PidNS != procNS(t, p.PID) {
		t.Errorf("init = %+v", i)
	}
	if _, err := h.OpenInit(p.PID, InitOptions{Cgroup: p.Spec.Cgroup.Path}); !errors.Is(err, ErrNoCgroup2) {
		t.Errorf("err = %v; want %v", err, ErrNoCgroup2)
	}
	l := peertest.Listen(t)
	p.Connect(l.Path)
	r := &rig{h: h, dir: newDirectory()}
	r.bind(t, "c1", p.PID, InitOptions{})
	if got := r.identify(l.Accept()); got != "c1" {
		t.Errorf("identified as %s; want c1", got)
	}
}

// TestInitHoldsPidNS: as long as the Init is open, or the watcher has its pidfd, parked or not, no other pid namespace gets
// the inode number of its one, though the process was reaped; afterwards one soon does, so the test would notice.
func TestInitHoldsPidNS(t *testing.T) {
	needParking(t)
	h := probeHost(t, Options{})
	for _, tt := range []struct {
		name string
		hold func(t *testing.T, i *Init)
	}{
		{"open", func(*testing.T, *Init) {}},
		{"parked", func(t *testing.T, i *Init) {
			w := newParkingWatcher(t)
			block := make(chan struct{})
			t.Cleanup(func() { close(block) }) // before Close of the watcher
			if err := i.Watch(w, func() { <-block }); err != nil {
				t.Fatal(err)
			}
			for _, fd := range selfPidfds(t, 2*parkBatch-1) {
				mustAdd(t, w, fd, func() {})
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if len(w.files.parked) != 2*parkBatch {
				t.Fatalf("%d are parked", len(w.files.parked))
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var was NS
			t.Run("held", func(t *testing.T) {
				p := startNS(t)
				i := openInit(t, h, p.Pid, InitOptions{})
				was = i.PidNS
				if was != procNS(t, p.Pid) {
					t.Fatalf("%v; want %v", was, procNS(t, p.Pid))
				}
				tt.hold(t, i)
				endNS(p)
				if reusedNS(t, was) {
					t.Errorf("%v was given out again", was)
				}
			})
			// Another process of the machine may take the number first, and later give it back.
			for range 20 {
				if reusedNS(t, was) {
					return
				}
			}
			t.Errorf("%v is not given out again although nobody holds it: the test shows nothing", was)
		})
	}
}

// reusedNS makes some hundred pid namespaces, all at once since the kernel gives out the lowest number that is free, and tells
// whether one of them has the number.
func reusedNS(t *testing.T, was NS) bool {
	t.Helper()
	var procs []*os.Process
	defer func() {
		for _, p := range procs {
			endNS(p)
		}
	}()
	reused := false
	for range 200 {
		p := startNS(t)
		procs = append(procs, p)
		reused = reused || procNS(t, p.Pid) == was
	}
	return reused
}

// startNS starts a process in a new pid namespace, cheaply. endNS ends it; left over it ends by itself.
func startNS(t *testing.T) *os.Process {
	t.Helper()
	cmd := exec.Command("sleep", "300")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process
}

func endNS(p *os.Process) {
	_ = p.Kill()
	_, _ = p.Wait()
}

// TestInitWatch: the pidfd is the watcher's, which also says whether the process has ended.
func TestInitWatch(t *testing.T) {
	w := newWorld(t)
	h, watcher := w.rigs[0].h, newWatcher(t)
	start := func() (*peertest.Proc, *Init) {
		p := peertest.Start(t, peertest.Spec{PidNS: true, RootUID: sharedRoot})
		return p, openInit(t, h, p.PID, InitOptions{})
	}
	p, i := start()
	if i.Exited() {
		t.Error("exited while it lives")
	}
	told := make(chan bool, 2)
	if err := i.Watch(watcher, func() { i.Close(); told <- i.Exited() }); err != nil {
		t.Fatal(err)
	}
	if err := i.Watch(watcher, func() {}); !errors.Is(err, ErrWatched) {
		t.Errorf("err = %v; want %v", err, ErrWatched)
	}
	if i.Exited() || watcher.Len() != 1 {
		t.Errorf("exited %v, %d watched", i.Exited(), watcher.Len())
	}
	p.Kill()
	if !waitFor(t, told) {
		t.Error("the callback is called, but Exited is false")
	}
	p, i = start()
	p.Kill()
	if !i.Exited() {
		t.Error("not exited, without a watcher")
	}
	p, i = start()
	if err := i.Watch(watcher, func() { t.Error("called after Close") }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	}
	if watcher.Len() != 0 {
		t.Errorf("%d are watched after Close", watcher.Len())
	}
	p.Kill()
	_, i = start()
	i.Close()
	if err := i.Watch(watcher, func() {}); !errors.Is(err, ErrWatched) {
		t.Errorf("after Close: err = %v; want %v", err, ErrWatched)
	}
	_, i = start()
	watcher.Close()
	if err := i.Watch(watcher, func() {}); !errors.Is(err, ErrWatcherClosed) {
		t.Errorf("err = %v; want %v", err, ErrWatcherClosed)
	}
	if i.Exited() {
		t.Error("exited, since its watcher was closed")
	}
}

// TestOpenInitFaultAnywhere makes each system call of OpenInit fail in turn.
func TestOpenInitFaultAnywhere(t *testing.T) {
	w := newWorld(t)
	p := peertest.Start(t, peertest.Container(t, sharedRoot))
	p.Spawn(peertest.Spec{PidNS: true}).Enter(filepath.Join(p.Spec.Cgroup.Dir, "leaf"))
	for _, r := range w.rigs {
		before := openFDs(t)
		real := r.h.k
		for _, e := range []syscall.Errno{unix.EMFILE, unix.ESRCH, unix.EACCES} {
			n := 1
			for ; n < 100; n++ {
				left := n
				r.h.k = failing(real, &left, e)
				i, err := r.h.OpenInit(p.PID, InitOptions{})
				if left > 0 {
					i.Close()
					break
				}
				if err != nil {
					continue
				}
				if i.PidNS != procNS(t, p.PID) || i.RootUID != sharedRoot || (i.CgroupID != 0 && i.CgroupID != p.Spec.Cgroup.ID) {
					t.Errorf("%s: %v at call %d: %+v", r.name, e, n, i)
				}
				i.Close()
			}
			if n < 10 || n == 100 {
				t.Errorf("%s: %v: %d calls were tried", r.name, e, n)
			}
			if after := openFDs(t); after != before {
				t.Fatalf("%s: %v: descriptors: %d before, %d after", r.name, e, before, after)
			}
		}
	}
}
