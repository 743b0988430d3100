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
func waitFor[T any](t testing.TB, c <-chan T) T {
	t.Helper()
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

func fire(t interface{ Fatal(...any) }, fd int) {
	if _, err := unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
}

func TestWatcherProcesses(t *testing.T) {
	w := newWatcher(t)
	exits := make(chan int, 8)
	var pidfds []int
	var procs []*peertest.Proc
	for n := range 4 {
		p := peertest.Start(t, peertest.Spec{})
		pidfd, err := unix.PidfdOpen(p.PID, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(pidfd) })
		if err := w.Add(pidfd, func() { exits <- n }); err != nil {
			t.Fatal(err)
		}
		pidfds, procs = append(pidfds, pidfd), append(procs, p)
	}
	if !w.Remove(pidfds[2]) || w.Remove(pidfds[2]) {
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
	}
	if w.Len() != 1 {
		t.Errorf("%d are watched; want 1", w.Len())
	}
	if err := w.Add(pidfds[1], func() { exits <- 100 }); err != nil {
		t.Fatal(err)
	}
	if got := waitFor(t, exits); got != 100 {
		t.Errorf("told of %d; want that the process had exited already", got)
	}
}

func TestWatcherErrors(t *testing.T) {
	w := newWatcher(t)
	fd := eventfd(t)
	defer unix.Close(fd)
	if err := w.Add(fd, func() {}); err != nil {
		t.Fatal(err)
	}
	if err := w.Add(fd, func() {}); !errors.Is(err, ErrWatched) {
		t.Errorf("err = %v; want %v", err, ErrWatched)
	}
	if err := w.Add(-1, func() {}); !errors.Is(err, unix.EBADF) {
		t.Errorf("err = %v; want EBADF", err)
	}
	if w.Len() != 1 {
		t.Errorf("%d are watched; want 1", w.Len())
	}
	for range 2 {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := w.Add(fd, func() {}); !errors.Is(err, ErrWatcherClosed) {
		t.Errorf("err = %v; want %v", err, ErrWatcherClosed)
	}
	if w.Remove(fd) || w.Len() != 0 {
		t.Error("something is watched after Close")
	}
}

// TestWatcherFromCallback adds and removes in a callback.
func TestWatcherFromCallback(t *testing.T) {
	w := newWatcher(t)
	a, b := eventfd(t), eventfd(t)
	defer unix.Close(a)
	defer unix.Close(b)
	done := make(chan bool, 1)
	err := w.Add(a, func() {
		removed := w.Remove(a)
		if err := w.Add(b, func() { done <- removed }); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	fire(t, a)
	fire(t, b)
	if waitFor(t, done) {
		t.Error("Remove came in time in the very callback")
	}
}

// TestWatcherReusedDescriptor: an event of a removed descriptor is not taken for the next
// one that has the same number.
func TestWatcherReusedDescriptor(t *testing.T) {
	w := newWatcher(t)
	keep := eventfd(t)
	defer unix.Close(keep)
	block, blocked := make(chan struct{}), make(chan struct{})
	if err := w.Add(keep, func() { close(blocked); <-block }); err != nil {
		t.Fatal(err)
	}
	fire(t, keep)
	<-blocked
	old, next := eventfd(t), eventfd(t)
	if err := w.Add(old, func() { t.Error("called after Remove") }); err != nil {
		t.Fatal(err)
	}
	fire(t, old)
	if !w.Remove(old) {
		t.Fatal("not removed")
	}
	// The number now is that of another file.
	if err := unix.Dup3(next, old, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	unix.Close(next)
	defer unix.Close(old)
	called := make(chan struct{})
	if err := w.Add(old, func() { close(called) }); err != nil {
		t.Fatal(err)
	}
	close(block)
	fire(t, old)
	waitFor(t, called)
}

// TestWatcherMachine compares the watcher with what is expected of it, call by call.
func TestWatcherMachine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, err := NewWatcher()
		if err != nil {
			t.Fatal(err)
		}
		called := make(chan int, 64)
		watched := map[int]bool{}
		var fds []int
		defer func() {
			w.Close()
			for _, fd := range fds {
				unix.Close(fd)
			}
		}()
		pick := func(t *rapid.T) int {
			if len(fds) == 0 {
				t.Skip("none yet")
			}
			return rapid.SampledFrom(fds).Draw(t, "fd")
		}
		t.Repeat(map[string]func(*rapid.T){
			"new": func(t *rapid.T) {
				if len(fds) == 16 {
					t.Skip("enough")
				}
				fds = append(fds, eventfd(t))
			},
			"add": func(t *rapid.T) {
				fd := pick(t)
				err := w.Add(fd, func() { called <- fd })
				if watched[fd] != errors.Is(err, ErrWatched) {
					t.Fatalf("add %d: %v", fd, err)
				}
				watched[fd] = true
			},
			"remove": func(t *rapid.T) {
				fd := pick(t)
				if got := w.Remove(fd); got != watched[fd] {
					t.Fatalf("remove %d: %v; want %v", fd, got, watched[fd])
				}
				delete(watched, fd)
			},
			"fire": func(t *rapid.T) {
				fd := pick(t)
				fire(t, fd)
				if watched[fd] {
					select {
					case got := <-called:
						if got != fd {
							t.Fatalf("called for %d; want %d", got, fd)
						}
					case <-time.After(10 * time.Second):
						t.Fatalf("not called for %d", fd)
					}
					delete(watched, fd)
				}
				var buf [8]byte
				if _, err := unix.Read(fd, buf[:]); err != nil {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) {
				if w.Len() != len(watched) {
					t.Fatalf("%d are watched; want %d", w.Len(), len(watched))
				}
				if len(called) != 0 {
					t.Fatalf("called for %d", <-called)
				}
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
			for n := range 200 {
				fd := eventfd(t)
				once := make(chan struct{})
				if err := w.Add(fd, func() { called.Add(1); close(once) }); err != nil {
					t.Error(err)
				}
				added.Add(1)
				fire(t, fd)
				if n%2 == 0 && w.Remove(fd) {
					removed.Add(1)
				} else {
					<-once
				}
				unix.Close(fd)
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
				err := closing.Add(fd, func() {
					if late.Load() {
						t.Error("called after Close")
					}
				})
				closing.Remove(fd)
				unix.Close(fd)
				if err != nil {
					return
				}
			}
		})
	}
	closing.Close()
	late.Store(true)
	wg.Wait()
}
