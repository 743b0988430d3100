package peer

import (
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Watcher calls back when processes exit: one epoll instance and one goroutine for any
// number of pidfds, and, where the kernel and the permissions allow it, a number of
// descriptors that does not grow with them ([WatchFiles], lot). It is safe for concurrent use.
//
// The files of the pidfds stay open as long as they are watched, so the pid and the pid
// namespace of such a process stay its own, also when it was reaped.
type Watcher struct {
	file *os.File // the epoll instance; the runtime's poller waits on it, no thread does
	raw  syscall.RawConn
	done chan struct{}

	mu      sync.Mutex
	closed  bool
	last    Watch
	pending int // watches whose exit was not seen
	watches map[Watch]*watch
	files   *lot
}

// Watch names a process that is watched by a [Watcher]. Zero names none.
type Watch uint64

type watch struct {
	exited func()
	due    bool // exited runs, or is about to
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
		watches: map[Watch]*watch{}, files: newLot(canPark(), keptOpen()),
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
// Close and should not block.
//
// Without an error the descriptor is the watcher's from now on, which closes it, and must
// not be used any more. Its file stays open until exited has returned, or Remove or
// Close was called; then it is closed at once or a while later. Errors: ErrWatcherClosed,
// ErrWatched, or that of epoll_ctl.
func (w *Watcher) Add(pidfd int, exited func()) (Watch, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return 0, ErrWatcherClosed
	}
	// The key, not the number of the descriptor, comes back with an event: when the
	// file is parked, the number is soon that of another.
	key := w.last + 1
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: int32(uint32(key)), Pad: int32(uint32(key >> 32))}
	if err := w.control(unix.EPOLL_CTL_ADD, pidfd, &ev); err != nil {
		if errors.Is(err, unix.EEXIST) {
			err = ErrWatched
		}
		return 0, err
	}
	w.last = key
	w.watches[key] = &watch{exited: exited}
	w.pending++
	w.files.put(uint64(key), pidfd)
	return key, nil
}

// Remove stops watching and tells whether it came in time: with true the callback has
// not been called and will not be; with false it was called or is about to be, or
// the watch is none of this watcher's.
func (w *Watcher) Remove(key Watch) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, ok := w.watches[key]
	if !ok || e.due {
		return false
	}
	w.pending--
	w.forget(key)
	return true
}

// Len returns how many processes are watched.
func (w *Watcher) Len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pending
}

// Close stops watching, closes all pidfds, and returns when no callback runs any more.
// Callbacks that were not due before it are never called. It must not be called from a
// callback; a second call does nothing.
func (w *Watcher) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		<-w.done
		return nil
	}
	w.closed, w.pending = true, 0
	for key, e := range w.watches {
		if !e.due {
			delete(w.watches, key)
		}
	}
	w.mu.Unlock()
	err := w.file.Close()
	<-w.done
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files.close()
	return err
}

// forget drops an entry and lets its file go, which ends its registration: an event of
// one that is closed only later has no entry any more. w.mu is held.
func (w *Watcher) forget(key Watch) {
	delete(w.watches, key)
	w.files.drop(uint64(key))
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
			key := Watch(uint32(ev.Fd)) | Watch(uint32(ev.Pad))<<32
			if exited := w.take(key); exited != nil {
				exited()
				w.finish(key)
			}
		}
	}
}

// take marks the entry of an event and returns its callback, nil when Remove or Close
// came before it.
func (w *Watcher) take(key Watch) func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, ok := w.watches[key]
	if !ok || e.due {
		return nil
	}
	e.due = true
	w.pending--
	return e.exited
}

// finish drops an entry whose callback has returned: until then what the callback ends may
// rely on the numbers that the file holds.
func (w *Watcher) finish(key Watch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forget(key)
}
