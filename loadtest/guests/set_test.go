package guests

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestLayoutOfShared(t *testing.T) {
	var h header
	var p slot
	for _, c := range []struct {
		what      string
		got, want uintptr
	}{
		{"family", unsafe.Offsetof(h.family), 12}, {"path", unsafe.Offsetof(h.path), 14},
		{"base", unsafe.Offsetof(h.base), 124}, {"uidMap", unsafe.Offsetof(h.uidMap), 188},
		{"gidMap", unsafe.Offsetof(h.gidMap), 220}, {"header", unsafe.Sizeof(h), 256},
		{"count", unsafe.Offsetof(p.count), 4}, {"done", unsafe.Offsetof(p.done), 24}, {"job", unsafe.Offsetof(p.job), 32},
		{"settled", unsafe.Offsetof(p.job.settled), 20}, {"secret", unsafe.Offsetof(p.job.secret), 32},
		{"counts", unsafe.Offsetof(p.counts), 96}, {"wrong", unsafe.Offsetof(p.wrong), 192}, {"slot", unsafe.Sizeof(p), 256},
	} {
		if c.got != c.want {
			t.Errorf("%s is at or has %d, in guest.h %d", c.what, c.got, c.want)
		}
	}
}

// nsID is the inode of a process's namespace. Two that exist at once differ.
func nsID(t *testing.T, pid int, kind string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/%s", pid, kind), &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// peerCgroup asks the kernel for the peer's cgroup as a server would. ok is false where the kernel cannot tell.
func peerCgroup(t *testing.T, fd int) (pid int, cgroup uint64, ok bool) {
	t.Helper()
	pidfd, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if err == unix.ENOPROTOOPT {
		return 0, 0, false
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_CGROUPID}
	err = unix.IoctlPidfdInfo(pidfd, &info)
	if err == unix.ENOTTY || err == unix.EINVAL {
		return 0, 0, false
	}
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Pid), info.Cgroupid, true
}

func TestServerSeesEachGuest(t *testing.T) {
	const count = 300
	done := 0
	s := startSet(t, Options{Count: count, Progress: func(n, total int) {
		if n != done+1 || total != count {
			t.Errorf("progress %d of %d after %d", n, total, done)
		}
		done = n
	}})
	if done != count || s.Len() != count {
		t.Errorf("progress ended at %d, %d guests", done, s.Len())
	}
	v := newServer(t, count)
	if err := s.SetSocket(v.path); err != nil {
		t.Fatal(err)
	}
	for i := range count {
		if err := s.Connect(i, 1); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range receive(t, s, count) {
		if c.Err != 0 {
			t.Fatalf("guest %d: %v", c.Guest, c.Err)
		}
		if _, err := unix.Write(c.FD, binary.NativeEndian.AppendUint32(nil, uint32(c.Guest))); err != nil {
			t.Fatal(err)
		}
	}
	seen := make(map[uint64]string) // namespaces and cgroups
	for range count {
		checkPeer(t, s, v.accept(), seen)
	}
	want := 3 * count
	if s.base == nil {
		want = 2 * count
	}
	if len(seen) != want {
		t.Errorf("%d different namespaces and cgroups, want %d", len(seen), want)
	}
}

// checkPeer compares what the kernel says of an accepted connection with the guest that wrote to it.
func checkPeer(t *testing.T, s *Set, fd int, seen map[uint64]string) {
	t.Helper()
	var b [4]byte
	waitReadable(t, fd)
	if n, err := unix.Read(fd, b[:]); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	i := int(binary.NativeEndian.Uint32(b[:]))
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		t.Fatal(err)
	}
	uid := uint32(os.Geteuid())
	if uid == 0 {
		uid = defaultIDBase
	}
	if int(cred.Pid) != s.PID(i) || cred.Uid != uid {
		t.Errorf("guest %d: peer is pid %d uid %d, want pid %d uid %d", i, cred.Pid, cred.Uid, s.PID(i), uid)
	}
	for _, kind := range []string{"pid", "user"} {
		id := nsID(t, s.PID(i), kind)
		if id == nsID(t, os.Getpid(), kind) {
			t.Errorf("guest %d has our own %s namespace", i, kind)
		}
		seen[id] = kind
	}
	if s.base == nil {
		return
	}
	var st unix.Stat_t
	if err := unix.Stat(s.Cgroup(i), &st); err != nil || st.Ino != s.CgroupID(i) {
		t.Errorf("guest %d: cgroup %s has id %d, want %d (%v)", i, s.Cgroup(i), s.CgroupID(i), st.Ino, err)
	}
	seen[st.Ino] = "cgroup"
	if pid, cgroup, ok := peerCgroup(t, fd); ok && (pid != s.PID(i) || cgroup != st.Ino) {
		t.Errorf("guest %d: the peer's pidfd has pid %d cgroup %d, want %d and %d", i, pid, cgroup, s.PID(i), st.Ino)
	}
}

