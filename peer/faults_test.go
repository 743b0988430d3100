package peer

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"

	"devlxd/peer/peertest"

	"golang.org/x/sys/unix"
)

// TestFaults gives each system call's errors and expects the refusal they mean.
func TestFaults(t *testing.T) {
	w := newWorld(t)
	if len(w.rigs) != 6 {
		t.Skip("needs Linux 6.16: every level is tried")
	}
	c := w.container("c1", sharedRoot)
	c.Enter(filepath.Join(c.Spec.Cgroup.Dir, "leaf"))
	c.Connect(w.Path)
	fd := w.Accept()
	fail := func(e syscall.Errno) func(int) (int, syscall.Errno) {
		return func(int) (int, syscall.Errno) { return -1, e }
	}
	type change func(k *kernel)
	peerCred := func(e syscall.Errno) change {
		return func(k *kernel) {
			k.peerCred = func(int) (unix.Ucred, syscall.Errno) { return unix.Ucred{}, e }
		}
	}
	peerPid := func(pid int32) change {
		return func(k *kernel) {
			k.peerCred = func(int) (unix.Ucred, syscall.Errno) { return unix.Ucred{Pid: pid, Uid: sharedRoot}, 0 }
		}
	}
	peerPidfd := func(e syscall.Errno) change { return func(k *kernel) { k.peerPidfd = fail(e) } }
	pidfdOpen := func(e syscall.Errno) change {
		return func(k *kernel) { k.pidfdOpen = func(int32) (int, syscall.Errno) { return -1, e } }
	}
	info := func(mask uint64, e syscall.Errno) change {
		return func(k *kernel) {
			k.info = func(int, uint64) (uint64, uint64, syscall.Errno) { return mask, c.Spec.Cgroup.ID, e }
		}
	}
	handle := func(e syscall.Errno) change {
		return func(k *kernel) { k.openHandle = func(int, uint64) (int, syscall.Errno) { return -1, e } }
	}
	open := func(path string, e syscall.Errno) change {
		return func(k *kernel) {
			real := k.openAt
			k.openAt = func(dir int, p []byte, flags int) (int, syscall.Errno) {
				if ok, err := filepath.Match(path, string(p[:len(p)-1])); ok && err == nil {
					return -1, e
				}
				return real(dir, p, flags)
			}
		}
	}
	signal := func(e syscall.Errno) change {
		return func(k *kernel) { k.signal0 = func(int) syscall.Errno { return e } }
	}
	text := func(s string) change {
		return func(k *kernel) {
			done := false
			k.read = func(_ int, buf []byte) (int, syscall.Errno) {
				if done {
					return 0, 0
				}
				done = len(s) < len(buf)
				return copy(buf, s), 0
			}
		}
	}
	const (
		open5, peer6, info6, exit6 = LevelPidfdOpen, LevelPeerPidfd, LevelInfo, LevelInfoExit
	)
	tests := []struct {
		level  Level
		name   string
		change change
		want   string
	}{
		{exit6, "SO_PEERCRED EMFILE", peerCred(unix.EMFILE), "resources"},
		{exit6, "SO_PEERCRED ENOTSOCK", peerCred(unix.ENOTSOCK), "credentials"},
		{exit6, "SO_PEERCRED pid 0", peerPid(0), "unknown"},
		{exit6, "SO_PEERPIDFD EMFILE", peerPidfd(unix.EMFILE), "resources"},
		{exit6, "SO_PEERPIDFD ENFILE", peerPidfd(unix.ENFILE), "resources"},
		{exit6, "SO_PEERPIDFD ENOMEM", peerPidfd(unix.ENOMEM), "resources"},
		{info6, "SO_PEERPIDFD EINVAL", peerPidfd(unix.EINVAL), "gone"},
		{info6, "SO_PEERPIDFD ESRCH", peerPidfd(unix.ESRCH), "gone"},
		{peer6, "SO_PEERPIDFD ENODATA", peerPidfd(unix.ENODATA), "gone"},
		{peer6, "SO_PEERPIDFD ENOPROTOOPT", peerPidfd(unix.ENOPROTOOPT), "credentials"},
		{open5, "SO_PEERPIDFD is not called", peerPidfd(unix.ENOPROTOOPT), "c1"},
		{open5, "pidfd_open ESRCH", pidfdOpen(unix.ESRCH), "gone"},
		{open5, "pidfd_open EMFILE", pidfdOpen(unix.EMFILE), "resources"},
		{open5, "/proc/PID ENOENT", open(fmt.Sprint(c.PID), unix.ENOENT), "gone"},
		{open5, "/proc/PID of another uid", func(k *kernel) {
			real := k.stat
			k.stat = func(fd int) (fileID, syscall.Errno) {
				id, e := real(fd)
				id.uid++
				return id, e
			}
		}, "gone"},
		{exit6, "PIDFD_GET_INFO ESRCH", info(0, unix.ESRCH), "gone"},
		{exit6, "PIDFD_GET_INFO EREMOTE", info(0, unix.EREMOTE), "unknown"},
		{exit6, "PIDFD_GET_INFO ENOMEM", info(0, unix.ENOMEM), "resources"},
		{exit6, "PIDFD_GET_INFO ENOTTY", info(0, unix.ENOTTY), "unknown"},
		{exit6, "PIDFD_GET_INFO without a cgroup id", info(unix.PIDFD_INFO_EXIT, 0), "gone"},
		{exit6, "open_by_handle_at ESTALE", handle(unix.ESTALE), "unknown"},
		{exit6, "open_by_handle_at EMFILE", handle(unix.EMFILE), "resources"},
		{exit6, ".. EMFILE", open("..", unix.EMFILE), "resources"},
		{exit6, ".. EACCES", open("..", unix.EACCES), "unknown"},
		{exit6, "/proc/PID/ns/pid is not needed", open("*/ns/pid", unix.EACCES), "c1"},
		{peer6, "/proc/PID/cgroup ENOENT", open("*/cgroup", unix.ENOENT), "gone"},
		{peer6, "/proc/PID/cgroup ESRCH", open("*/cgroup", unix.ESRCH), "gone"},
		{peer6, "/proc/PID/cgroup EMFILE", open("*/cgroup", unix.EMFILE), "resources"},
		{peer6, "/proc/PID/cgroup EACCES", open("*/cgroup", unix.EACCES), "unknown"},
		{peer6, "cgroup directory ENOENT", open("*/leaf", unix.ENOENT), "unknown"},
		{peer6, "cgroup directory EMFILE", open("*/leaf", unix.EMFILE), "resources"},
		{peer6, "pidfd dead after the reading", signal(unix.ESRCH), "gone"},
		{peer6, "pidfd alive without permission", signal(unix.EPERM), "c1"},
		{peer6, "pidfd EINVAL", signal(unix.EINVAL), "gone"},
		{peer6, "only cgroup v1 lines", text("4:memory:" + c.Spec.Cgroup.Path + "\n"), "unknown"},
		{peer6, "path with ..", text("0::" + c.Spec.Cgroup.Path + "/../x\n"), "unknown"},
		{peer6, "removed cgroup", text("0::" + c.Spec.Cgroup.Path + " (deleted)\n"), "unknown"},
		{peer6, "endless text", text("0::" + c.Spec.Cgroup.Path + "\n" + string(make([]byte, 1<<20))), "unknown"},
		{peer6, "another container's path, dead meanwhile", func(k *kernel) {
			text("0::" + c.Spec.Cgroup.Path + "\n")(k)
			signal(unix.ESRCH)(k)
		}, "gone"},
	}
	for _, tt := range tests {
		t.Run(tt.level.String()+" "+tt.name, func(t *testing.T) {
			h := probeHost(t, Options{Level: tt.level})
			dir := newDirectory()
			dir.add(&binding{name: "c1", cgroup: c.Spec.Cgroup.ID, root: sharedRoot})
			tt.change(&h.k)
			before := openFDs(t)
			if got := (&rig{h: h, dir: dir}).identify(fd); got != tt.want {
				t.Errorf("%s; want %s", got, tt.want)
			}
			if after := openFDs(t); after != before {
				t.Errorf("descriptors: %d before, %d after", before, after)
			}
		})
	}
}

