package peer

import (
	"math"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

const (
	// parkBatch is how many descriptors are parked in one message. The kernel takes up to
	// 253 (SCM_MAX_FD of include/net/scm.h); fewer leave less of them open at a time.
	parkBatch = 64

	// parkUID is the real uid under which descriptors are parked: (uid_t)-3, which no
	// process is given. See sendApart.
	parkUID = 1<<32 - 3

	// parkFiles is how many descriptors parking needs: less than one batch that waits to
	// be parked, one batch that was taken back, and 16 socket pairs. One holds about 17,000
	// files with the default buffer size (net.core.wmem_default), and up to half of the
	// files can be those of processes that have ended.
	parkFiles = 2*parkBatch + 32

	// openShare is the part of RLIMIT_NOFILE, as a divisor, that stays open descriptors before
	// anything is parked. While any file is in flight on the host, each close of any Unix
	// socket queues the kernel's collection of such files (net/unix/af_unix.c,
	// unix_release_sock), which costs a connection a tenth of its time.
	openShare = 32
)

// WatchFiles returns how many descriptors watching processes costs: fixed ones, and
// one or none for each process that a [Watcher] watches, as the machine and the
// permissions allow: it takes CAP_SETUID. It makes a few system calls to find out. Without
// CAP_SYS_RESOURCE and CAP_SYS_ADMIN no more processes than RLIMIT_NOFILE are free of a descriptor.
func WatchFiles() (fixed, each int) {
	if canPark() {
		return parkFiles + keptOpen(), 0
	}
	return 4, 1
}

// keptOpen is how many descriptors stay open before others are parked.
func keptOpen() int {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return 0
	}
	return int(min(lim.Cur, math.MaxInt32)) / openShare
}

// canPark tries to park a descriptor and to take it back.
func canPark() bool {
	l := newLot(true, 0)
	defer l.close()
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return false
	}
	l.loose[1] = pidfd
	return l.park(1) == nil && l.takeBack(l.spots[0]) == nil
}

// lot keeps files open without a descriptor for each. A file that was sent over a
// Unix socket and not received yet is open: it is in flight (unix(7), SCM_RIGHTS;
// net/core/scm.c takes a reference to the file, not to the descriptor). So lot sends
// batches of them to itself and closes the descriptors. What is registered for a
// file in an epoll instance stays, for it ends when the file is closed and not when a
// descriptor of several is (epoll(7), "Will closing a file descriptor cause it to be
// removed from all epoll interest lists?").
//
// Up to a number of descriptors are kept as they are, for files in flight have a price: see openShare.
//
// Files are known by keys. One that is not wanted any more is closed with its
// descriptor, or, when it is parked, at the latest when as many others of the parked ones
// are not wanted as are: then batches are taken back, one each time.
//
// A lot is not safe for concurrent use.
type lot struct {
	loose  map[uint64]int      // descriptors that are open, by key
	parked map[uint64]struct{} // keys of files in flight that are wanted
	total  int                 // files in flight, wanted or not
	spots  []*spot
	next   int // index of the spot from which a batch is taken back next
	keep   int // so many loose ones are never parked
	wait   int // so many have to come before it is tried again, after a failure
	off    bool
}

// spot is a connected pair of sockets that has batches in flight.
type spot struct {
	in, out int
	batches [][]uint64 // keys, in the order of the queue and of the descriptors in each message
}

// newLot makes a lot that parks what comes beyond keep descriptors, or one that only keeps descriptors.
func newLot(parks bool, keep int) *lot {
	return &lot{loose: map[uint64]int{}, parked: map[uint64]struct{}{}, keep: keep, off: !parks}
}

// put takes over a descriptor under a key that is not in use.
func (l *lot) put(key uint64, fd int) {
	l.loose[key] = fd
	l.wait = max(l.wait-1, 0)
	l.parkAll()
}

// drop closes the file of a key, or lets it be closed later.
func (l *lot) drop(key uint64) {
	if fd, ok := l.loose[key]; ok {
		delete(l.loose, key)
		unix.Close(fd)
	} else if _, ok := l.parked[key]; ok {
		delete(l.parked, key)
	} else {
		return
	}
	if 2*len(l.parked) > l.total && 2*(len(l.loose)+len(l.parked)) > l.keep {
		return
	}
	// Without a free descriptor the batch stays where it is, and the next drop tries again.
	if s := l.turn(); s != nil && l.takeBack(s) == nil {
		l.parkAll()
		l.closeIdle()
	}
}

// close closes everything.
func (l *lot) close() {
	for _, fd := range l.loose {
		unix.Close(fd)
	}
	for _, s := range l.spots {
		s.close()
	}
	clear(l.loose)
	clear(l.parked)
	l.spots, l.total = nil, 0
}

// parkAll parks as many whole batches as there are. Where that fails for want of memory, or of the permission to have more files in flight,
// descriptors stay open, and it is tried again when as many as a batch have come: as many may have gone meanwhile, so their number need not grow.
func (l *lot) parkAll() {
	for !l.off && l.wait == 0 && len(l.loose) >= l.keep+parkBatch {
		if l.park(parkBatch) != nil {
			l.wait = parkBatch
		}
	}
}

// park parks n loose descriptors.
func (l *lot) park(n int) error {
	keys, fds := make([]uint64, 0, n), make([]int, 0, n)
	for key, fd := range l.loose {
		if len(keys) == n {
			break
		}
		keys, fds = append(keys, key), append(fds, fd)
	}
	s, err := l.send(unix.UnixRights(fds...))
	if err != nil {
		return err
	}
	s.batches = append(s.batches, keys)
	for i, key := range keys {
		delete(l.loose, key)
		l.parked[key] = struct{}{}
		unix.Close(fds[i])
	}
	l.total += n
	return nil
}

