package server

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// pollBatch is how many events are taken from the kernel at once.
const pollBatch = 256

// poller is an epoll instance and the tasks that other goroutines have for its
// loop. Only post may be called by anyone; the rest is owned by the loop.
type poller struct {
	epfd   int
	wakefd int // eventfd, edge-triggered: each write is one event, and nobody has to read it
	events [pollBatch]unix.EpollEvent

	mu     sync.Mutex
	closed bool
	woken  bool // the eventfd was written to since the tasks were taken last
	tasks  []func()
	spare  []func() // the other buffer of tasks
}

func newPoller() (p *poller, err error) {
	p = &poller{epfd: -1, wakefd: -1}
	if p.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if p.wakefd, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		_ = unix.Close(p.epfd)
		return nil, os.NewSyscallError("eventfd", err)
	}
	if err := p.control(unix.EPOLL_CTL_ADD, p.wakefd, unix.EPOLLIN|unix.EPOLLET); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// close frees the kernel objects; tasks that come later are dropped.
func (p *poller) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	_ = unix.Close(p.epfd)
	_ = unix.Close(p.wakefd)
}

// What a descriptor is watched for.
const (
	pollRead  uint32 = unix.EPOLLIN
	pollWrite uint32 = unix.EPOLLOUT
	pollNone  uint32 = unix.EPOLLET // errors and the end of the peer, which cannot be masked, are told once
)

func (p *poller) add(fd int, events uint32) error { return p.control(unix.EPOLL_CTL_ADD, fd, events) }
func (p *poller) modify(fd int, events uint32) error {
	return p.control(unix.EPOLL_CTL_MOD, fd, events)
}
func (p *poller) remove(fd int) error { return p.control(unix.EPOLL_CTL_DEL, fd, 0) }

func (p *poller) control(op, fd int, events uint32) error {
	return os.NewSyscallError("epoll_ctl", controlNow(p.epfd, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}))
}

// post gives the loop a task, from any goroutine. It reports false when the
// poller is closed.
func (p *poller) post(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.tasks = append(p.tasks, f)
	if !p.woken {
		p.woken = true
		one := [8]byte{1}
		_, _ = unix.Write(p.wakefd, one[:])
	}
	return true
}

// take returns the tasks posted so far. The slice is valid until the next call.
func (p *poller) take() []func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	tasks := p.tasks
	clear(p.spare)
	p.tasks, p.spare, p.woken = p.spare[:0], tasks, false
	return tasks
}

// wait returns the events that are there; with block it waits for the first.
func (p *poller) wait(block bool) ([]unix.EpollEvent, error) {
	for {
		var n int
		var err error
		if block {
			n, err = unix.EpollWait(p.epfd, p.events[:], -1)
		} else {
			n, err = pollNow(p.epfd, p.events[:])
		}
		if err == nil {
			return p.events[:n], nil
		}
		if err != unix.EINTR {
			return nil, os.NewSyscallError("epoll_wait", err)
		}
	}
}
