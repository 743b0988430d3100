package peer

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Watcher calls back when processes exit: one epoll instance and one goroutine for any
// number of pidfds. It is safe for concurrent use.
type Watcher struct {
	file *os.File // the epoll instance; the runtime's poller waits on it, no thread does
	raw  syscall.RawConn
	done chan struct{}

	mu     sync.Mutex
	closed bool
	next   uint64
	byFD   map[int]uint64
	byKey  map[uint64]watch
}

type watch struct {
	pidfd  int
	exited func()
}

// NewWatcher starts a watcher. Close ends it.
func NewWatcher() (*Watcher, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// A non-blocking descriptor is what makes os.NewFile hand it to the poller.
	if err := unix.SetNonblock(epfd, true); err != nil {
		unix.Close(epfd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	w := &Watcher{
		file: os.NewFile(uintptr(epfd), "epoll"), done: make(chan struct{}),
		byFD: map[int]uint64{}, byKey: map[uint64]watch{},
	}
	if w.raw, err = w.file.SyscallConn(); err != nil {
		w.file.Close()
		return nil, err
	}
	go w.run()
	return w, nil
}

// Add calls exited, once and from the watcher's goroutine, when the process of pidfd has
// exited; at once when it has already. exited may call Add and Remove, must not call
// Close and should not block. The pidfd stays the caller's and must not be closed
// before exited was called or Remove has returned. Errors: ErrWatcherClosed,
// ErrWatched, or that of epoll_ctl.
func (w *Watcher) Add(pidfd int, exited func()) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return ErrWatcherClosed
	}
	if _, ok := w.byFD[pidfd]; ok {
		return ErrWatched
	}
	// The key, not the number of the descriptor, comes back with an event: a number
	// can be that of another process by then.
	w.next++
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: int32(uint32(w.next)), Pad: int32(uint32(w.next >> 32))}
	if err := w.control(unix.EPOLL_CTL_ADD, pidfd, &ev); err != nil {
		return err
	}
	w.byFD[pidfd] = w.next
	w.byKey[w.next] = watch{pidfd: pidfd, exited: exited}
	return nil
}

// Remove stops watching and tells whether it came in time: with true the callback has
// not been called and will not be; with false it was called or is about to be, or the
// pidfd was never added.
func (w *Watcher) Remove(pidfd int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	key, ok := w.byFD[pidfd]
	if ok {
		w.forget(key, pidfd)
	}
	return ok
}

// Len returns how many processes are watched.
func (w *Watcher) Len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.byFD)
}

// Close stops watching and returns when no callback runs any more. Callbacks that
// were not due before it are never called. It must not be called from a callback;
// a second call does nothing.
func (w *Watcher) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		<-w.done
		return nil
	}
	w.closed = true
	clear(w.byFD)
	clear(w.byKey)
	w.mu.Unlock()
	err := w.file.Close()
	<-w.done
	return err
}

// forget drops an entry. w.mu is held.
func (w *Watcher) forget(key uint64, pidfd int) {
	delete(w.byFD, pidfd)
	delete(w.byKey, key)
	// The entry of a descriptor that was closed too early is gone by itself.
	_ = w.control(unix.EPOLL_CTL_DEL, pidfd, &unix.EpollEvent{})
}

// control is epoll_ctl on an instance that cannot be closed meanwhile.
func (w *Watcher) control(op, pidfd int, ev *unix.EpollEvent) error {
	var err error
	if cerr := w.raw.Control(func(epfd uintptr) { err = unix.EpollCtl(int(epfd), op, pidfd, ev) }); cerr != nil {
		return cerr
	}
	return os.NewSyscallError("epoll_ctl", err)
}

// run waits for exits and calls back, until Close.
func (w *Watcher) run() {
	defer close(w.done)
	var events [64]unix.EpollEvent
	for {
		n := 0
		err := w.raw.Read(func(epfd uintptr) bool {
			err := error(unix.EINTR)
			for err == unix.EINTR {
				n, err = unix.EpollWait(int(epfd), events[:], 0)
			}
			return n != 0 // 0: wait until the instance is ready
		})
		if err != nil || n < 0 {
			return
		}
		for _, ev := range events[:n] {
			if exited := w.take(uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32); exited != nil {
				exited()
			}
		}
	}
}

// take removes the entry of an event and returns its callback, nil when Remove or Close
// came before it.
func (w *Watcher) take(key uint64) func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, ok := w.byKey[key]
	if !ok {
		return nil
	}
	w.forget(key, e.pidfd)
	return e.exited
}
