package guests

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// owned is what a process in mode "own" has.
type owned struct {
	cmd    *exec.Cmd
	helper int
	base   string // "" without cgroups
	pids   []int  // helper and guests
	pidfds []int
}

// ownMode keeps guests until its input ends, and says what they are.
func ownMode() error {
	s, err := Start(context.Background(), Options{Count: 20})
	if err != nil {
		return err
	}
	fmt.Println(s.helper.process.Pid)
	if s.base != nil {
		fmt.Println(s.base.dir)
	} else {
		fmt.Println("none")
	}
	for i := range s.Len() {
		fmt.Println(s.PID(i))
	}
	fmt.Println()
	_, _ = io.Copy(io.Discard, os.Stdin)
	return s.Close()
}

func startOwner(t *testing.T) owned {
	t.Helper()
	return startOwnerAs(t, rerun("own", 0))
}

func startOwnerAs(t *testing.T, cmd *exec.Cmd) owned {
	t.Helper()
	o := owned{cmd: cmd}
	lines := startMode(t, o.cmd)
	if len(lines) != 22 {
		t.Fatalf("%q", lines)
	}
	if o.base = lines[1]; o.base == "none" {
		o.base = ""
	}
	for n, line := range lines {
		if n == 1 {
			continue
		}
		pid, err := strconv.Atoi(line)
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		o.pidfds = append(o.pidfds, fd)
		o.pids = append(o.pids, pid)
	}
	o.helper = o.pidfds[0]
	return o
}

// checkGone waits until no process of o is left.
func (o owned) checkGone(t *testing.T) {
	t.Helper()
	for n, fd := range o.pidfds {
		if !readable(fd, patience) {
			t.Fatalf("process %d of helper and guests is left", n)
		}
	}
}

func TestOwnerIsKilled(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGTERM} {
		o := startOwner(t)
		if err := o.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		o.checkGone(t)
		if _, err := os.Stat(o.base); o.base != "" && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v: cgroup %s is left: %v", sig, o.base, err)
		}
	}
}

// Groups of the host would be rights in it.
func TestGuestHasNoGroups(t *testing.T) {
	needRoot(t)
	cmd := rerun("own", 0)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Groups: []uint32{4, 4242}}}
	o := startOwnerAs(t, cmd)
	for n, want := range []string{"\nGroups:\t4 4242 \n", "\nGroups:\t \n"} {
		if status := readFile(t, fmt.Sprintf("/proc/%d/status", o.pids[n])); !strings.Contains(status, want) {
			t.Errorf("process %d of helper and guests lacks %q:\n%s", n, want, status)
		}
	}
}

func TestHelperIgnoresSignals(t *testing.T) {
	s := startSet(t, Options{Count: 2})
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE} {
		if err := unix.Kill(s.helper.process.Pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Restart(0); err != nil {
		t.Error(err)
	}
	if sid, err := unix.Getsid(s.helper.process.Pid); err != nil || sid != s.helper.process.Pid {
		t.Errorf("session %d, want its own (%v)", sid, err)
	}
}

func TestOwnerAndHelperAreKilled(t *testing.T) {
	o := startOwner(t)
	if o.base == "" {
		t.Skip("no cgroups here")
	}
	sweep(filepath.Dir(o.base))
	if _, err := os.Stat(o.base); err != nil {
		t.Fatalf("a sweep removed what has an owner: %v", err)
	}
	// The helper first: otherwise it would clean up.
	if err := unix.PidfdSendSignal(o.helper, unix.SIGKILL, nil, 0); err != nil {
		t.Fatal(err)
	}
	o.checkGone(t)
	sweep(filepath.Dir(o.base))
	if _, err := os.Stat(o.base); err != nil {
		t.Fatalf("a sweep removed what has an owner: %v", err)
	}
	if err := o.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = o.cmd.Process.Wait()
	if _, err := os.Stat(o.base); err != nil {
		t.Fatalf("nobody was left to remove it: %v", err)
	}
	startSet(t, Options{Count: 1})
	if _, err := os.Stat(o.base); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("cgroup %s is left: %v", o.base, err)
	}
}