// TestFaultAnywhere makes the nth system call fail, for every n and several errors: the
// answer must be the right container or a refusal, and no descriptor may be left open.
func TestFaultAnywhere(t *testing.T) {
	w := newWorld(t)
	victim := w.container("victim", sharedRoot)
	own := w.privileged("c1")
	none := peertest.Start(t, peertest.Spec{RootUID: sharedRoot, PidNS: true})
	for _, r := range w.rigs {
		// By the cgroup's owner, the pid namespace is the only thing that tells these two apart.
		r.bind(t, "c2", none.PID, InitOptions{})
	}
	own.Enter(filepath.Join(own.Spec.Cgroup.Dir, "leaf"))
	nested := none.Spawn(peertest.Spec{PidNS: true})
	intruder := own.Spawn(peertest.Spec{})
	intruder.Enter(filepath.Join(victim.Spec.Cgroup.Dir, "leaf"))
	intruder.Setuid(sharedRoot)
	intruder.Exec("innocent")
	for _, peer := range []struct {
		name string
		p    *peertest.Proc
		want string
	}{{"leaf", own, "c1"}, {"nested pid namespace", nested, "c2"}, {"intruder", intruder, "pid_namespace"}} {
		peer.p.Connect(w.Path)
		fd := w.Accept()
		for _, r := range w.rigs {
			t.Run(peer.name+" "+r.name, func(t *testing.T) {
				faultAnywhere(t, r, fd, peer.want)
			})
		}
	}
}

