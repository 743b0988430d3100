package peertest

import (
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Spec says how a child is started. The zero value is a plain process of the host.
type Spec struct {
	Cgroup  *Cgroup  `json:"-"`       // nil: the parent's
	RootUID int      `json:"rootUID"` // > 0: in a new user namespace whose ids 0 to 65535 are the host's from here on
	PidNS   bool     `json:"pidNS"`   // in a new pid namespace, as its init
	MountNS bool     `json:"mountNS"` // in a new mount namespace
	Argv    []string `json:"argv"`    // nil: "peertest"
}

// Container is what an unprivileged container is: own cgroup, delegated, and own user, pid
// and mount namespaces.
func Container(t testing.TB, rootUID int) Spec {
	t.Helper()
	c := NewCgroup(t)
	c.Delegate(rootUID)
	return Spec{Cgroup: c, RootUID: rootUID, PidNS: true, MountNS: true}
}

// Proc is a child process.
type Proc struct {
	PID  int // in the test's pid namespace
	Spec Spec
	t    testing.TB
	ctl  control
	cmd  *exec.Cmd // nil: it is another child's child
}

// Conn is a connection that a child holds.
type Conn struct {
	p  *Proc
	id int
}

// Start starts a child. It ends with the test.
func Start(t testing.TB, s Spec) *Proc {
	t.Helper()
	p, err := start(t, s)
	if err != nil {
		t.Fatalf("cannot start a process: %v", err)
	}
	return p
}

// StartAt starts a child that gets a given pid, which must be free. Where other
// processes of the machine take it again and again, the test is skipped.
func StartAt(t testing.TB, s Spec, pid int) *Proc {
	t.Helper()
	for range 500 {
		if err := os.WriteFile(lastPidFile, []byte(strconv.Itoa(pid-1)), 0); err != nil {
			t.Fatalf("cannot choose the next pid: %v", err)
		}
		p, err := start(t, s)
		if err != nil {
			t.Fatalf("cannot start a process: %v", err)
		}
		if p.PID == pid {
			return p
		}
		p.Kill()
	}
	t.Skipf("needs pid %d: other processes on this machine take it", pid)
	return nil
}

func start(t testing.TB, s Spec) (*Proc, error) {
	t.Helper()
	ctl, childEnd, err := pair()
	if err != nil {
		return nil, err
	}
	p := &Proc{Spec: s, t: t, ctl: ctl}
	t.Cleanup(func() { unix.Close(ctl.fd) })
	cmd, err := command(s, childEnd)
	if err == nil {
		err = cmd.Start()
	}
	childEnd.Close()
	if cmd != nil && cmd.SysProcAttr.UseCgroupFD {
		unix.Close(cmd.SysProcAttr.CgroupFD)
	}
	if err != nil {
		return nil, err
	}
	p.cmd = cmd
	t.Cleanup(p.Kill)
	return p, p.hello()
}

// command prepares the test binary as a child with its control socket as descriptor 3.
func command(s Spec, childEnd *os.File) (*exec.Cmd, error) {
	argv := s.Argv
	if argv == nil {
		argv = []string{"peertest"}
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = argv
	cmd.Env = append(os.Environ(), childEnv+"=1", "GOMAXPROCS=2")
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{childEnd}
	attr := &syscall.SysProcAttr{}
	cmd.SysProcAttr = attr
	if s.PidNS {
		attr.Cloneflags |= unix.CLONE_NEWPID
	}
	if s.MountNS {
		attr.Cloneflags |= unix.CLONE_NEWNS
	}
	if s.RootUID > 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: s.RootUID, Size: 65536}}
		attr.UidMappings, attr.GidMappings = ids, ids
		attr.GidMappingsEnableSetgroups = true
		attr.Credential = &syscall.Credential{}
	}
	if s.Cgroup != nil {
		fd, err := unix.Open(s.Cgroup.Dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: s.Cgroup.Dir, Err: err}
		}
		attr.UseCgroupFD, attr.CgroupFD = true, fd
	}
	return cmd, nil
}

// hello waits for the child's first packet, which tells its pid.
func (p *Proc) hello() error {
	var a answer
	_, pid, err := p.ctl.recv(&a)
	p.PID = pid
	return err
}

// ask gives an order, with a descriptor or -1, and returns the answer.
func (p *Proc) ask(o order, fd int) (answer, int) {
	p.t.Helper()
	if err := p.ctl.send(o, fd); err != nil {
		p.t.Fatalf("child %d: %s: %v", p.PID, o.Op, err)
	}
	var a answer
	got, _, err := p.ctl.recv(&a)
	if err != nil {
		p.t.Fatalf("child %d: %s: %v", p.PID, o.Op, err)
	}
	if a.Err != "" {
		p.t.Fatalf("child %d: %s: %s", p.PID, o.Op, a.Err)
	}
	return a, got
}

// Connect connects the child to a stream socket and keeps the connection.
func (p *Proc) Connect(path string) Conn {
	p.t.Helper()
	a, _ := p.ask(order{Op: "connect", Text: path}, -1)
	return Conn{p, a.Num}
}

// Give passes the child a connection; fd stays open.
func (p *Proc) Give(fd int) Conn {
	p.t.Helper()
	a, _ := p.ask(order{Op: "give"}, fd)
	return Conn{p, a.Num}
}

