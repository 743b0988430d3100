package peertest

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	Main(m, Commands{
		"getuid": func([]string) (string, error) { return fmt.Sprint(os.Getuid(), os.Getpid()), nil },
		"args":   func([]string) (string, error) { return strings.Join(os.Args, "|"), nil },
		"fail":   func(args []string) (string, error) { return "", errors.New(strings.Join(args, " ")) },
	})
}

func status(t *testing.T, pid int, field string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.Join(strings.Fields(value), " ")
		}
	}
	return ""
}

func TestContainer(t *testing.T) {
	Need(t, Root, Cgroup2, UserNS)
	p := Start(t, Container(t, 100000))
	if got := status(t, p.PID, "Uid"); got != "100000 100000 100000 100000" {
		t.Errorf("Uid = %s", got)
	}
	if got := p.Call("getuid"); got != "0 1" {
		t.Errorf("uid and pid inside = %s; want 0 1", got)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.PID))
	if err != nil || !strings.Contains(string(text), "0::"+p.Spec.Cgroup.Path+"\n") {
		t.Errorf("cgroup = %s, %v", text, err)
	}
	p.Enter(filepath.Join(p.Spec.Cgroup.Dir, "leaf"))
	if problem := p.TryEnter(filepath.Dir(p.Spec.Cgroup.Dir)); problem == "" {
		t.Error("an unprivileged container left its cgroup")
	}
	nested := p.Spawn(Spec{PidNS: true})
	if got := strings.Fields(status(t, nested.PID, "NSpid")); len(got) != 3 || got[2] != "1" {
		t.Errorf("NSpid of a nested one = %v", got)
	}
	nested.Setuid(1000)
	if got := status(t, nested.PID, "Uid"); got != "101000 101000 101000 101000" {
		t.Errorf("Uid after setuid = %s", got)
	}
}

func TestConn(t *testing.T) {
	l := Listen(t)
	a, b := Start(t, Spec{}), Start(t, Spec{})
	conn := a.Connect(l.Path)
	fd := l.Accept()
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		t.Fatal(err)
	}
	given := conn.Pass(b)
	conn.Close()
	given.Write([]byte("from b"))
	buf := make([]byte, 100)
	if n, err := unix.Read(fd, buf); err != nil || string(buf[:n]) != "from b" {
		t.Errorf("read %q, %v", buf[:n], err)
	}
	if _, err := unix.Write(fd, []byte("to b")); err != nil {
		t.Fatal(err)
	}
	if got := given.Read(); string(got) != "to b" {
		t.Errorf("b read %q", got)
	}
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || int(cred.Pid) != a.PID {
		t.Errorf("the peer is %v, %v; want %d", cred, err, a.PID)
	}
	given.Close()
	if n, err := unix.Read(fd, buf); n != 0 || err != nil {
		t.Errorf("after close: %d, %v; want the end", n, err)
	}
}

func TestHTTP(t *testing.T) {
	l := Listen(t)
	conn := Start(t, Spec{}).Connect(l.Path)
	f := os.NewFile(uintptr(dup(t, l.Accept())), "conn")
	defer f.Close()
	go func() {
		r := bufio.NewReader(f)
		for range 2 {
			req, err := http.ReadRequest(r)
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprintf(f, "HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%s", len(req.URL.Path), req.URL.Path)
		}
	}()
	for _, path := range []string{"/1.0", "/1.0/config"} {
		status, body := conn.HTTP("GET " + path + " HTTP/1.1\r\nHost: lxd\r\n\r\n")
		if status != 404 || body != path {
			t.Errorf("answer %d %q", status, body)
		}
	}
}