func faultAnywhere(t *testing.T, r *rig, fd int, want string) {
	real := r.h.k
	defer func() { r.h.k = real }()
	answers := map[string]bool{want: true}
	for _, reject := range AllRejects()[1:] {
		answers[reject.String()] = true
	}
	before := openFDs(t)
	const enough = 100
	for _, e := range []syscall.Errno{unix.EMFILE, unix.ESRCH, unix.ENOENT, unix.EPERM, unix.EINVAL, unix.ESTALE} {
		n := 1
		for ; n < enough; n++ {
			clear(r.dir.leaves)
			left := n
			r.h.k = failing(real, &left, e)
			got := r.identify(fd)
			if left > 0 {
				break // all calls went through
			}
			if !answers[got] {
				t.Errorf("%v at call %d: %s; want %s or a refusal", e, n, got, want)
			}
			if e == unix.EMFILE && got == want && want != RejectPidNS.String() {
				t.Errorf("EMFILE at call %d was overlooked", n)
			}
		}
		if n < 4 || n == enough {
			t.Errorf("%v: %d calls were tried", e, n)
		}
		if after := openFDs(t); after != before {
			t.Fatalf("%v: descriptors: %d before, %d after", e, before, after)
		}
	}
}

// failing makes the call at which left gets to zero fail.
func failing(k kernel, left *int, e syscall.Errno) kernel {
	now := func() bool { *left--; return *left == 0 }
	real := k
	k.peerCred = func(fd int) (unix.Ucred, syscall.Errno) {
		if now() {
			return unix.Ucred{}, e
		}
		return real.peerCred(fd)
	}
	fds := func(call func(int) (int, syscall.Errno)) func(int) (int, syscall.Errno) {
		return func(fd int) (int, syscall.Errno) {
			if now() {
				return -1, e
			}
			return call(fd)
		}
	}
	k.peerPidfd, k.pidNS, k.parentNS = fds(real.peerPidfd), fds(real.pidNS), fds(real.parentNS)
	k.pidfdOpen = func(pid int32) (int, syscall.Errno) {
		if now() {
			return -1, e
		}
		return real.pidfdOpen(pid)
	}
	k.info = func(fd int, ask uint64) (uint64, uint64, syscall.Errno) {
		if now() {
			return 0, 0, e
		}
		return real.info(fd, ask)
	}
	k.signal0 = func(fd int) syscall.Errno {
		if now() {
			return e
		}
		return real.signal0(fd)
	}
	k.openHandle = func(mount int, id uint64) (int, syscall.Errno) {
		if now() {
			return -1, e
		}
		return real.openHandle(mount, id)
	}
	k.openAt = func(dir int, path []byte, flags int) (int, syscall.Errno) {
		if now() {
			return -1, e
		}
		return real.openAt(dir, path, flags)
	}
	k.read = func(fd int, buf []byte) (int, syscall.Errno) {
		if now() {
			return 0, e
		}
		return real.read(fd, buf)
	}
	k.stat = func(fd int) (fileID, syscall.Errno) {
		if now() {
			return fileID{}, e
		}
		return real.stat(fd)
	}
	return k
}
