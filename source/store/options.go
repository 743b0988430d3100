package store

import (
	"time"

	"devlxd/fault"
)

const (
	// DefaultLockTimeout is how long Open waits for another process to give the directory up.
	DefaultLockTimeout = 5 * time.Second
	// DefaultMaxImage is the largest image in bytes, metadata and rootfs together.
	DefaultMaxImage = 64 << 30
)

type options struct {
	lockTimeout time.Duration
	maxImage    int64
	faults      *fault.Board
}

// Option changes a default of Open.
type Option func(*options)

// WithLockTimeout sets how long Open waits for another process to give the directory up, as one does that hands over to
// its successor. 0 does not wait.
func WithLockTimeout(d time.Duration) Option { return func(o *options) { o.lockTimeout = d } }

// WithMaxImage sets the largest image in bytes, metadata and rootfs together.
func WithMaxImage(n int64) Option { return func(o *options) { o.maxImage = n } }

// WithFaults sets the board that is told when the disk refuses changes and when it takes them again. The default is one of the
// store's own, which logs.
func WithFaults(b *fault.Board) Option { return func(o *options) { o.faults = b } }
