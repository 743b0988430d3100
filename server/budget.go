package server

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"devlxd/peer"
)

const (
	// ownFiles is how many descriptors are kept for the daemon itself: loops,
	// listeners, the store, the admin API and what the Go runtime opens.
	ownFiles = 256
	// imageShare is the part of all descriptors that image downloads may take, as a divisor. A host whose limit cannot
	// be raised has better use for the rest: a guest that is told 500 downloads again, one that waits in the backlog waits.
	imageShare = 40
)

// budget shares the descriptors of the process (RLIMIT_NOFILE) out between
// connections, image downloads and running containers. Guests decide how many
// there are of the first two: what is left for the third must not depend on
// them. Safe for concurrent use after init.
type budget struct {
	explicit     int64        // Options.MaxConnections; 0: by the limit of the process
	files        int64        // RLIMIT_NOFILE
	watch        int64        // what it takes to watch running containers at all
	perContainer int64        // and each of them; a stopped one can be bound at any time, and must not find that guests took its own
	images       atomic.Int64 // open image files
}

// init reads the limit of the process, which the Go runtime has raised to the
// hard one.
func (b *budget) init(explicit int64) error {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	fixed, each := peer.WatchFiles()
	b.explicit, b.files = explicit, int64(min(lim.Cur, math.MaxInt32))
	b.watch, b.perContainer = int64(fixed), int64(each)
	return nil
}

// connections is how many connections may be open while so many containers are
// registered. A quarter of all descriptors is for connections in any case, so
// that a host with too low a limit still answers.
func (b *budget) connections(containers int) int64 {
	if b.explicit > 0 {
		return b.explicit
	}
	return max(b.files-ownFiles-b.watch-b.maxImageFiles()-b.perContainer*int64(containers), b.files/4, 1)
}

// maxImageFiles is how many image files may be open at once; a download of a
// split image holds two.
func (b *budget) maxImageFiles() int64 { return max(b.files/imageShare, 2) }

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
	place  *account // whose download ends with it; nil: of another file
}

// Close closes the file and gives its place back.
func (f *imageFile) Close() error {
	err := f.File.Close()
	if !errors.Is(err, fs.ErrClosed) {
		f.budget.images.Add(-1)
		f.place.endDownload()
	}
	return err
}

// maxConnections is how many connections may be open now.
func (s *Server) maxConnections() int64 { return s.budget.connections(s.reg.Len()) }
