package peer

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"devlxd/peer/peertest"

	"golang.org/x/sys/unix"
)

// probeHost is Probe that ends with the test.
func probeHost(t testing.TB, o Options) *Host {
	t.Helper()
	return probeKernel(t, o, realKernel())
}

func probeKernel(t testing.TB, o Options, k kernel) *Host {
	t.Helper()
	h, err := probe(o, k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func findCheck(h *Host, name string) Check {
	for _, c := range h.Checks() {
		if c.Name == name {
			return c
		}
	}
	return Check{}
}

// openFDs counts this process's descriptors.
func openFDs(t testing.TB) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func TestProbe(t *testing.T) {
	h := probeHost(t, Options{})
	for _, c := range h.Checks() {
		t.Logf("%-24s %-5v %s", c.Name, c.OK, c.Detail)
		if c.Name == "" || c.Detail == "" {
			t.Errorf("check %+v is incomplete", c)
		}
	}
	if h.BootID() == "" || h.OwnPidNS() == (NS{}) {
		t.Errorf("boot %q, pid namespace %v", h.BootID(), h.OwnPidNS())
	}
}

// TestProbeKernels gives Probe what older kernels and fewer permissions answer.
func TestProbeKernels(t *testing.T) {
	best := probeHost(t, Options{})
	if best.Level() != LevelInfoExit || !best.handles || !best.cgroups {
		t.Skip("needs Linux 6.16, cgroup2 and root: the best kernel is what older ones are made of")
	}
	fail := func(e syscall.Errno) func(int) (int, syscall.Errno) {
		return func(int) (int, syscall.Errno) { return -1, e }
	}
	tests := []struct {
		name   string
		change func(k *kernel)
		level  Level
		failed []string
		test   func(h *Host) bool
	}{
		{"6.16", func(k *kernel) {}, LevelInfoExit, nil, func(h *Host) bool { return h.nsIoctl && h.handles && h.pidfs }},
		{"6.15", func(k *kernel) { k.peerPidfd = firstCallOnly(k.peerPidfd, unix.EINVAL) }, LevelInfo, []string{"exited peer"}, nil},
		{"6.14", func(k *kernel) {
			info := k.info
			k.info = func(fd int, ask uint64) (uint64, uint64, syscall.Errno) {
				mask, id, e := info(fd, ask)
				if mask&unix.PIDFD_INFO_PID == 0 {
					e = unix.ESRCH
				}
				return mask, id, e
			}
		}, LevelInfo, []string{"exited peer"}, nil},
		{"6.12", func(k *kernel) { k.info = failInfo(unix.ENOTTY) }, LevelPeerPidfd, []string{"PIDFD_GET_INFO"},
			func(h *Host) bool { return h.cgroups && !h.nsIoctl }},
		{"6.12 EINVAL", func(k *kernel) { k.info = failInfo(unix.EINVAL) }, LevelPeerPidfd, []string{"PIDFD_GET_INFO"}, nil},
		{"6.10", func(k *kernel) { k.info = failInfo(unix.ENOTTY); k.pidNS = fail(unix.ENOTTY) }, LevelPeerPidfd,
			[]string{"PIDFD_GET_INFO", "PIDFD_GET_PID_NAMESPACE"}, nil},
		{"6.1", func(k *kernel) { k.peerPidfd = fail(unix.ENOPROTOOPT) }, LevelPidfdOpen, []string{"SO_PEERPIDFD"},
			func(h *Host) bool { return h.cgroups }},
		{"5.2", func(k *kernel) {
			k.pidfdOpen = func(int32) (int, syscall.Errno) { return -1, unix.ENOSYS }
		}, LevelNone, []string{"pidfd_open", "level"}, nil},
		{"no CAP_DAC_READ_SEARCH", func(k *kernel) {
			k.openHandle = func(int, uint64) (int, syscall.Errno) { return -1, unix.EPERM }
		}, LevelInfoExit, []string{"open_by_handle_at"}, func(h *Host) bool { return h.cgroups && !h.handles }},
		{"another cgroup root", func(k *kernel) {
			info := k.info
			k.info = func(fd int, ask uint64) (uint64, uint64, syscall.Errno) {
				mask, id, e := info(fd, ask)
				return mask, id + 1000, e
			}
		}, LevelInfoExit, []string{"cgroup2 root"}, func(h *Host) bool { return !h.cgroups && h.Mount() == "" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := openFDs(t)
			k := realKernel()
			tt.change(&k)
			h, err := probe(Options{}, k)
			if err != nil {
				t.Fatal(err)
			}
			if h.Level() != tt.level {
				t.Errorf("level = %s; want %s", h.Level(), tt.level)
			}
			for _, name := range tt.failed {
				if c := findCheck(h, name); c.OK || c.Name == "" {
					t.Errorf("check %q = %+v; want it failed", name, c)
				}
			}
			if tt.test != nil && !tt.test(h) {
				t.Errorf("host = %+v", h)
			}
			h.Close()
			if after := openFDs(t); after != before {
				t.Errorf("descriptors: %d before, %d after", before, after)
			}
		})
	}
}

func failInfo(e syscall.Errno) func(int, uint64) (uint64, uint64, syscall.Errno) {
	return func(int, uint64) (uint64, uint64, syscall.Errno) { return 0, 0, e }
}

// firstCallOnly makes every call after the first one fail.
func firstCallOnly(call func(int) (int, syscall.Errno), e syscall.Errno) func(int) (int, syscall.Errno) {
	calls := 0
	return func(fd int) (int, syscall.Errno) {
		if calls++; calls > 1 {
			return -1, e
		}
		return call(fd)
	}
}

func TestProbeForcedLevel(t *testing.T) {
	best := probeHost(t, Options{})
	for _, l := range AllLevels()[1:] {
		t.Run(l.String(), func(t *testing.T) {
			h, err := Probe(Options{Level: l})
			if l > best.Level() {
				if !errors.Is(err, ErrNotWorking) {
					t.Fatalf("err = %v; want ErrNotWorking", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			if h.Level() != l {
				t.Errorf("level = %s", h.Level())
			}
		})
	}
	t.Run("above the best", func(t *testing.T) {
		k := realKernel()
		k.info = failInfo(unix.ENOTTY)
		if _, err := probe(Options{Level: LevelInfo}, k); !errors.Is(err, ErrNotWorking) {
			t.Errorf("err = %v; want ErrNotWorking", err)
		}
	})
}

func TestProbeMount(t *testing.T) {
	peertest.Need(t, peertest.Cgroup2)
	good := probeHost(t, Options{}).Mount()
	for _, tt := range []struct {
		mount string
		want  error
	}{
		{good, nil},
		{good + "/", nil},
		{"/proc", ErrCgroupPath},
		{"/does/not/exist", ErrCgroupPath},
		{filepath.Join(good, "cgroup.procs"), ErrCgroupPath},
	} {
		t.Run(tt.mount, func(t *testing.T) {
			before := openFDs(t)
			h, err := Probe(Options{Mount: tt.mount})
			if !errors.Is(err, tt.want) {
				t.Fatalf("err = %v; want %v", err, tt.want)
			}
			if err == nil {
				h.Close()
			}
			if after := openFDs(t); after != before {
				t.Errorf("descriptors: %d before, %d after", before, after)
			}
		})
	}
}

// TestProbeWithoutRoot runs Probe as nobody: legal, and the checks say what is missing.
func TestProbeWithoutRoot(t *testing.T) {
	peertest.Need(t, peertest.Root)
	p := peertest.Start(t, peertest.Spec{})
	p.Setuid(65534)
	got := p.Call("probe")
	t.Log(got)
	for _, want := range []string{"capabilities false: missing: CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "proc true"} {
		if !strings.Contains(got, want) {
			t.Errorf("want %q in the answer", want)
		}
	}
	if strings.Contains(got, "level none") {
		t.Error("no level works without root")
	}
}

// TestProbeInContainer runs Probe in a pid namespace that still shows the host's /proc,
// where every pid means something else.
func TestProbeInContainer(t *testing.T) {
	peertest.Need(t, peertest.Root)
	p := peertest.Start(t, peertest.Spec{PidNS: true})
	got := p.Call("probe-error")
	if !strings.Contains(got, ErrNoProc.Error()) {
		t.Errorf("probe says %q; want %q", got, ErrNoProc)
	}
}

func TestCgroup2Mounts(t *testing.T) {
	const v1 = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
	for _, tt := range []struct{ name, text, want string }{
		{"none", v1, ""},
		{"unified", "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup"},
		{"hybrid", v1 + "38 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/unified"},
		{"usual place first", "9 1 0:26 / /mnt/cg rw - cgroup2 none rw\n8 1 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup /mnt/cg"},
		{"part of a tree", "9 1 0:26 /../x /sys/fs/cgroup rw - cgroup2 none rw\n", ""},
		{"escapes", `9 1 0:26 / /mnt/a\040b\134c rw - cgroup2 none rw` + "\n", `/mnt/a b\c`},
		{"named like it", "9 1 0:26 / /sys/fs/cgroup rw - tmpfs cgroup2 rw\n", ""},
		{"cut off", "9 1 0:26 / - cgroup2 none rw", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := strings.Join(cgroup2Mounts(tt.text), " "); got != tt.want {
				t.Errorf("mounts = %q; want %q", got, tt.want)
			}
		})
	}
}

func TestLabels(t *testing.T) {
	seen := map[string]bool{}
	for i, l := range AllLevels() {
		if int(l) != i || strings.Contains(l.String(), "(") || seen[l.String()] {
			t.Errorf("level %d has the label %q", i, l)
		}
		seen[l.String()] = true
	}
	if next := Level(len(AllLevels())); !strings.Contains(next.String(), "(") {
		t.Errorf("%s is not in AllLevels", next)
	}
	seen = map[string]bool{}
	for i, r := range AllRejects() {
		if int(r) != i || strings.Contains(r.String(), "(") || seen[r.String()] {
			t.Errorf("reject %d has the label %q", i, r)
		}
		seen[r.String()] = true
	}
	seen = map[string]bool{}
	for i, p := range AllPaths() {
		if int(p) != i || strings.Contains(p.String(), "(") || seen[p.String()] {
			t.Errorf("path %d has the label %q", i, p)
		}
		seen[p.String()] = true
	}
	if next := Path(len(AllPaths())); !strings.Contains(next.String(), "(") {
		t.Errorf("%s is not in AllPaths", next)
	}
	if next := Reject(len(AllRejects())); !strings.Contains(next.String(), "(") {
		t.Errorf("%s is not in AllRejects", next)
	}
}
