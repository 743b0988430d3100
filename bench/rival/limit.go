package rival

import (
	"errors"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	backlog   = 4096
	readSize  = 2 * maxHead
	replySize = 64 << 10 // of answers that are kept ready to be written at once
)

// limit is the Limit rival. Everything below the channels is owned by its loop, one locked thread; other goroutines pass it
// functions with do.
type limit struct {
	fixed
	tasks chan func()
	done  chan struct{} // closed when the loop has ended
	fail  chan error

	epoll, listener, wake int
	stopped               bool
	starved               bool // accept ran out of descriptors: clients wait in the backlog
	conns                 []limitConn
	buf                   []byte
	answerLen             int
	replies               []byte // the answer, over and over
	groups                map[string]*limitGroup
	containers            map[int32]string // by pid of the init
	file                  *exported
}

// limitConn is a connection, at the place of its descriptor.
type limitConn struct {
	pid    int32
	member int32 // place in the group
	open   bool
	writes bool // the kernel was asked when it can be written to, and not when it can be read
	group  *limitGroup
	work   *limitWork
}

// limitGroup has the subscribers of a container.
type limitGroup struct{ fds []int32 }

// limitWork is what a connection has only while it is behind: output that the kernel did not take, and input not looked at yet.
type limitWork struct {
	owed int    // bytes of answers
	head []byte // then this
	file *exported
	at   int64  // then the file from here
	in   []byte // then this is looked at
}

func startLimit(socket string) (server, error) {
	s := &limit{
		tasks: make(chan func(), 1), done: make(chan struct{}), fail: make(chan error, 1),
		epoll: -1, listener: -1, wake: -1,
		buf: make([]byte, readSize), groups: make(map[string]*limitGroup), containers: make(map[int32]string),
	}
	s.init()
	s.adoptAnswer()
	if err := s.open(socket); err != nil {
		return nil, errors.Join(err, s.release())
	}
	go s.run()
	return s, nil
}

func (s *limit) open(socket string) (err error) {
	if s.listener, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(s.listener, &unix.SockaddrUnix{Name: socket}); err != nil {
		return &os.PathError{Op: "bind", Path: socket, Err: err}
	}
	if err := os.Chmod(socket, socketMode); err != nil {
		return err
	}
	if err := unix.Listen(s.listener, backlog); err != nil {
		return os.NewSyscallError("listen", err)
	}
	if s.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return os.NewSyscallError("eventfd2", err)
	}
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if err := s.watch(unix.EPOLL_CTL_ADD, s.wake, unix.EPOLLIN); err != nil {
		return err
	}
	// Edge-triggered: a backlog that waits for descriptors must not wake the loop again and again.
	return s.watch(unix.EPOLL_CTL_ADD, s.listener, unix.EPOLLIN|unix.EPOLLET)
}

func (s *limit) watch(op, fd int, events uint32) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(s.epoll, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}))
}

// release closes everything. The loop does not run any more, or never did.
func (s *limit) release() error {
	for fd := range s.conns {
		if s.conns[fd].open {
			_ = unix.Close(fd)
		}
	}
	s.conns = nil
	for _, fd := range []int{s.listener, s.wake, s.epoll} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	if s.file != nil {
		return s.file.Close()
	}
	return nil
}

// run is the loop.
func (s *limit) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(s.done)
	var events [256]unix.EpollEvent
	for !s.stopped {
		n, err := unix.EpollWait(s.epoll, events[:], -1)
		if err != nil {
			if err == unix.EINTR {
				continue
			}
			s.fail <- os.NewSyscallError("epoll_wait", err)
			return
		}
		for i := range events[:n] {
			s.handle(&events[i])
		}
	}
}

// handle acts on what read and write return, not on the flags: the event may be of a connection that had this descriptor before.
func (s *limit) handle(ev *unix.EpollEvent) {
	switch fd := int(ev.Fd); {
	case fd == s.listener:
		s.accept()
	case fd == s.wake:
		s.woken()
	case !s.conns[fd].open:
	case s.conns[fd].writes:
		s.pump(fd)
	default:
		s.readable(fd)
	}
}

func (s *limit) woken() {
	var count [8]byte
	_, _ = unix.Read(s.wake, count[:])
	for {
		select {
		case f := <-s.tasks:
			f()
		default:
			return
		}
	}
}

// do has the loop call f and waits for it; false when the loop has ended.
func (s *limit) do(f func()) bool {
	ready := make(chan struct{})
	select {
	case s.tasks <- func() { f(); close(ready) }:
	case <-s.done:
		return false
	}
	_, _ = unix.Write(s.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	select {
	case <-ready:
		return true
	case <-s.done:
		return false
	}
}

func (s *limit) accept() {
	s.starved = false
	for {
		fd, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(s.listener), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		if errno != 0 {
			if retryable(errno) {
				continue
			}
			s.starved = errno != unix.EAGAIN
			return
		}
		s.adopt(int(fd))
	}
}

func (s *limit) adopt(fd int) {
	if fd >= len(s.conns) {
		s.conns = append(s.conns, make([]limitConn, fd+1-len(s.conns))...)
	}
	c := limitConn{open: true}
	if cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
		c.pid = cred.Pid
	}
	s.conns[fd] = c
	if s.watch(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN) != nil {
		s.drop(fd)
	}
}

// drop closes a connection.
func (s *limit) drop(fd int) {
	c := &s.conns[fd]
	if g := c.group; g != nil {
		last := g.fds[len(g.fds)-1]
		g.fds[c.member] = last
		s.conns[last].member = c.member
		g.fds = g.fds[:len(g.fds)-1]
	}
	if c.work != nil && c.work.file != nil {
		c.work.file.release()
	}
	*c = limitConn{}
	_ = unix.Close(fd)
	if s.starved {
		s.accept()
	}
}
