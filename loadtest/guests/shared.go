package guests

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	maxGuests = 1 << 20 // what fits into SHARED_SIZE of helper/guest.h, with room to spare
	maxPath   = 107     // of a sockaddr_un, whose last byte stays 0
)

// Flags of header, as in helper/guest.h.
const (
	withCgroup    = 1 << iota // guests get cgroups of their own
	withSetgroups             // guests have maps that were written with privilege
)

// header is struct header of helper/guest.h.
type header struct {
	flags   uint32
	count   uint32
	addrLen uint32
	family  uint16
	path    [110]byte
	base    [64]byte
	uidMap  [32]byte
	gidMap  [32]byte
	_       [4]byte
}

// slot is struct slot of helper/guest.h. The fields that are not named are the helper's.
type slot struct {
	seq    uint32 // futex; stored last, with the other fields in place
	count  uint32
	_      [4]uint32
	done   uint32
	_      uint32
	job    job
	counts [counters]uint64
	wrong  [64]byte
}

// job is struct job of helper/guest.h.
type job struct {
	kind, mix, connections, pipeline, period, settled uint32

	_      [2]uint32
	secret [SecretLen]byte
}

// shared is the memory that all guests see.
type shared struct {
	file   *os.File
	memory []byte
	header *header
	slots  []slot
}

func newShared(count int) (*shared, error) {
	fd, err := unix.MemfdCreate("devlxd-load", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	s := &shared{file: os.NewFile(uintptr(fd), "guests")}
	size := int(unsafe.Sizeof(header{})) + count*int(unsafe.Sizeof(slot{}))
	if err := s.file.Truncate(int64(size)); err != nil {
		s.file.Close()
		return nil, err
	}
	s.memory, err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		s.file.Close()
		return nil, fmt.Errorf("mmap: %w", err)
	}
	s.header = (*header)(unsafe.Pointer(&s.memory[0]))
	s.slots = unsafe.Slice((*slot)(unsafe.Pointer(&s.memory[unsafe.Sizeof(header{})])), count)
	s.header.count = uint32(count)
	return s, nil
}

func (s *shared) close() {
	s.file.Close()
	_ = unix.Munmap(s.memory) // fails for a wrong address only
	s.header, s.slots = nil, nil
}

// setPath writes the socket's address. No guest reads it while no command is under way.
func (s *shared) setPath(path string) {
	s.header.family = unix.AF_UNIX
	clear(s.header.path[:])
	copy(s.header.path[:], path)
	s.header.addrLen = uint32(2 + len(path) + 1)
}

// command has guest i make n connections.
func (s *shared) command(i int, seq uint32, n int) error {
	p := &s.slots[i]
	p.count = uint32(n)
	p.job.kind = jobConnect
	return s.order(i, seq)
}

// order wakes guest i for the command that its slot has.
func (s *shared) order(i int, seq uint32) error {
	p := &s.slots[i]
	atomic.StoreUint32(&p.seq, seq)
	_, _, errno := unix.RawSyscall(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&p.seq)), futexWake, 1)
	if errno != 0 {
		return fmt.Errorf("futex: %w", errno)
	}
	return nil
}

const futexWake = 1 // FUTEX_WAKE of linux/futex.h: the guests are other processes, so not the private one
