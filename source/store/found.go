package store

import (
	"errors"
	"fmt"
	"maps"

	"go.etcd.io/bbolt"

	"devlxd/registry"
	"devlxd/source"
)

// BindFound binds a container that was found running. One that is stored gets its config, and the bind is stored; any other is published without
// config and not written down, until a change of it is made: it is stored from then on. Binding one that runs as that process
// already is no error.
//
// Errors: those of [source.Writer.Bind], and [source.ErrFull]; [source.ErrLocked] where the bind would have to be written down and f.Hold forbids it.
func (s *Store) BindFound(f source.Found) error {
	if err := source.ValidateName(f.Name); err != nil {
		return err
	}
	if err := f.Request.Validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	rec, was, err := s.record(f.Name)
	switch {
	case errors.Is(err, source.ErrNotFound):
		return s.createFound(&containerRecord{name: f.Name, instanceID: f.InstanceID}, f.Request)
	case err != nil:
		return err
	case s.runsAs(f.Name, f.Request.PID):
		return nil
	case was != nil && f.Hold:
		return fmt.Errorf("cannot save the process of container %q: %w", f.Name, errSuspended)
	}
	if err := s.stopped(rec); err != nil {
		return err
	}
	if was != nil {
		return s.bind(rec, was, f.Request)
	}
	proc, err := s.openProcess(rec, f.Request)
	if err != nil {
		return err
	}
	defer proc.Close()
	if err := s.activate(proc, f.Name); err != nil {
		return err
	}
	s.found[f.Name] = rec
	return nil
}

// createFound publishes a container that is not stored, and activates its process: both or nothing.
func (s *Store) createFound(rec *containerRecord, req source.BindRequest) error {
	rec = rec.clone()
	proc, err := s.openProcess(rec, req)
	if err != nil {
		return err
	}
	defer proc.Close()
	if err := s.publish(rec); err != nil {
		return err
	}
	if err := s.activate(proc, rec.name); err != nil {
		_ = s.reg.Remove(rec.name)
		return err
	}
	s.found[rec.name] = rec
	return nil
}

// ForgetFound withdraws a container that was found, is not stored and does not run. Any other stays as it is.
// Errors: those of a store that cannot be changed at the moment.
func (s *Store) ForgetFound(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if s.found[name] == nil {
		return nil
	}
	if c, ok := s.reg.Container(name); ok {
		if b := c.Binding(); b != nil && !b.Dead() {
			return nil
		}
	}
	return s.withdraw(name)
}

// withdraw takes a container out of the registry. The caller holds mu.
func (s *Store) withdraw(name string) error {
	delete(s.found, name)
	if err := s.reg.Remove(name); err != nil && !errors.Is(err, registry.ErrNotFound) {
		return fmt.Errorf("cannot withdraw container %q: %w", name, err)
	}
	return nil
}

// runsAs tells whether a container runs, as the process with this pid.
func (s *Store) runsAs(name string, pid int) bool {
	c, ok := s.reg.Container(name)
	if !ok {
		return false
	}
	b := c.Binding()
	return b != nil && !b.Dead() && b.InitPID() == pid
}

// storeFound stores a container that was found, with what it is added with now. It runs on; a pid must be the one that it runs as.
func (s *Store) storeFound(n source.NewContainer) error {
	old := s.found[n.Name]
	rec := old.clone()
	rec.cgroup, rec.rootUID = n.Cgroup, n.RootUID
	maps.Copy(rec.config, n.Config)
	maps.Copy(rec.devices, (&containerRecord{devices: n.Devices}).clone().devices)
	if n.PID != 0 && !s.runsAs(n.Name, n.PID) {
		if err := s.stopped(rec); err != nil {
			return err
		}
		return s.bind(rec, nil, source.BindRequest{PID: n.PID})
	}
	if err := s.save(fmt.Sprintf("save container %q", n.Name), rec); err != nil {
		return err
	}
	if err := s.publish(rec); err != nil {
		return s.restore(err, n.Name, nil, old)
	}
	return nil
}

// save makes a record durable, also one of a container that was found only.
func (s *Store) save(doing string, rec *containerRecord) error {
	err := s.commit(doing, putContainer(rec.name, rec.encode()))
	if err == nil {
		delete(s.found, rec.name)
	}
	return err
}

// restore takes save back, and returns cause: was are the bytes from before; nil: the container was found only, which found is.
func (s *Store) restore(cause error, name string, was []byte, found *containerRecord) error {
	if was != nil {
		return s.undo(cause, name, putContainer(name, was))
	}
	s.found[name] = found
	return s.undo(cause, name, func(tx *bbolt.Tx) error { return remove(tx, bucketContainers, []byte(name)) })
}