// send sends a message to the first spot that has room, or to a new one.
func (l *lot) send(rights []byte) (*spot, error) {
	for _, s := range l.spots {
		if err := sendApart(s.in, rights); err != unix.EAGAIN {
			return s, err
		}
	}
	s, err := newSpot()
	if err != nil {
		return nil, err
	}
	if err := sendApart(s.in, rights); err != nil {
		s.close()
		return nil, err
	}
	l.spots = append(l.spots, s)
	return s, nil
}

// turn returns the spot whose first batch is to be taken back now, nil where there is none. All have their turn, so that a
// spot full of files that are wanted does not hide one full of others.
func (l *lot) turn() *spot {
	for range l.spots {
		l.next = (l.next + 1) % len(l.spots)
		if s := l.spots[l.next]; len(s.batches) > 0 {
			return s
		}
	}
	return nil
}

// takeBack takes the first batch of a spot back: what is wanted is loose then, the rest is closed. On error nothing has
// changed.
func (l *lot) takeBack(s *spot) error {
	keys := s.batches[0]
	fds, err := s.receive(len(keys))
	if err != nil {
		return err
	}
	s.batches = s.batches[1:]
	l.total -= len(keys)
	for i, key := range keys {
		if _, wanted := l.parked[key]; wanted {
			delete(l.parked, key)
			l.loose[key] = fds[i]
		} else {
			unix.Close(fds[i])
		}
	}
	return nil
}

// closeIdle closes spots that hold nothing, but the first: it will be needed again.
func (l *lot) closeIdle() {
	kept := l.spots[:0]
	for i, s := range l.spots {
		if i > 0 && len(s.batches) == 0 {
			s.close()
		} else {
			kept = append(kept, s)
		}
	}
	clear(l.spots[len(kept):])
	l.spots = kept
}

func newSpot() (*spot, error) {
	// SOCK_SEQPACKET keeps messages apart and in order.
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	return &spot{in: p[0], out: p[1]}, nil
}

// close closes the sockets, and with them the files in flight.
func (s *spot) close() {
	unix.Close(s.in)
	unix.Close(s.out)
}

// receive takes the first message with its n descriptors off the queue, or, on error, leaves it there.
//
// A message that is received while there are not enough free descriptors is cut short, and the files of
// those that are missing are closed (MSG_CTRUNC; unix(7), BUGS). To check the number of free ones before is not enough, for
// others open some meanwhile. So the descriptors are taken by MSG_PEEK, which leaves the message and its files in the queue
// (net/unix/af_unix.c, unix_peek_fds), and only when all have come the message is read once more without them.
func (s *spot) receive(n int) ([]int, error) {
	var data [1]byte
	control := make([]byte, unix.CmsgSpace(4*n))
	_, size, flags, err := recvmsg(s.out, data[:], control, unix.MSG_PEEK|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("recvmsg", err)
	}
	fds := rights(control[:size])
	if len(fds) == n && flags&unix.MSG_CTRUNC == 0 {
		if _, _, _, err = recvmsg(s.out, data[:], nil, 0); err == nil {
			return fds, nil
		}
	} else {
		err = os.NewSyscallError("recvmsg", unix.EMFILE) // which the kernel does not say
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
	return nil, err
}

// rights returns the descriptors in a control message of SCM_RIGHTS.
func rights(control []byte) []int {
	var fds []int
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil
	}
	for i := range messages {
		some, err := unix.ParseUnixRights(&messages[i])
		if err == nil {
			fds = append(fds, some...)
		}
	}
	return fds
}

// recvmsg never waits.
func recvmsg(fd int, data, control []byte, flags int) (n, size, gotFlags int, err error) {
	for {
		n, size, gotFlags, _, err = unix.Recvmsg(fd, data, control, flags|unix.MSG_DONTWAIT)
		if err != unix.EINTR {
			return n, size, gotFlags, err
		}
	}
}

// sendApart sends one message, never waits, and has its files counted under parkUID.
//
// The kernel counts files in flight for each real uid, all processes together, and refuses (ETOOMANYREFS) to
// let more be sent by a process whose RLIMIT_NOFILE is below that count and that has neither CAP_SYS_RESOURCE nor
// CAP_SYS_ADMIN (net/unix, too_many_unix_fds). What is parked stays in flight: counted under the uid of the server it
// would forbid others of the same uid, root's services of few capabilities above all, to pass a descriptor.
// The real uid is that of a thread (credentials(7), "POSIX threads"), decides nothing else here, and is put back at once.
func sendApart(fd int, rights []byte) error {
	runtime.LockOSThread()
	uid := uint32(unix.Getuid())
	if err := setThreadUID(parkUID); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	err := error(unix.EINTR)
	for err == unix.EINTR {
		_, err = unix.SendmsgN(fd, []byte{0}, rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	}
	if setThreadUID(uid) == nil {
		runtime.UnlockOSThread()
	} // else the thread stays locked: it serves no other goroutine and ends with this one
	return err
}

// setThreadUID sets the real uid of the calling thread. It needs CAP_SETUID, except back to the effective one. The effective
// uid stays, so the thread keeps its capabilities (capabilities(7), "Effect of user ID changes on capabilities").
func setThreadUID(uid uint32) error {
	const keep = ^uintptr(0)
	// Not syscall.Setresuid, which changes all threads.
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), keep, keep); e != 0 {
		return os.NewSyscallError("setresuid", e)
	}
	return nil
}