func TestGuestIsRootAndAlone(t *testing.T) {
	s := startSet(t, Options{Count: 1})
	pid := s.PID(0)
	status := readFile(t, fmt.Sprintf("/proc/%d/status", pid))
	fields := make(map[string]string)
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(line, ":")
		fields[key] = strings.TrimSpace(value)
	}
	if want := fmt.Sprintf("%d\t1", pid); fields["NSpid"] != want {
		t.Errorf("NSpid %q, want %q", fields["NSpid"], want)
	}
	if os.Geteuid() != 0 {
		return
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil || len(fds) != 1 {
		t.Errorf("%d descriptors, want the data socket only (%v)", len(fds), err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestIDsAsAsked(t *testing.T) {
	needRoot(t)
	s := startSet(t, Options{Count: 1, IDBase: 7000000, IDRange: 1000, NoCgroup: true})
	f := strings.Fields(readFile(t, fmt.Sprintf("/proc/%d/gid_map", s.PID(0))))
	if len(f) != 3 || f[1] != "7000000" || f[2] != "1000" {
		t.Errorf("gid map %v", f)
	}
	if s.Cgroup(0) != "" || s.CgroupID(0) != 0 {
		t.Errorf("cgroup %q %d, want none", s.Cgroup(0), s.CgroupID(0))
	}
}

func TestStopAndRestart(t *testing.T) {
	s := startSet(t, Options{Count: 3})
	v := newServer(t, 16)
	if err := s.SetSocket(v.path); err != nil {
		t.Fatal(err)
	}
	pid, dir, id := s.PID(1), s.Cgroup(1), s.CgroupID(1)
	if err := s.Connect(1, 1); err != nil {
		t.Fatal(err)
	}
	receive(t, s, 1)
	for range 2 { // the second time nothing is left to be done
		if err := s.Stop(1); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Kill(pid, 0); err != unix.ESRCH {
		t.Errorf("the stopped guest is still there: %v", err)
	}
	if _, err := os.Stat(dir); dir != "" && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its cgroup is still there: %v", err)
	}
	if s.PID(1) != 0 || s.Cgroup(1) != "" || s.CgroupID(1) != 0 {
		t.Error("a stopped guest has a pid or a cgroup")
	}
	if err := s.Connect(1, 1); !errors.Is(err, ErrStopped) {
		t.Errorf("Connect: %v, want %v", err, ErrStopped)
	}
	for range 2 { // the second one stops it first
		again, err := s.Restart(1)
		if err != nil {
			t.Fatal(err)
		}
		if again != s.PID(1) || again == pid || again == 0 {
			t.Errorf("pid %d after %d", again, pid)
		}
		if id != 0 && (s.CgroupID(1) == id || s.CgroupID(1) == 0) {
			t.Errorf("cgroup id %d after %d", s.CgroupID(1), id)
		}
		pid, id = again, s.CgroupID(1)
	}
	if err := s.Connect(1, 1); err != nil {
		t.Fatal(err)
	}
	if c := receive(t, s, 1)[0]; c.Err != 0 || c.Guest != 1 {
		t.Errorf("%+v", c)
	}
	v.accept()
	if cred, err := unix.GetsockoptUcred(v.accept(), unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil || int(cred.Pid) != pid {
		t.Errorf("peer %+v, want pid %d (%v)", cred, pid, err)
	}
}

func TestGuestThatDiesByItself(t *testing.T) {
	s := startSet(t, Options{Count: 2})
	dir := s.Cgroup(0)
	if err := unix.Kill(s.PID(0), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pid 0", func() bool { return s.PID(0) == 0 })
	if _, err := os.Stat(dir); dir != "" && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its cgroup is still there: %v", err)
	}
	if s.PID(1) == 0 {
		t.Error("the other one has ended too")
	}
	if pid, err := s.Restart(0); err != nil || pid == 0 {
		t.Errorf("restart: pid %d, %v", pid, err)
	}
}

func TestStartErrors(t *testing.T) {
	for _, n := range []int{-1, 0, maxGuests + 1} {
		if _, err := Start(context.Background(), Options{Count: n}); !errors.Is(err, ErrCount) {
			t.Errorf("%d: %v, want %v", n, err, ErrCount)
		}
	}
}

// Where cgroups can be made but not be entered, Start goes on without them: start tells it apart.
func TestCgroupIsRefused(t *testing.T) {
	b, err := newBase()
	if err != nil {
		t.Skip(err)
	}
	if err := unix.Rmdir(b.dir); err != nil { // from now on no cgroup can be made in it
		t.Fatal(err)
	}
	s, err := start(context.Background(), Options{Count: 3}, b, nil)
	var refused *cgroupError
	if s != nil || !errors.As(err, &refused) || !errors.Is(err, unix.ENOENT) {
		t.Errorf("%v, want it to be about the cgroup", err)
	}
}

func TestStartIsCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	own, _ := ownCgroup()
	before, _ := filepath.Glob(filepath.Join(own, basePrefix+"*"))
	s, err := Start(ctx, Options{Count: 2000, Progress: func(done, total int) {
		if done == 10 {
			cancel()
		}
	}})
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	if s != nil || !errors.Is(err, context.Canceled) {
		t.Fatalf("%v, want %v", err, context.Canceled)
	}
	after, _ := filepath.Glob(filepath.Join(own, basePrefix+"*"))
	if len(after) > len(before) {
		t.Errorf("cgroups are left: %v, before %v", after, before)
	}
}

func TestClose(t *testing.T) {
	s := startSet(t, Options{Count: 50})
	var pidfds []int
	for i := range s.Len() {
		fd, err := unix.PidfdOpen(s.PID(i), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		pidfds = append(pidfds, fd)
	}
	dir := ""
	if s.base != nil {
		dir = s.base.dir
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i, fd := range pidfds {
		if !readable(fd, 0) {
			t.Errorf("guest %d runs", i)
		}
	}
	if _, err := os.Stat(dir); dir != "" && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", dir, err)
	}
	_, restart := s.Restart(0)
	for what, err := range map[string]error{
		"Connect": s.Connect(0, 1), "Receive": s.Receive(nil), "SetSocket": s.SetSocket("/x"), "Stop": s.Stop(0), "Restart": restart,
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v, want %v", what, err, ErrClosed)
		}
	}
}