func dup(t *testing.T, fd int) int {
	t.Helper()
	n, err := unix.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestExec(t *testing.T) {
	p := Start(t, Spec{Argv: []string{"first"}})
	pid := p.PID
	const forged = "[lxc monitor] /var/lib/lxc victim"
	for _, argv := range []string{"first", forged} {
		if argv == forged {
			p.Exec(forged)
		}
		if got := p.Call("args"); got != argv || p.PID != pid {
			t.Errorf("arguments %q of %d; want %q of %d", got, p.PID, argv, pid)
		}
	}
}

func TestExit(t *testing.T) {
	p := Start(t, Spec{})
	p.Exit()
	if got := status(t, p.PID, "State"); got != "Z (zombie)" {
		t.Errorf("state after Exit = %s", got)
	}
	p.Reap()
	if err := unix.Kill(p.PID, 0); err != unix.ESRCH {
		t.Errorf("after Reap: %v; want ESRCH", err)
	}
	p.Reap()
	p.Kill()
	parent := Start(t, Spec{})
	child := parent.Spawn(Spec{})
	child.Exit()
	if err := unix.Kill(child.PID, 0); err != unix.ESRCH {
		t.Errorf("child's child after Exit: %v; want ESRCH", err)
	}
}

func TestLeaderExit(t *testing.T) {
	p := Start(t, Spec{})
	p.LeaderExit()
	if got := status(t, p.PID, "State"); got != "Z (zombie)" {
		t.Errorf("state = %s", got)
	}
	if got := p.Call("getuid"); !strings.HasSuffix(got, fmt.Sprint(" ", p.PID)) {
		t.Errorf("the other threads say %s", got)
	}
}

func TestStartAt(t *testing.T) {
	Need(t, Root, LastPid)
	first := Start(t, Spec{})
	first.Kill()
	if p := StartAt(t, Spec{}, first.PID); p.PID != first.PID {
		t.Errorf("pid %d; want %d", p.PID, first.PID)
	}
}

// TestCleanup: what a test has started is gone when it ends.
func TestCleanup(t *testing.T) {
	Need(t, Root, Cgroup2, UserNS)
	var pids []int
	var dir, sock string
	t.Run("inner", func(t *testing.T) {
		l := Listen(t)
		p := Start(t, Container(t, 100000))
		p.Enter(filepath.Join(p.Spec.Cgroup.Dir, "a"))
		child := p.Spawn(Spec{PidNS: true})
		child.Enter(filepath.Join(p.Spec.Cgroup.Dir, "a", "b"))
		host := Start(t, Spec{})
		orphan := host.Spawn(Spec{})
		orphan.Connect(l.Path)
		host.Kill()
		pids = []int{p.PID, child.PID, host.PID}
		dir, sock = p.Spec.Cgroup.Dir, l.Path
	})
	for _, pid := range pids {
		if err := unix.Kill(pid, 0); err != unix.ESRCH {
			t.Errorf("process %d: %v; want ESRCH", pid, err)
		}
	}
	for _, path := range []string{dir, sock} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
}

// TestSweep: the cgroup of a test process that was killed is removed by the next one.
func TestSweep(t *testing.T) {
	Need(t, Root, Cgroup2)
	dead := Start(t, Spec{})
	dead.Kill()
	left := filepath.Join(cgroup2Mount(), fmt.Sprint(cgroupPrefix, dead.PID, "-1"))
	if err := os.MkdirAll(filepath.Join(left, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = RemoveCgroup(left) })
	own := NewCgroup(t)
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left: %v", left, err)
	}
	NewCgroup(t)
	if _, err := os.Stat(own.Dir); err != nil {
		t.Errorf("a living test's cgroup was swept: %v", err)
	}
}

// TestNeed: what is missing is told by name.
func TestNeed(t *testing.T) {
	for _, n := range []Requirement{Root, Cgroup2, UserNS, LastPid} {
		if why := n.missing(); why != "" && !strings.HasPrefix(why, "needs ") {
			t.Errorf("requirement %d: %q", n, why)
		}
	}
	Need(t, Root)
	p := Start(t, Spec{})
	p.Setuid(65534)
	p.Exec("nobody")
	if got := p.Call("getuid"); !strings.HasPrefix(got, "65534 ") {
		t.Fatalf("uid = %s", got)
	}
}
