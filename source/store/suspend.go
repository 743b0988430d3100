package store

import (
	"errors"
	"fmt"

	"devlxd/source"
)

// Suspend gives the directory up for a successor process, until Resume. The registry keeps what was published, and bindings go on; changes
// fail with [source.ErrLocked]. No image may be under way: what its import has left would be removed by the successor.
func (s *Store) Suspend() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	err := errors.Join(s.db.Close(), s.lock.Close())
	s.db, s.file, s.lock, s.suspended = nil, nil, nil, true
	if err != nil {
		return storageError("close the state file", err)
	}
	return nil
}

// Resume takes the directory back from a successor that has changed nothing. When that fails, changes are refused from then on, with the
// reason, and everything else goes on.
func (s *Store) Resume() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !s.suspended {
		return s.usable()
	}
	s.suspended = false
	var err error
	if s.lock, err = lockDir(s.dir, s.opts.lockTimeout); err == nil {
		s.db, s.file, _, err = openState(s.dir, s.opts.lockTimeout)
	}
	if err != nil {
		s.broken = fmt.Errorf("the state file could not be opened again: %w", err)
	}
	return err
}

// errSuspended says why no change is made while a successor has the directory.
var errSuspended = fmt.Errorf("state directory is %w, which is about to take over: try again", source.ErrLocked)
