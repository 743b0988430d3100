package guests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAttach(t *testing.T) {
	needRoot(t)
	containers := startSet(t, Options{Count: 2})
	inits := []int{containers.PID(0), containers.PID(1), containers.PID(0)}
	s := startSet(t, Options{Attach: inits})
	if s.Len() != 3 || s.base != nil {
		t.Errorf("%d guests, base %v", s.Len(), s.base)
	}
	v := newServer(t, 16)
	if err := s.SetSocket(v.path); err != nil {
		t.Fatal(err)
	}
	for i, of := range []int{0, 1, 0} {
		checkAttached(t, s, i, inits[i])
		if s.Init(i) != inits[i] || containers.Init(of) != inits[i] {
			t.Errorf("guest %d: init %d, the container's own %d; want %d", i, s.Init(i), containers.Init(of), inits[i])
		}
		if s.CgroupID(i) != containers.CgroupID(of) || s.Cgroup(i) != containers.Cgroup(of) {
			t.Errorf("guest %d is in %s, want %s", i, s.Cgroup(i), containers.Cgroup(of))
		}
		if err := s.Connect(i, 1); err != nil {
			t.Fatal(err)
		}
		if c := receive(t, s, 1)[0]; c.Err != 0 {
			t.Fatalf("%+v", c)
		}
		fd := v.accept()
		cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil || int(cred.Pid) != s.PID(i) || cred.Uid != defaultIDBase || cred.Gid != defaultIDBase {
			t.Errorf("guest %d: peer %+v, want pid %d and the container's root (%v)", i, cred, s.PID(i), err)
		}
		if pid, cgroup, ok := peerCgroup(t, fd); ok && containers.base != nil && (pid != s.PID(i) || cgroup != containers.CgroupID(of)) {
			t.Errorf("guest %d: the peer's pidfd has pid %d cgroup %d", i, pid, cgroup)
		}
	}
	checkEndsOfAttached(t, s, containers)
}

// checkAttached compares a guest with the container whose init it was started for.
func checkAttached(t *testing.T, s *Set, i, init int) {
	t.Helper()
	pid := s.PID(i)
	for _, kind := range []string{"pid", "user"} {
		if nsID(t, pid, kind) != nsID(t, init, kind) {
			t.Errorf("guest %d is not in the container's %s namespace", i, kind)
		}
	}
	for _, kind := range []string{"net", "mnt"} {
		if nsID(t, pid, kind) != nsID(t, os.Getpid(), kind) {
			t.Errorf("guest %d is not in the host's %s namespace", i, kind)
		}
	}
	status := readFile(t, fmt.Sprintf("/proc/%d/status", pid))
	if want := fmt.Sprintf("\nPPid:\t%d\n", init); !strings.Contains(status, want) {
		t.Errorf("guest %d is no child of init %d:\n%s", i, init, status)
	}
}

// checkEndsOfAttached stops a guest, starts it again, ends its container, and closes the set.
func checkEndsOfAttached(t *testing.T, s, containers *Set) {
	t.Helper()
	init, pid := containers.PID(0), s.PID(0)
	if err := s.Stop(0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "init collects the guest", func() bool { return unix.Kill(pid, 0) == unix.ESRCH })
	if again, err := s.Restart(0); err != nil || again == pid || again == 0 {
		t.Fatalf("restart: pid %d after %d, %v", again, pid, err)
	}
	checkAttached(t, s, 0, init)
	if err := containers.Stop(0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "guests end with their container", func() bool { return s.PID(0) == 0 && s.PID(2) == 0 })
	if s.PID(1) == 0 {
		t.Error("a guest of the other container has ended too")
	}
	if _, err := s.Restart(0); !errors.Is(err, ErrAttach) || !errors.Is(err, errGone) {
		t.Errorf("%v, want %v", err, errGone)
	}
	last := s.PID(1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no guest is left", func() bool { return unix.Kill(last, 0) == unix.ESRCH })
	if containers.PID(1) == 0 {
		t.Error("the container has ended with its guest")
	}
}

// Nothing kills an attached guest when the helper is killed: it has to see for itself that it is of no use any more.
func TestAttachedGuestOutlivesNobody(t *testing.T) {
	needRoot(t)
	containers := startSet(t, Options{Count: 1})
	s := startSet(t, Options{Attach: []int{containers.PID(0)}})
	pidfd, err := unix.PidfdOpen(s.PID(0), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	if err := s.helper.process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-s.helper.exited
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	waitReadable(t, pidfd)
}

// A privileged container has the host's user namespace.
func TestAttachToPrivileged(t *testing.T) {
	needRoot(t)
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	s := startSet(t, Options{Attach: []int{cmd.Process.Pid}})
	checkAttached(t, s, 0, cmd.Process.Pid)
	v := newServer(t, 16)
	if err := errors.Join(s.SetSocket(v.path), s.Connect(0, 1)); err != nil {
		t.Fatal(err)
	}
	if c := receive(t, s, 1)[0]; c.Err != 0 {
		t.Fatalf("%+v", c)
	}
	cred, err := unix.GetsockoptUcred(v.accept(), unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || int(cred.Pid) != s.PID(0) || cred.Uid != 0 {
		t.Errorf("peer %+v, want pid %d and root (%v)", cred, s.PID(0), err)
	}
}

func TestAttachToNothing(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	_, err := Start(context.Background(), Options{Attach: []int{cmd.Process.Pid}})
	if !errors.Is(err, ErrAttach) || !errors.Is(err, errGone) {
		t.Errorf("%v, want %v", err, errGone)
	}
}
