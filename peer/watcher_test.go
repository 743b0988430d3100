package peer

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"devlxd/peer/peertest"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func newWatcher(t testing.TB) *Watcher {
	t.Helper()
	w, err := NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// waitFor fails the test when nothing comes.
func waitFor[T any](t interface{ Fatal(...any) }, c <-chan T) T {
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("the callback was not called")
		panic("unreachable")
	}
}

// eventfd stands for a pidfd where no process is needed: it becomes readable.
func eventfd(t interface{ Fatal(...any) }) int {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// copyOf is a second descriptor: the watcher takes one over, the test fires by the other.
func copyOf(t interface{ Fatal(...any) }, fd int) int {
	n, err := dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func mustAdd(t interface{ Fatal(...any) }, w *Watcher, fd int, exited func()) Watch {
	watch, err := w.Add(fd, exited)
	if err != nil {
		t.Fatal(err)
	}
	return watch
}

func fire(t interface{ Fatal(...any) }, fd int) {
	if _, err := unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
}

func TestWatcherProcesses(t *testing.T) {
	w := newWatcher(t)
	exits := make(chan int, 8)
	var watches []Watch
	var procs []*peertest.Proc
	open := func(n int) int {
		pidfd, err := unix.PidfdOpen(procs[n].PID, 0)
		if err != nil {
			t.Fatal(err)
		}
		return pidfd
	}
	for n := range 4 {
		procs = append(procs, peertest.Start(t, peertest.Spec{}))
		watches = append(watches, mustAdd(t, w, open(n), func() { exits <- n }))
	}
	exited := open(1)
	if !w.Remove(watches[2]) || w.Remove(watches[2]) {
		t.Error("Remove is not true once")
	}
	for _, n := range []int{2, 1, 3} {
		procs[n].Kill()
		if n == 2 {
			continue // nobody is told
		}
		if got := waitFor(t, exits); got != n {
			t.Errorf("told of %d; want %d", got, n)
		}
		if w.Remove(watches[n]) {
			t.Errorf("Remove of %d came in time after the exit", n)
		}
	}
	if w.Len() != 1 {
		t.Errorf("%d are watched; want 1", w.Len())
	}
	mustAdd(t, w, exited, func() { exits <- 100 })
	if got := waitFor(t, exits); got != 100 {
		t.Errorf("told of %d; want that the process had exited already", got)
	}
}

// TestWatcherParked: exits of processes whose pidfds have no descriptor are told, and Remove of one is in time.
func TestWatcherParked(t *testing.T) {
	needParking(t)
	w := newParkingWatcher(t)
	before := openFDs(t)
	const procs = 4
	exits := make(chan int, procs)
	var running []*peertest.Proc
	var watches []Watch
	for n := range procs {
		p := peertest.Start(t, peertest.Spec{})
		pidfd, err := unix.PidfdOpen(p.PID, 0)
		if err != nil {
			t.Fatal(err)
		}
		running, watches = append(running, p), append(watches, mustAdd(t, w, pidfd, func() { exits <- n }))
	}
	started := openFDs(t) - before - procs // what peertest holds of its children
	var others []Watch
	for _, pidfd := range selfPidfds(t, 10*parkBatch-procs) {
		others = append(others, mustAdd(t, w, pidfd, func() { t.Error("the test itself has not exited") }))
	}
	if open := openFDs(t) - before - started; open != 2 {
		t.Errorf("%d descriptors for %d processes; want those of one pair of sockets", open, w.Len())
	}
	running[0].Kill()
	if got := waitFor(t, exits); got != 0 {
		t.Errorf("told of %d; want 0", got)
	}
	if !w.Remove(watches[1]) {
		t.Error("Remove did not come in time")
	}
	running[1].Kill()
	for _, watch := range others[:len(others)-10] { // and by that most batches are taken back
		if !w.Remove(watch) {
			t.Error("Remove of one that is parked did not come in time")
		}
	}
	for n := 2; n < procs; n++ {
		running[n].Kill()
		if got := waitFor(t, exits); got != n {
			t.Errorf("told of %d; want %d", got, n)
		}
	}
	if w.Len() != 10 {
		t.Errorf("%d are watched; want 10", w.Len())
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if open := openFDs(t) - before - started; open >= 0 {
		t.Errorf("%d more descriptors than before after Close; want fewer, the watcher's own are closed too", open)
	}
}

func TestWatcherErrors(t *testing.T) {
	w := newWatcher(t)
	fd := eventfd(t)
	watch := mustAdd(t, w, fd, func() {})
	if _, err := w.Add(fd, func() {}); !errors.Is(err, ErrWatched) {
		t.Errorf("err = %v; want %v", err, ErrWatched)
	}
	if _, err := w.Add(-1, func() {}); !errors.Is(err, unix.EBADF) {
		t.Errorf("err = %v; want EBADF", err)
	}
	if w.Len() != 1 || w.Remove(0) || w.Remove(watch+1) {
		t.Errorf("%d are watched; want 1", w.Len())
	}
	for range 2 {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF {
		t.Errorf("the descriptor after Close: %v; want EBADF", err)
	}
	own := eventfd(t)
	if _, err := w.Add(own, func() {}); !errors.Is(err, ErrWatcherClosed) {
		t.Errorf("err = %v; want %v", err, ErrWatcherClosed)
	}
	if err := unix.Close(own); err != nil {
		t.Errorf("a descriptor that was not taken over: %v", err)
	}
	if w.Remove(watch) || w.Len() != 0 {
		t.Error("something is watched after Close")
	}
}

// TestWatcherFromCallback adds and removes in a callback, until whose return the file stays open.
func TestWatcherFromCallback(t *testing.T) {
	w := newWatcher(t)
	reader, writer := openPipe(t)
	b := eventfd(t)
	defer unix.Close(b)
	done := make(chan bool, 1)
	first := make(chan Watch, 1)
	first <- mustAdd(t, w, reader, func() {
		removed := w.Remove(<-first)
		if !readerOpen(t, writer) {
			t.Error("the file is closed before the callback has returned")
		}
		mustAdd(t, w, copyOf(t, b), func() { done <- removed || readerOpen(t, writer) })
	})
	if _, err := unix.Write(writer, []byte{1}); err != nil {
		t.Fatal(err)
	}
	fire(t, b)
	if waitFor(t, done) {
		t.Error("Remove came in time in the very callback, or the file is open after it")
	}
	unix.Close(writer)
}

// TestWatcherReusedDescriptor: an event of a removed file is not taken for the next one that has the same descriptor.
func TestWatcherReusedDescriptor(t *testing.T) {
	w := newWatcher(t)
	keep := eventfd(t)
	defer unix.Close(keep)
	block, blocked := make(chan struct{}), make(chan struct{})
	mustAdd(t, w, copyOf(t, keep), func() { close(blocked); <-block })
	fire(t, keep)
	<-blocked
	old, next := eventfd(t), eventfd(t)
	mine := copyOf(t, old)
	defer unix.Close(mine)
	watch := mustAdd(t, w, old, func() { t.Error("called after Remove") })
	fire(t, mine)
	if !w.Remove(watch) {
		t.Fatal("not removed")
	}
	// The number now is that of another file.
	if err := unix.Dup3(next, old, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(next)
	called := make(chan struct{})
	mustAdd(t, w, old, func() { close(called) })
	close(block)
	fire(t, next)
	waitFor(t, called)
}

// TestWatcherMachine compares the watcher with what is expected of it, call by call, by hundreds of files.
func TestWatcherMachine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, err := NewWatcher()
		if err != nil {
			t.Fatal(err)
		}
		called := make(chan int, 1024)
		watches := map[int]Watch{} // by the test's own descriptor
		gone := map[int]Watch{}    // was removed or fired
		defer func() {
			w.Close()
			for _, set := range []map[int]Watch{watches, gone} {
				for fd := range set {
					unix.Close(fd)
				}
			}
		}()
		some := func(t *rapid.T, set map[int]Watch) []int {
			var fds []int
			for fd := range set {
				fds = append(fds, fd)
			}
			return fds[:min(len(fds), rapid.IntRange(1, 2*parkBatch).Draw(t, "n"))]
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				for range rapid.IntRange(1, 2*parkBatch).Draw(t, "n") {
					fd := eventfd(t)
					watches[fd] = mustAdd(t, w, copyOf(t, fd), func() { called <- fd })
				}
			},
			"remove": func(t *rapid.T) {
				for _, fd := range some(t, watches) {
					if !w.Remove(watches[fd]) {
						t.Fatal("Remove did not come in time")
					}
					gone[fd] = watches[fd]
					delete(watches, fd)
				}
			},
			"fire": func(t *rapid.T) {
				for _, fd := range some(t, watches) {
					fire(t, fd)
					if got := waitFor(t, called); got != fd {
						t.Fatalf("called for %d; want %d", got, fd)
					}
					gone[fd] = watches[fd]
					delete(watches, fd)
				}
			},
			"again": func(t *rapid.T) {
				for _, fd := range some(t, gone) {
					fire(t, fd)
					if w.Remove(gone[fd]) {
						t.Fatal("Remove of one that is gone came in time")
					}
					unix.Close(fd)
					delete(gone, fd)
				}
			},
			"": func(t *rapid.T) {
				if w.Len() != len(watches) {
					t.Fatalf("%d are watched; want %d", w.Len(), len(watches))
				}
				if len(called) != 0 {
					t.Fatalf("called for %d", <-called)
				}
				w.mu.Lock()
				defer w.mu.Unlock()
				w.files.verify(t)
			},
		})
	})
}

