package sandbox

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// initMain is pid 1 of a container: it starts and kills processes as told, reaps
// everything that ends, and exits with the control socket, which ends the container.
func initMain() int {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	// A container is stopped through the socket; its own processes cannot end it. Signals
	// that are caught, unlike ignored ones, are as usual again in what is started here.
	signal.Notify(make(chan os.Signal, 1), unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE)
	unix.CloseOnExec(controlFD)
	ctl, err := newControl(os.NewFile(controlFD, "control"))
	if err != nil {
		return exitSetup
	}
	i := &initProcess{ctl: ctl, running: make(map[int]uint64)}
	go i.reap(ended)
	if err := ctl.send(message{Kind: msgReady}); err != nil {
		return exitSetup
	}
	if err := i.serve(); err != nil {
		return exitSetup
	}
	return 0
}

// initProcess keeps what pid 1 knows of its children.
type initProcess struct {
	ctl *control
	// mu is held from fork to registration and while a child is reaped or killed, so
	// that a pid in running always is that of its command.
	mu      sync.Mutex
	running map[int]uint64 // pid -> id of the command
}

// serve does what the caller says, until it goes.
func (i *initProcess) serve() error {
	for {
		m, files, err := i.ctl.recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch m.Kind {
		case msgExec:
			i.exec(m, files)
		case msgKill:
			i.kill(m.ID)
		default:
			err = errProtocol
		}
		closeFiles(files)
		if err != nil {
			return err
		}
	}
}

// exec starts a process with the three passed descriptors.
func (i *initProcess) exec(m message, files []*os.File) {
	err := errProtocol
	if m.Exec != nil && len(files) == 3 {
		err = i.fork(m.ID, m.Exec, files)
	}
	if err != nil {
		_ = i.ctl.send(message{Kind: msgExited, ID: m.ID, Text: err.Error()}) // serve sees a broken socket
	}
}

func (i *initProcess) fork(id uint64, e *execMsg, files []*os.File) error {
	path, err := lookPath(e.Path, e.Env)
	if err != nil {
		return err
	}
	attr := &syscall.ProcAttr{
		Dir: e.Dir, Env: e.Env, Sys: e.sys(),
		Files: []uintptr{files[0].Fd(), files[1].Fd(), files[2].Fd()},
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	pid, err := syscall.ForkExec(path, e.Args, attr)
	if err != nil {
		return &os.PathError{Op: "start", Path: path, Err: err}
	}
	i.running[pid] = id
	return nil
}

// sys returns the namespaces and the user of the process.
func (e *execMsg) sys() *syscall.SysProcAttr {
	sys := &syscall.SysProcAttr{Setsid: true}
	if e.PidNS {
		sys.Cloneflags |= unix.CLONE_NEWPID
	}
	switch {
	case e.UserNS:
		sys.Cloneflags |= unix.CLONE_NEWUSER
		sys.UidMappings = []syscall.SysProcIDMap{{HostID: int(e.UID), Size: 1}}
		sys.GidMappings = []syscall.SysProcIDMap{{HostID: int(e.GID), Size: 1}}
		sys.Credential = &syscall.Credential{NoSetGroups: true} // root in there
	case e.UID != 0 || e.GID != 0:
		sys.Credential = &syscall.Credential{Uid: e.UID, Gid: e.GID}
	}
	return sys
}

// kill ends a command that still runs.
func (i *initProcess) kill(id uint64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for pid, n := range i.running {
		if n == id {
			_ = unix.Kill(pid, unix.SIGKILL) // it may be a zombie already
		}
	}
}

// reap collects children as they end, orphans included.
func (i *initProcess) reap(ended <-chan os.Signal) {
	for range ended {
		for i.reapOne() {
		}
	}
}

func (i *initProcess) reapOne() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	var status unix.WaitStatus
	pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
	if err == unix.EINTR {
		return true
	}
	if err != nil || pid <= 0 {
		return false
	}
	if id, ok := i.running[pid]; ok {
		delete(i.running, pid)
		_ = i.ctl.send(message{Kind: msgExited, ID: id, Status: int(status)}) // serve sees a broken socket
	}
	return true
}
