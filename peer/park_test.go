package peer

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"devlxd/peer/peertest"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// needParking skips a test where descriptors cannot be parked.
func needParking(t testing.TB) {
	t.Helper()
	peertest.Need(t, peertest.Root)
	if !canPark() {
		t.Skip("needs CAP_SETUID: descriptors cannot be parked")
	}
}

// newParkingWatcher returns a watcher that keeps less than a batch of descriptors open.
func newParkingWatcher(t *testing.T) *Watcher {
	t.Helper()
	w := newWatcher(t)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files = newLot(true, 0)
	return w
}

// openPipe returns both ends of a pipe.
func openPipe(t interface{ Fatal(...any) }) (r, w int) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	return p[0], p[1]
}

// readerOpen tells by the writing end of a pipe whether the file of the other is open anywhere.
func readerOpen(t interface{ Fatal(...any) }, w int) bool {
	p := []unix.PollFd{{Fd: int32(w)}}
	for {
		_, err := unix.Poll(p, 0)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			t.Fatal(err)
		}
		return p[0].Revents&unix.POLLERR == 0
	}
}

// selfPidfds opens pidfds of the test process, each a file of its own.
func selfPidfds(t testing.TB, n int) []int {
	t.Helper()
	fds := make([]int, 0, n)
	for range n {
		fd, err := unix.PidfdOpen(unix.Getpid(), 0)
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
	}
	return fds
}

// withLimit runs f while the process may not have descriptors from n on.
func withLimit(t interface{ Fatal(...any) }, n uint64, f func()) {
	var old unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: old.Max}, nil); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &old, nil); err != nil {
			t.Fatal(err)
		}
	}()
	f()
}

// without runs f on a thread that has the capabilities not in effect.
func without(t testing.TB, f func(), capabilities ...int) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&hdr, &caps[0]); err != nil {
		t.Fatal(err)
	}
	old := caps
	for _, c := range capabilities {
		caps[c/32].Effective &^= 1 << (c % 32)
	}
	if err := unix.Capset(&hdr, &caps[0]); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Capset(&hdr, &old[0]); err != nil {
			t.Fatal(err)
		}
	}()
	f()
}

// verify checks the counts of a lot.
func (l *lot) verify(t interface{ Fatalf(string, ...any) }) {
	total, wanted := 0, 0
	for _, s := range l.spots {
		for _, keys := range s.batches {
			total += len(keys)
			for _, key := range keys {
				if _, ok := l.parked[key]; ok {
					wanted++
				}
			}
		}
	}
	if total != l.total || wanted != len(l.parked) {
		t.Fatalf("%d in flight, %d of them wanted; it counts %d and %d", total, wanted, l.total, len(l.parked))
	}
}

// TestLotMachine: what is wanted is open, and of the rest not much more than half of what is in flight, whatever comes.
// Each file is the reading end of a pipe.
func TestLotMachine(t *testing.T) {
	needParking(t)
	rapid.Check(t, func(t *rapid.T) {
		l := newLot(true, rapid.SampledFrom([]int{0, parkBatch / 2, 3 * parkBatch}).Draw(t, "keep"))
		wanted, dropped := map[uint64]int{}, map[uint64]int{}
		last, peak, short := uint64(0), 0, false
		defer func() {
			l.close()
			for _, set := range []map[uint64]int{wanted, dropped} {
				for _, w := range set {
					if readerOpen(t, w) {
						t.Error("open after close")
					}
					unix.Close(w)
				}
			}
		}()
		drop := func(limit int) {
			for key := range wanted {
				if limit--; limit < 0 {
					break
				}
				l.drop(key)
				dropped[key] = wanted[key]
				delete(wanted, key)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				for range rapid.IntRange(1, 2*parkBatch).Draw(t, "n") {
					r, w := openPipe(t)
					last++
					l.put(last, r)
					wanted[last] = w
				}
				peak = max(peak, l.total)
			},
			"drop": func(t *rapid.T) { drop(rapid.IntRange(1, 2*parkBatch).Draw(t, "n")); short = false },
			"drop almost all": func(t *rapid.T) {
				drop(len(wanted) - 3)
				short = false
			},
			"drop without descriptors": func(t *rapid.T) {
				n := rapid.IntRange(1, 2*parkBatch).Draw(t, "n")
				free := rapid.IntRange(0, parkBatch).Draw(t, "free")
				withLimit(t, limitLeaving(free), func() { drop(n) })
				short = true
			},
			"drop unknown": func(*rapid.T) { l.drop(last + 1); l.drop(0) },
			"": func(t *rapid.T) {
				l.verify(t)
				for key, w := range wanted {
					if !readerOpen(t, w) {
						t.Fatalf("the file of %d is closed", key)
					}
				}
				open := 0
				for key, w := range dropped {
					if readerOpen(t, w) {
						open++
						continue
					}
					unix.Close(w)
					delete(dropped, key)
				}
				if open != l.total-len(l.parked) {
					t.Fatalf("%d files are open that are not wanted; it counts %d", open, l.total-len(l.parked))
				}
				// One turn of the queue may pass batches that are wanted, with one drop each, before one is reached that is not.
				if 2*open > l.total+peak/(parkBatch/2)+3*parkBatch && !short {
					t.Fatalf("%d of %d files in flight are not wanted (%d at most)", open, l.total, peak)
				}
				if len(l.loose) >= l.keep+parkBatch {
					t.Fatalf("%d descriptors are open", len(l.loose))
				}
			},
		})
	})
}

