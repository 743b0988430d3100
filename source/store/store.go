package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"devlxd/fault"
	"devlxd/registry"
	"devlxd/source"
)

// Store is the embedded source: one directory, one file, one registry. Safe for concurrent use. The observers of the
// registry are called while a change is made, and must not call the store.
type Store struct {
	dir    string
	images string
	reg    *registry.Registry
	binder source.Binder // nil: nothing can be bound
	log    *slog.Logger
	opts   options
	lock   *os.File

	mu        sync.Mutex // serialises changes, and guards what follows
	db        *bbolt.DB
	file      *os.File // the one of db
	closed    bool
	suspended bool
	broken    error // why nothing is written any more; nil while the file is known

	// found are the containers that were found running and are not stored.
	found map[string]*containerRecord
}

var _ source.Writer = (*Store)(nil)

// Open opens or creates the store in dir, publishes its containers and images to reg, and binds the containers whose init
// process still runs. A nil binder binds nothing, a nil log is silent.
//
// Errors: [source.ErrLocked] when another process has it, [source.ErrDamaged], [source.ErrNewer], [source.ErrStorage], and
// [source.ErrFull] when reg holds fewer containers than the store. After an error reg may hold a part and is of no use.
func Open(dir string, reg *registry.Registry, binder source.Binder, log *slog.Logger, opts ...Option) (*Store, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Store{dir: dir, images: filepath.Join(dir, imagesName), reg: reg, binder: binder, log: log, found: make(map[string]*containerRecord)}
	s.opts = options{lockTimeout: DefaultLockTimeout, maxImage: DefaultMaxImage}
	for _, o := range opts {
		o(&s.opts)
	}
	if s.opts.faults == nil {
		s.opts.faults = fault.NewBoard(log, nil)
	}
	if err := os.MkdirAll(s.dir, dirMode); err != nil {
		return nil, storageError("create the state directory", err)
	}
	if err := s.open(); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Store) open() (err error) {
	if s.lock, err = lockDir(s.dir, s.opts.lockTimeout); err != nil {
		return err
	}
	if err := os.MkdirAll(s.images, dirMode); err != nil {
		return storageError("create the image directory", err)
	}
	var leaked int
	if s.db, s.file, leaked, err = openState(s.dir, s.opts.lockTimeout); err != nil {
		return err
	}
	if leaked > 0 {
		s.log.Warn("state file has lost pages; they only take space", "file", s.db.Path(), "pages", leaked)
	}
	if err := s.loadImages(); err != nil {
		return err
	}
	return s.loadContainers()
}

// Close gives the directory up. The registry keeps what was published, and bindings go on; changes fail with
// [source.ErrClosed]. Closing again does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var err error
	var b *breakdown
	switch {
	case errors.As(s.broken, &b):
		// After a fault inside bbolt its locks may be held for ever. Its map ends with the process, and would keep the file
		// locked until then.
		err = errors.Join(unix.Flock(int(s.file.Fd()), unix.LOCK_UN), s.file.Close())
	case s.db != nil:
		err = s.db.Close()
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
}

// usable returns why no change can be made, or nil. The caller holds mu.
func (s *Store) usable() error {
	if s.closed {
		return fmt.Errorf("cannot make changes: %w", source.ErrClosed)
	}
	if s.suspended {
		return fmt.Errorf("cannot make changes: %w", errSuspended)
	}
	if s.broken != nil {
		return fmt.Errorf("cannot make changes: %w: %w; restart devlxd to read the state file again", source.ErrStorage, s.broken)
	}
	return nil
}

// read runs fn on what is committed. The caller holds mu.
func (s *Store) read(fn func(tx *bbolt.Tx) error) error {
	return s.fence(guard(func() error { return s.db.View(fn) }))
}

// commit runs fn in a transaction and makes it durable. On error nothing has changed, or the store is broken. The caller
// holds mu.
func (s *Store) commit(doing string, fn func(tx *bbolt.Tx) error) error {
	id := -1
	err := guard(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			id = tx.ID()
			return fn(tx)
		})
	})
	if err == nil {
		s.opts.faults.Leave(stateKinds[:]...)
		return nil
	}
	return s.settle(doing, id, err)
}

// settle finds out where a failed commit has left the file. The last step of a commit writes the meta page and syncs it:
// if only the sync failed, transaction id is there for readers, and nobody can say whether it is on disk.
func (s *Store) settle(doing string, id int, cause error) error {
	if s.fence(cause); s.broken == nil && id >= 0 {
		s.broken = s.read(func(tx *bbolt.Tx) error {
			if tx.ID() >= id {
				return fmt.Errorf("the last change was written, but the disk failed to confirm it: %w", cause)
			}
			return nil
		})
	}
	if s.broken != nil {
		s.opts.faults.Enter(fault.StateStopped, "file", filepath.Join(s.dir, stateName), "error", s.broken)
		return fmt.Errorf("cannot %s: %w: %w; check the disk that holds the state directory, then restart devlxd", doing, source.ErrStorage, s.broken)
	}
	s.opts.faults.Enter(diskOf(cause).state, "file", filepath.Join(s.dir, stateName), "error", cause)
	return storageError(doing, cause)
}

// fence stops all further use after a breakdown.
func (s *Store) fence(err error) error {
	var b *breakdown
	if errors.As(err, &b) && s.broken == nil {
		s.broken = err
		s.opts.faults.Enter(fault.StateStopped, "file", filepath.Join(s.dir, stateName), "error", err, "stack", b.stack)
	}
	return err
}

// breakdown is a panic or memory fault inside bbolt: the file changed under the map, or the disk failed to give a page.
type breakdown struct {
	cause any
	stack string
}

func (b *breakdown) Error() string { return fmt.Sprintf("the state file cannot be read: %v", b.cause) }

// guard runs fn and returns a panic as *breakdown. A page that the disk does not give is SIGBUS in a memory map, which would
// end the daemon of all guests for the sake of one change.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = &breakdown{cause: p, stack: string(debug.Stack())}
		}
	}()
	return fn()
}