func TestSweepLeavesLockedBases(t *testing.T) {
	b, err := newBase()
	if err != nil {
		t.Skip(err)
	}
	other, err := newBase()
	if err != nil {
		t.Fatal(err)
	}
	if !isDir(b.file, b.dir) {
		t.Error("the second base removed the first")
	}
	// A helper holds the same open file description.
	held, err := unix.Dup(int(b.file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	b.file.Close()
	sweep(filepath.Dir(b.dir))
	if _, err := os.Stat(b.dir); err != nil {
		t.Errorf("a sweep removed a base that is held: %v", err)
	}
	if err := unix.Mkdir(b.guestDir(0), 0o755); err != nil {
		t.Fatal(err)
	}
	unix.Close(held)
	sweep(filepath.Dir(b.dir))
	if _, err := os.Stat(b.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a sweep left a base that nobody holds: %v", err)
	}
	if err := other.remove(); err != nil {
		t.Error(err)
	}
}

func TestHelperIsKilled(t *testing.T) {
	s := startSet(t, Options{Count: 3})
	v := newServer(t, 1)
	if err := s.SetSocket(v.path); err != nil {
		t.Fatal(err)
	}
	if err := s.Connect(0, 10); err != nil {
		t.Fatal(err)
	}
	receive(t, s, 2)
	if err := s.helper.process.Kill(); err != nil {
		t.Fatal(err)
	}
	canceled := 0
	eventually(t, ErrEnded.Error(), func() bool {
		err := s.Receive(func(c Conn) {
			canceled++
			if c.Err != unix.ECANCELED || c.Guest != 0 {
				t.Errorf("%+v", c)
			}
		})
		return errors.Is(err, ErrEnded)
	})
	if canceled != 8 {
		t.Errorf("%d connections canceled, want 8", canceled)
	}
	_, restart := s.Restart(1)
	for what, err := range map[string]error{"Connect": s.Connect(1, 1), "Stop": s.Stop(1), "Restart": restart} {
		if !errors.Is(err, ErrEnded) {
			t.Errorf("%s: %v, want %v", what, err, ErrEnded)
		}
	}
	if s.base == nil {
		return
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.base.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("cgroup is left: %v", err)
	}
}

// userMode has guests without root: connects, and says what the server sees.
func userMode() error {
	s, err := Start(context.Background(), Options{Count: 5})
	if err != nil {
		return err
	}
	defer s.Close()
	dir, err := os.MkdirTemp("", "guests")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fd, err := listen(filepath.Join(dir, "sock"), 16)
	if err != nil {
		return err
	}
	if err := s.SetSocket(filepath.Join(dir, "sock")); err != nil {
		return err
	}
	for i := range s.Len() {
		if err := s.Connect(i, 1); err != nil {
			return err
		}
		readable(s.FD(), patience)
		if err := s.Receive(func(c Conn) { fmt.Println("connect", int(c.Err)) }); err != nil {
			return err
		}
		peer, _, err := unix.Accept(fd)
		if err != nil {
			return err
		}
		cred, err := unix.GetsockoptUcred(peer, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return err
		}
		fmt.Println("peer", int(cred.Pid) == s.PID(i), cred.Uid, cred.Gid)
		for _, kind := range []string{"pid", "user"} {
			theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", s.PID(i), kind))
			if err != nil {
				return err
			}
			ours, err := os.Readlink("/proc/self/ns/" + kind)
			fmt.Println(kind, theirs != ours, err)
		}
	}
	pid, err := s.Restart(2)
	fmt.Println("restart", pid > 0, err)
	fmt.Println("note", strings.Join(s.Notes(), "; "))
	return s.Close()
}

func TestWithoutRoot(t *testing.T) {
	needRoot(t)
	out := runToEnd(t, rerun("user", 65534))
	for want, n := range map[string]int{
		"connect 0\n": 5, "peer true 65534 65534\n": 5, "pid true <nil>\n": 5, "user true <nil>\n": 5, "restart true <nil>\n": 1,
		"note guests have no cgroups of their own: mkdir ": 1,
	} {
		if strings.Count(out, want) != n {
			t.Errorf("%q is there %d times, want %d, in:\n%s", want, strings.Count(out, want), n, out)
		}
	}
}

// tightMode has more descriptors under way than the limit allows (unix(7), ETOOMANYREFS): guests have to wait.
func tightMode() error {
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 100, Max: 100}); err != nil {
		return err
	}
	s, err := Start(context.Background(), Options{Count: 8, NoCgroup: true, IDBase: 5000000})
	if err != nil {
		return err
	}
	defer s.Close()
	dir, err := os.MkdirTemp("", "guests")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	v := &server{path: filepath.Join(dir, "sock")}
	if v.fd, err = listen(v.path, 1000); err != nil {
		return err
	}
	if err := s.SetSocket(v.path); err != nil {
		return err
	}
	for i := range s.Len() {
		if err := s.Connect(i, 50); err != nil {
			return err
		}
	}
	for accepted := 0; accepted < 400; time.Sleep(time.Millisecond) {
		accepted += v.discard()
	}
	time.Sleep(50 * time.Millisecond) // for them to try to send all
	errs := map[unix.Errno]int{}
	for got := 0; got < 400 && readable(s.FD(), patience); {
		if err := s.Receive(func(c Conn) {
			got++
			errs[c.Err]++
			if c.FD >= 0 {
				unix.Close(c.FD)
			}
		}); err != nil {
			return err
		}
	}
	fmt.Println(errs)
	return s.Close()
}

func TestTooManyDescriptorsInFlight(t *testing.T) {
	needRoot(t)
	if out := runToEnd(t, rerun("tight", 0)); out != fmt.Sprintln(map[int]int{0: 400}) && out != "map[errno 0:400]\n" {
		t.Errorf("errors by connection: %s", out)
	}
}