// TestLotKeepsSomeOpen: nothing is in flight while there are few files, and nothing again when there are few.
func TestLotKeepsSomeOpen(t *testing.T) {
	needParking(t)
	const keep = 2 * parkBatch
	l := newLot(true, keep)
	defer l.close()
	fds := selfPidfds(t, 6*parkBatch)
	for key, fd := range fds {
		l.put(uint64(key), fd)
		if key < keep && l.total > 0 {
			t.Fatalf("%d in flight with %d files", l.total, key+1)
		}
	}
	if l.total == 0 || len(l.loose) < keep || len(l.loose) >= keep+parkBatch {
		t.Errorf("%d in flight, %d open", l.total, len(l.loose))
	}
	for key := range uint64(len(fds) - 10) {
		l.drop(key)
	}
	if l.total != 0 || len(l.loose) != 10 {
		t.Errorf("%d in flight, %d open; want the last 10 open", l.total, len(l.loose))
	}
	l.verify(t)
}

// limitLeaving is the limit with which n descriptors are free.
func limitLeaving(n int) uint64 {
	limit := uint64(0)
	for ; ; limit++ {
		if _, err := unix.FcntlInt(uintptr(limit), unix.F_GETFD, 0); err != unix.EBADF {
			continue
		}
		if n--; n < 0 {
			return limit
		}
	}
}

// TestLotManySpots: when a pair of sockets is full there is another one, and both can empty.
func TestLotManySpots(t *testing.T) {
	needParking(t)
	l := newLot(true, 0)
	defer l.close()
	before := openFDs(t)
	key := uint64(0)
	for len(l.spots) < 3 && key < 1<<17 {
		for _, fd := range selfPidfds(t, parkBatch) {
			key++
			l.put(key, fd)
		}
	}
	if len(l.spots) != 3 {
		t.Fatalf("%d spots for %d files", len(l.spots), key)
	}
	if open := openFDs(t) - before; open != 6 {
		t.Errorf("%d descriptors for %d files; want those of 3 pairs of sockets", open, key)
	}
	l.verify(t)
	for k := uint64(1); k <= key; k++ {
		l.drop(k)
	}
	l.verify(t)
	if len(l.spots) != 1 || l.total > parkBatch || len(l.parked)+len(l.loose) != 0 {
		t.Errorf("%d spots, %d in flight, %d wanted, %d loose; want nearly nothing", len(l.spots), l.total, len(l.parked), len(l.loose))
	}
	if open := openFDs(t) - before; open != 2 {
		t.Errorf("%d descriptors are open; want those of one pair", open)
	}
}

// TestLotTakesNothingBackWithoutDescriptors: a message that cannot be received whole stays where it is, with every
// number of descriptors that are free.
func TestLotTakesNothingBackWithoutDescriptors(t *testing.T) {
	needParking(t)
	for free := range parkBatch + 2 {
		l := newLot(true, 0)
		var writers [parkBatch]int
		for key := range uint64(parkBatch) {
			var r int
			r, writers[key] = openPipe(t)
			l.put(key, r)
		}
		before := openFDs(t)
		withLimit(t, limitLeaving(free), func() {
			for key := range uint64(parkBatch / 2) {
				l.drop(key)
			}
		})
		whole := free >= parkBatch
		if open := openFDs(t) - before; whole != (l.total == 0) || open != len(l.loose) {
			t.Errorf("%d free: %d in flight, %d more descriptors, %d loose", free, l.total, open, len(l.loose))
		}
		l.drop(parkBatch - 1)
		for key, w := range writers {
			if want := key >= parkBatch/2 && key < parkBatch-1; readerOpen(t, w) != want {
				t.Errorf("%d free: the file of %d is open: %v", free, key, !want)
			}
			unix.Close(w)
		}
		l.close()
	}
}