// Descriptor returns the number of the connection's descriptor in the child, for a
// command of the test's own.
func (c Conn) Descriptor() int {
	c.p.t.Helper()
	a, _ := c.p.ask(order{Op: "descriptor", Conn: c.id}, -1)
	return a.Num
}

// Pass gives another child the connection, which this one keeps too; the test process
// does not.
func (c Conn) Pass(to *Proc) Conn {
	c.p.t.Helper()
	_, fd := c.p.ask(order{Op: "take", Conn: c.id}, -1)
	if fd < 0 {
		c.p.t.Fatalf("child %d: no descriptor came", c.p.PID)
	}
	defer unix.Close(fd)
	return to.Give(fd)
}

// Close closes the child's connection.
func (c Conn) Close() {
	c.p.t.Helper()
	c.p.ask(order{Op: "close", Conn: c.id}, -1)
}

// Write makes the child write, at most 64 KiB at a time.
func (c Conn) Write(data []byte) {
	c.p.t.Helper()
	c.p.ask(order{Op: "write", Conn: c.id, Data: data}, -1)
}

// Read makes the child read once, at most 64 KiB, and returns what came; nothing at
// the end of the stream.
func (c Conn) Read() []byte {
	c.p.t.Helper()
	a, _ := c.p.ask(order{Op: "read", Conn: c.id}, -1)
	return a.Data
}

// HTTP makes the child send a request as it is and returns the status and the body, at
// most 64 KiB, of the answer.
func (c Conn) HTTP(request string) (status int, body string) {
	c.p.t.Helper()
	a, _ := c.p.ask(order{Op: "http", Conn: c.id, Data: []byte(request)}, -1)
	return a.Status, string(a.Data)
}

// Exec makes the child replace itself by a fresh child with other arguments. Its
// connections are closed by that.
func (p *Proc) Exec(argv ...string) {
	p.t.Helper()
	if err := p.ctl.send(order{Op: "exec", Args: argv}, -1); err != nil {
		p.t.Fatalf("child %d: exec: %v", p.PID, err)
	}
	if err := p.hello(); err != nil {
		p.t.Fatalf("child %d: exec: %v", p.PID, err)
	}
}

// Enter makes the child create a cgroup directory, where it does not exist, and move
// itself there.
func (p *Proc) Enter(dir string) {
	p.t.Helper()
	p.ask(order{Op: "enter", Text: dir}, -1)
}

// TryEnter is Enter that returns the child's error instead of failing.
func (p *Proc) TryEnter(dir string) (problem string) {
	p.t.Helper()
	a, _ := p.ask(order{Op: "try-enter", Text: dir}, -1)
	return a.Text
}

// Setuid makes the child another user of its user namespace.
func (p *Proc) Setuid(uid int) {
	p.t.Helper()
	p.ask(order{Op: "setuid", Num: uid}, -1)
}

// LeaderExit ends the first thread of the child; the others go on.
func (p *Proc) LeaderExit() {
	p.t.Helper()
	p.ask(order{Op: "leader-exit"}, -1)
}

// Spawn makes the child start a child of its own. Cgroup must be nil.
func (p *Proc) Spawn(s Spec) *Proc {
	p.t.Helper()
	ctl, childEnd, err := pair()
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { unix.Close(ctl.fd) })
	p.ask(order{Op: "spawn", Spec: &s}, int(childEnd.Fd()))
	childEnd.Close()
	n := &Proc{Spec: s, t: p.t, ctl: ctl}
	if err := n.hello(); err != nil {
		p.t.Fatalf("child %d: spawn: %v", p.PID, err)
	}
	return n
}

// Call runs a command that the test gave to Main or Child.
func (p *Proc) Call(name string, args ...string) string {
	p.t.Helper()
	a, _ := p.ask(order{Op: "call", Text: name, Args: args}, -1)
	return a.Text
}

// Exit makes the child exit, and returns when it has. A child of the test is a zombie
// until Reap; a child's child is reaped by its parent before this returns.
func (p *Proc) Exit() {
	p.t.Helper()
	if err := p.ctl.send(order{Op: "exit"}, -1); err != nil {
		p.t.Fatalf("child %d: exit: %v", p.PID, err)
	}
	var a answer
	if _, _, err := p.ctl.recv(&a); err != io.EOF {
		p.t.Fatalf("child %d: exit: got %v, want the end of the socket", p.PID, err)
	}
	for {
		var err error
		if p.cmd != nil {
			err = unix.Waitid(unix.P_PID, p.PID, nil, unix.WEXITED|unix.WNOWAIT, nil)
		} else if unix.Kill(p.PID, 0) == nil {
			err = unix.EINTR
		}
		if err == nil {
			return
		}
		if err != unix.EINTR {
			p.t.Fatalf("child %d: waitid: %v", p.PID, err)
		}
	}
}

// Reap waits for the exited child, after which its pid is free.
func (p *Proc) Reap() {
	p.t.Helper()
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Wait() // how it ended does not matter
	p.cmd = nil
}

// Kill ends the child and reaps it. It may be called more than once.
func (p *Proc) Kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.cmd = nil
}