// TestWatcherRace adds, fires, removes and closes from many goroutines: each callback
// comes once, or Remove came in time, or Close did.
func TestWatcherRace(t *testing.T) {
	w := newWatcher(t)
	var wg sync.WaitGroup
	var called, removed, added atomic.Int64
	for range 8 {
		wg.Go(func() {
			type one struct {
				fd    int
				watch Watch
				once  chan struct{}
			}
			var last []one
			for n := range 1000 {
				fd, once := eventfd(t), make(chan struct{})
				watch := mustAdd(t, w, copyOf(t, fd), func() { called.Add(1); close(once) })
				added.Add(1)
				if last = append(last, one{fd, watch, once}); len(last) < 50 {
					continue
				}
				o := last[0]
				last = last[1:]
				fire(t, o.fd)
				if n%2 == 0 && w.Remove(o.watch) {
					removed.Add(1)
				} else {
					<-o.once
				}
				unix.Close(o.fd)
			}
			for _, o := range last {
				if w.Remove(o.watch) {
					removed.Add(1)
				}
				unix.Close(o.fd)
			}
		})
	}
	wg.Wait()
	if called.Load()+removed.Load() != added.Load() {
		t.Errorf("%d called and %d removed of %d", called.Load(), removed.Load(), added.Load())
	}
	closing := newWatcher(t)
	var late atomic.Bool
	for range 4 {
		wg.Go(func() {
			for {
				fd := eventfd(t)
				fire(t, fd)
				watch, err := closing.Add(fd, func() {
					if late.Load() {
						t.Error("called after Close")
					}
				})
				if err != nil {
					unix.Close(fd)
					return
				}
				closing.Remove(watch)
			}
		})
	}
	closing.Close()
	late.Store(true)
	wg.Wait()
}
