package guests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Options say what guests are wanted.
type Options struct {
	// Count is the number of guests. With Attach it is not used.
	Count int
	// NoCgroup leaves guests in the caller's cgroup. Otherwise each gets a cgroup of its own, below the caller's, where the
	// host allows it; Notes says why not.
	NoCgroup bool
	// IDBase and IDRange are, for root, the host ids that the ids from 0 on of all guests become: 100000 and 65536 if 0.
	// Without root guests have the caller's uid and gid, and are root inside.
	IDBase, IDRange uint32
	// Attach has the init processes of containers that exist, as pids seen here; guest i runs in the container of Attach[i].
	// It takes root. A container may be there several times.
	Attach []int
	// Progress is called by Start, in its goroutine, for each guest that runs. nil: it is not.
	Progress func(done, total int)
}

// Set is a number of guests, known by index from 0 on. See the package on which methods are for one goroutine.
type Set struct {
	notes  []string
	attach []int
	memory *shared
	base   *base // nil: guests have no cgroups of their own
	helper *helper
	guests []guest

	// asking serialises requests to the helper, so that answers come in their order.
	asking  sync.Mutex
	answers chan report
	quit    chan struct{} // closed by Close
	lost    chan struct{} // closed when the helper answers no more
	closed  atomic.Bool
	close   sync.Once
	err     error // of Close

	epoll  int // what FD returns: data socket and wakeup
	wakeup int // eventfd, readable while ends is not empty
	endsMu sync.Mutex
	ends   []end

	in receiver // of the goroutine that connects
}

// guest is what is known of one guest.
type guest struct {
	// mu guards this part, which the goroutine that listens to the helper writes.
	mu       sync.Mutex
	running  bool
	life     uint32 // grows with each start
	pid      int
	dir      string // of its cgroup
	cgroupID uint64
	working  bool // processes of a job run

	// The newest command; of the goroutine that connects.
	seq     uint32
	left    int    // connections that were not reported yet
	ordered uint32 // life that got it
}

// end says that a guest's life is over and all it had to say is in the data socket.
type end struct {
	index int
	life  uint32
}

// Start starts guests and returns when all of them run. It gives up when ctx is done; guests that run do not depend on ctx.
//
// Errors: [ErrCount], [ErrUnavailable] or [ErrAttach] with the reason, that of ctx, or that of the step that failed.
func Start(ctx context.Context, o Options) (*Set, error) {
	if len(o.Attach) > 0 {
		o.Count, o.NoCgroup = len(o.Attach), true
	}
	if o.Count < 1 || o.Count > maxGuests {
		return nil, fmt.Errorf("%d: %w", o.Count, ErrCount)
	}
	var b *base
	var notes []string
	if !o.NoCgroup {
		var err error
		if b, err = newBase(); err != nil {
			notes = append(notes, fmt.Sprintf("guests have no cgroups of their own: %v", err))
		}
	}
	s, err := start(ctx, o, b, notes)
	var refused *cgroupError
	if errors.As(err, &refused) {
		notes = append(notes, fmt.Sprintf("guests have no cgroups of their own: %v", refused.err))
		s, err = start(ctx, o, nil, notes)
	}
	return s, err
}

// cgroupError says that the first guest could not be started in a cgroup of its own; it may be possible in none.
type cgroupError struct{ err error }

func (e *cgroupError) Error() string { return e.err.Error() }
func (e *cgroupError) Unwrap() error { return e.err }

// start makes one attempt. It takes over b, which may be nil.
func start(ctx context.Context, o Options, b *base, notes []string) (*Set, error) {
	memory, err := newShared(o.Count)
	if err != nil {
		return nil, both(err, b.remove())
	}
	s := &Set{
		notes: notes, attach: slices.Clone(o.Attach), memory: memory, base: b, guests: make([]guest, o.Count),
		answers: make(chan report, 64), quit: make(chan struct{}), lost: make(chan struct{}),
	}
	s.fillHeader(o)
	if err := s.openFDs(); err != nil {
		memory.close()
		return nil, both(err, b.remove())
	}
	if s.helper, err = startHelper(memory, b); err != nil {
		s.closeFDs()
		memory.close()
		return nil, both(err, b.remove())
	}
	s.in.init()
	go s.listen()
	if err := s.bringUp(ctx, o); err != nil {
		return nil, both(err, s.Close())
	}
	return s, nil
}