// TestLotWithoutPermission: what cannot be parked stays open, and is parked when it can be.
func TestLotWithoutPermission(t *testing.T) {
	needParking(t)
	without(t, func() {
		if fixed, each := WatchFiles(); canPark() || fixed <= 0 || each != 1 {
			t.Errorf("without CAP_SETUID: %d descriptors and %d for each process", fixed, each)
		}
	}, unix.CAP_SETUID)
	if fixed, each := WatchFiles(); fixed <= 2*parkBatch || each != 0 {
		t.Errorf("%d descriptors and %d for each process", fixed, each)
	}
	never := newLot(false, 0)
	defer never.close()
	for key, fd := range selfPidfds(t, 3*parkBatch) {
		never.put(uint64(key), fd)
	}
	if len(never.loose) != 3*parkBatch || len(never.spots) != 0 {
		t.Errorf("%d loose, %d spots; want all loose", len(never.loose), len(never.spots))
	}
	l := newLot(true, 0)
	defer l.close()
	fds := selfPidfds(t, 10*parkBatch)
	put := func(n int) {
		for _, fd := range fds[:n] {
			l.put(uint64(fd), fd)
		}
		fds = fds[n:]
	}
	put(parkBatch) // makes the sockets, which the limit would not allow
	// The limit on descriptors is what files in flight are compared with.
	withLimit(t, parkBatch/2, func() {
		without(t, func() { put(8 * parkBatch) }, unix.CAP_SYS_RESOURCE, unix.CAP_SYS_ADMIN)
	})
	if len(l.loose) != 8*parkBatch || l.total != parkBatch {
		t.Errorf("%d loose, %d in flight; want that no more can be", len(l.loose), l.total)
	}
	l.verify(t)
	put(parkBatch)
	if len(l.loose) != 0 || l.total != 10*parkBatch {
		t.Errorf("%d loose, %d in flight; want all in flight", len(l.loose), l.total)
	}
	l.verify(t)
}

// TestLotOfSuccessor: while two processes hold what they watch, as in an upgrade, more than may be in flight is there. What finds no room stays
// open, and goes into flight when the other process has ended, with no more files than before if some come and others go.
func TestLotOfSuccessor(t *testing.T) {
	needParking(t)
	const limit, files = 64 * parkBatch, 48 * parkBatch
	last := uint64(0)
	put := func(l *lot, fds []int) {
		for _, fd := range fds {
			last++
			l.put(last, fd)
		}
	}
	// The limit on descriptors is what files in flight are compared with.
	limited := func(f func()) {
		withLimit(t, limit, func() { without(t, f, unix.CAP_SYS_RESOURCE, unix.CAP_SYS_ADMIN) })
	}
	old, next := newLot(true, 0), newLot(true, 0)
	defer next.close()
	defer func() { old.close() }()
	fill := func() bool {
		old.close()
		old = newLot(true, 0)
		fds := selfPidfds(t, files)
		limited(func() { put(old, fds) })
		return old.total == files
	}
	for end := time.Now().Add(60 * time.Second); !fill(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Skipf("needs a user with few files in flight: of %d there is room for %d", files, old.total)
		}
	}
	fds := selfPidfds(t, files)
	limited(func() { put(next, fds) })
	if next.total > limit-files+2*parkBatch || next.total+len(next.loose) != files {
		t.Fatalf("beside %d in flight: %d in flight and %d loose; want all %d, most of them loose", old.total, next.total, len(next.loose), files)
	}
	next.verify(t)
	old.close()
	before := next.total
	limited(func() {
		for range parkBatch {
			for key := range next.loose {
				next.drop(key)
				break
			}
			put(next, selfPidfds(t, 1))
		}
	})
	if len(next.loose) >= parkBatch || next.total+len(next.loose) != files {
		t.Errorf("when the other has ended %d are in flight (before: %d) and %d loose; want nearly all in flight", next.total, before, len(next.loose))
	}
	next.verify(t)
}

// TestParkedForbidsNobody: what is parked does not keep others of the same user from passing descriptors.
func TestParkedForbidsNobody(t *testing.T) {
	needParking(t)
	pass := func() (err error) {
		s, err := newSpot()
		if err != nil {
			return err
		}
		defer s.close()
		const limit = 512
		withLimit(t, limit, func() {
			without(t, func() {
				err = unix.Sendmsg(s.in, []byte{0}, unix.UnixRights(s.in), nil, 0)
			}, unix.CAP_SYS_RESOURCE, unix.CAP_SYS_ADMIN)
		})
		return err
	}
	if err := pass(); errors.Is(err, unix.ETOOMANYREFS) {
		t.Skip("needs a user with few files in flight: other processes have many")
	} else if err != nil {
		t.Fatal(err)
	}
	l := newLot(true, 0)
	defer l.close()
	for key, fd := range selfPidfds(t, 20*parkBatch) {
		l.put(uint64(key), fd)
	}
	if l.total != 20*parkBatch {
		t.Fatalf("%d in flight", l.total)
	}
	if err := pass(); err != nil {
		t.Errorf("with %d parked: %v", l.total, err)
	}
	if uid := unix.Getuid(); uid != 0 {
		t.Errorf("the thread is that of uid %d now", uid)
	}
}
