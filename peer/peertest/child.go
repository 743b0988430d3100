package peertest

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childEnv is set in the environment of a child.
const childEnv = "DEVLXD_PEERTEST_CHILD"

// controlFD is the child's end of the control socket.
const controlFD = 3

// A child keeps its main goroutine on the first thread, so that it can end it.
func init() {
	if os.Getenv(childEnv) != "" {
		runtime.LockOSThread()
	}
}

// Commands are what a test's own children can do besides, by name. They run in the
// child.
type Commands map[string]func(args []string) (string, error)

// Main runs the tests and exits, or is the child and never returns.
func Main(m *testing.M, commands ...Commands) {
	Child(commands...)
	os.Exit(m.Run())
}

// Child returns at once in a test process; in a child it does not return.
func Child(commands ...Commands) {
	if os.Getenv(childEnv) == "" {
		return
	}
	unix.CloseOnExec(controlFD)
	c := &child{
		ctl: control{controlFD}, conns: map[int]*conn{}, commands: Commands{},
		endLeader: make(chan struct{}),
	}
	for _, set := range commands {
		for name, run := range set {
			c.commands[name] = run
		}
	}
	go c.serve()
	<-c.endLeader
	_, _, _ = unix.Syscall(unix.SYS_EXIT, 0, 0, 0) // this thread alone
}

// child is the state of a child process, owned by serve.
type child struct {
	ctl       control
	conns     map[int]*conn
	last      int
	commands  Commands
	endLeader chan struct{}
}

type conn struct {
	fd int
	r  *bufio.Reader // of HTTP answers
}

// Read makes a conn an io.Reader. A test that waits for ever is worse than one that fails.
func (c *conn) Read(b []byte) (int, error) {
	for {
		p := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}
		ready, err := unix.Poll(p, int((10 * time.Second).Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if err == nil && ready == 0 {
			return 0, os.ErrDeadlineExceeded
		}
		n, err := unix.Read(c.fd, b)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

func (c *child) serve() {
	if err := c.ctl.send(answer{}, -1); err != nil {
		os.Exit(1)
	}
	for {
		var o order
		fd, _, err := c.ctl.recv(&o)
		if err != nil || o.Op == "exit" {
			os.Exit(0)
		}
		a, give, err := c.do(o, fd)
		if err != nil {
			a.Err = err.Error()
		}
		if err := c.ctl.send(a, give); err != nil {
			os.Exit(1)
		}
	}
}

// do obeys an order. The descriptor it returns is -1 or stays the child's.
func (c *child) do(o order, fd int) (a answer, give int, err error) {
	give = -1
	switch o.Op {
	case "connect":
		a.Num, err = c.connect(o.Text)
	case "give":
		a.Num = c.keep(fd)
	case "enter":
		err = enter(o.Text)
	case "try-enter":
		if err := enter(o.Text); err != nil {
			a.Text = err.Error()
		}
	case "setuid":
		err = setuid(o.Num)
	case "exec":
		err = execSelf(o.Args)
	case "spawn":
		err = spawn(*o.Spec, os.NewFile(uintptr(fd), "control"))
	case "leader-exit":
		err = c.leaderExit()
	case "call":
		run, ok := c.commands[o.Text]
		if !ok {
			return a, give, errors.New("unknown command " + o.Text)
		}
		a.Text, err = run(o.Args)
	default:
		return c.doConn(o)
	}
	return a, give, err
}

// doConn obeys an order about a connection.
func (c *child) doConn(o order) (a answer, give int, err error) {
	give = -1
	k, ok := c.conns[o.Conn]
	if !ok {
		return a, give, errors.New("no such connection")
	}
	switch o.Op {
	case "take":
		give = k.fd
	case "descriptor":
		a.Num = k.fd
	case "close":
		delete(c.conns, o.Conn)
		err = unix.Close(k.fd)
	case "write":
		err = writeAll(k.fd, o.Data)
	case "read":
		buf := make([]byte, 64<<10)
		n, rerr := k.r.Read(buf)
		if a.Data = buf[:n]; rerr != io.EOF {
			err = rerr
		}
	case "http":
		a.Status, a.Data, err = k.http(o.Data)
	default:
		err = errors.New("unknown order")
	}
	return a, give, err
}

func (c *child) keep(fd int) int {
	c.last++
	k := &conn{fd: fd}
	k.r = bufio.NewReader(k)
	c.conns[c.last] = k
	return c.last
}

func (c *child) connect(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return 0, os.NewSyscallError("connect", err)
	}
	return c.keep(fd), nil
}

// leaderExit returns when the first thread is a zombie.
func (c *child) leaderExit() error {
	close(c.endLeader)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		text, err := os.ReadFile("/proc/self/status")
		if err != nil {
			return err
		}
		if strings.Contains(string(text), "\nState:\tZ") {
			return nil
		}
	}
	return errors.New("the first thread does not end")
}

func (c *conn) http(request []byte) (status int, body []byte, err error) {
	if err := writeAll(c.fd, request); err != nil {
		return 0, nil, err
	}
	method, _, _ := strings.Cut(string(request), " ")
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, body, err
}

func writeAll(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("write", err)
		}
		data = data[n:]
	}
	return nil
}

// enter moves this process into a cgroup; "0" is whoever writes it (cgroups(7)).
func enter(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0)
}

func setuid(uid int) error {
	if err := syscall.Setgid(uid); err != nil {
		return os.NewSyscallError("setgid", err)
	}
	return os.NewSyscallError("setuid", syscall.Setuid(uid))
}

// execSelf starts this binary anew in the same process, with other arguments.
func execSelf(argv []string) error {
	if _, err := unix.FcntlInt(controlFD, unix.F_SETFD, 0); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	return os.NewSyscallError("execve", syscall.Exec("/proc/self/exe", argv, os.Environ()))
}

// spawn starts a child of this child and reaps it when it ends.
func spawn(s Spec, childEnd *os.File) error {
	defer childEnd.Close()
	cmd, err := command(s, childEnd)
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }()
	return nil
}