func (s *Set) fillHeader(o Options) {
	h := s.memory.header
	maps := chooseMaps(o.IDBase, o.IDRange)
	if len(o.Attach) > 0 {
		maps.note = "" // the containers have maps
	}
	if maps.note != "" {
		s.notes = append(s.notes, maps.note)
	}
	copy(h.uidMap[:], maps.uid)
	copy(h.gidMap[:], maps.gid)
	if maps.setgroups {
		h.flags |= withSetgroups
	}
	if s.base != nil {
		h.flags |= withCgroup
		copy(h.base[:], "../"+s.base.name())
	}
}

// openFDs makes the descriptor that FD returns; startHelper's data socket is added to it by bringUp.
func (s *Set) openFDs() (err error) {
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll_create1: %w", err)
	}
	if s.wakeup, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(s.epoll)
		return fmt.Errorf("eventfd: %w", err)
	}
	return nil
}

func (s *Set) closeFDs() {
	unix.Close(s.epoll)
	unix.Close(s.wakeup)
}

// bringUp starts all guests, the first one by itself: what is not allowed at all shows with it.
func (s *Set) bringUp(ctx context.Context, o Options) error {
	for _, fd := range [...]int{s.helper.data, s.wakeup} {
		e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
		if err := unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &e); err != nil {
			return fmt.Errorf("epoll_ctl: %w", err)
		}
	}
	progress := o.Progress
	if progress == nil {
		progress = func(int, int) {}
	}
	s.asking.Lock()
	defer s.asking.Unlock()
	if len(s.attach) > 0 {
		for i := range s.attach {
			if err := s.attachGuest(ctx, i); err != nil {
				return err
			}
			progress(i+1, o.Count)
		}
		return nil
	}
	done := 0
	for done < o.Count {
		n := o.Count - done
		if done == 0 {
			n = 1
		}
		if err := s.helper.send(command{op: opStart, first: uint32(done), count: uint32(n)}); err != nil {
			return err
		}
		for range n {
			if err := s.started(ctx, done); err != nil {
				return err
			}
			done++
			progress(done, o.Count)
		}
	}
	return nil
}

// started waits for the answer to the start of guest i.
func (s *Set) started(ctx context.Context, i int) error {
	r, err := s.answer(ctx)
	if err != nil {
		return err
	}
	if r.errno == 0 {
		return nil
	}
	err = fmt.Errorf("cannot start guest %d of %d: %w", i+1, len(s.guests), thisHost().explain(r.errno))
	if i == 0 && s.base != nil && ctx.Err() == nil && r.errno != unix.EAGAIN && r.errno != unix.ENOMEM {
		return &cgroupError{err}
	}
	return err
}

// answer waits for the next answer of the helper. The caller holds asking.
func (s *Set) answer(ctx context.Context) (report, error) {
	select {
	case r := <-s.answers:
		return r, nil
	case <-ctx.Done():
		return report{}, context.Cause(ctx)
	case <-s.quit:
		return report{}, ErrClosed
	case <-s.lost:
		return report{}, ErrEnded
	}
}

// Len returns the number of guests, those that have stopped included.
func (s *Set) Len() int { return len(s.guests) }

// PID returns the pid, as seen here, of guest i: for others the init process of a container. 0: it has stopped.
func (s *Set) PID(i int) int {
	g := &s.guests[i]
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.pid
}

// Cgroup returns the directory of guest i's cgroup v2; "" when it has none of its own or has stopped. An attached guest's is that
// of its container's init.
func (s *Set) Cgroup(i int) string {
	g := &s.guests[i]
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.dir
}

// CgroupID returns the id of that cgroup, which is the inode number of its directory; 0 when there is none. Each life of a guest
// has another one.
func (s *Set) CgroupID(i int) uint64 {
	g := &s.guests[i]
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cgroupID
}

// Notes says what the host did not allow, a line each.
func (s *Set) Notes() []string { return slices.Clone(s.notes) }

// Close ends all guests and returns when no process of theirs is left and their cgroups are removed. It may be called twice.
//
// Errors: [ErrLeft].
func (s *Set) Close() error {
	s.close.Do(func() {
		s.closed.Store(true)
		close(s.quit)
		s.helper.stop()
		<-s.lost
		s.closeFDs()
		s.memory.close()
		s.err = s.base.remove()
	})
	return s.err
}

// both adds what went wrong on the way back to an error, on the same line.
func both(err, left error) error {
	if left == nil {
		return err
	}
	return fmt.Errorf("%w; %w", err, left)
}

// idOf returns the id of a cgroup, 0 when it is gone.
func idOf(dir string) uint64 {
	info, err := os.Stat(dir)
	if err != nil {
		return 0
	}
	return inode(info)
}
