package server

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// ownFiles is how many descriptors are kept for the daemon itself: loops,
	// listeners, the store, the admin API and what the Go runtime opens.
	ownFiles = 256
	// filesPerContainer is what a running container takes: a pidfd on its init and
	// its pid namespace ([devlxd/peer.Init]). One that is stopped now can be bound
	// at any time, and must not find that guests of others have taken its two.
	filesPerContainer = 2
)

// budget shares the descriptors of the process (RLIMIT_NOFILE) out between
// connections, image downloads and running containers. Guests decide how many
// there are of the first two: what is left for the third must not depend on
// them. Safe for concurrent use after init.
type budget struct {
	explicit int64        // Options.MaxConnections; 0: by the limit of the process
	files    int64        // RLIMIT_NOFILE
	images   atomic.Int64 // open image files
}

// init reads the limit of the process, which the Go runtime has raised to the
// hard one.
func (b *budget) init(explicit int64) error {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	b.explicit, b.files = explicit, int64(min(lim.Cur, math.MaxInt32))
	return nil
}

// connections is how many connections may be open while so many containers are
// registered. A quarter of all descriptors is for connections in any case, so
// that a host with too low a limit still answers.
func (b *budget) connections(containers int) int64 {
	if b.explicit > 0 {
		return b.explicit
	}
	return max(b.files-ownFiles-b.maxImageFiles()-filesPerContainer*int64(containers), b.files/4, 1)
}

// maxImageFiles is how many image files may be open at once; a download of a
// split image holds two.
func (b *budget) maxImageFiles() int64 { return max(b.files/16, 2) }

// takeImage counts one more image file in, false when there are enough.
func (b *budget) takeImage() bool {
	if b.images.Add(1) > b.maxImageFiles() {
		b.images.Add(-1)
		return false
	}
	return true
}

// imageFile is an open image file that counts against the budget.
type imageFile struct {
	*os.File
	budget *budget
}

// Close closes the file and gives its place back.
func (f *imageFile) Close() error {
	err := f.File.Close()
	if !errors.Is(err, fs.ErrClosed) {
		f.budget.images.Add(-1)
	}
	return err
}

// maxConnections is how many connections may be open now.
func (s *Server) maxConnections() int64 { return s.budget.connections(s.reg.Len()) }
