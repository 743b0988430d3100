package store

import (
	"errors"
	"fmt"

	"devlxd/internal/logging"
	"devlxd/registry"
	"devlxd/source"
)

// Bind implements [source.Writer].
func (s *Store) Bind(name string, req source.BindRequest) error {
	if err := req.Validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	rec, was, err := s.record(name)
	if err != nil {
		return err
	}
	if err := s.stopped(rec); err != nil {
		return err
	}
	return s.bind(rec, was, req)
}

// bind opens a process, stores the bind, and activates it: all or nothing.
func (s *Store) bind(rec *containerRecord, was []byte, req source.BindRequest) error {
	name, found := rec.name, s.found[rec.name]
	proc, err := s.openProcess(rec, req)
	if err != nil {
		return err
	}
	defer proc.Close()
	if err := s.save(fmt.Sprintf("save the process of container %q", name), rec); err != nil {
		return err
	}
	if found != nil { // what it is stored with may be more than what is published
		err = s.publish(rec)
	}
	if err == nil {
		err = s.activate(proc, name)
	}
	if err != nil {
		return s.restore(err, name, was, found)
	}
	return nil
}

// openProcess opens the process of a bind and notes it in rec.
func (s *Store) openProcess(rec *containerRecord, req source.BindRequest) (source.Process, error) {
	if s.binder == nil {
		return nil, errNoBinder
	}
	if req.Cgroup == "" {
		req.Cgroup = rec.cgroup
	}
	if req.RootUID == nil {
		req.RootUID = rec.rootUID
	}
	proc, err := s.binder.Open(req)
	if err != nil {
		return nil, fmt.Errorf("cannot bind container %q to pid %d: %w", rec.name, req.PID, err)
	}
	req.Check = nil // of this call only
	rec.bound = &boundRecord{request: req, facts: proc.Facts()}
	return proc, nil
}

// activate binds an opened process to a published container.
func (s *Store) activate(proc source.Process, name string) error {
	err := proc.Activate(name)
	if err == nil {
		return nil
	}
	if errors.Is(err, source.ErrConflict) {
		return fmt.Errorf("cannot bind container %q: %w", name, err)
	}
	for _, taken := range [...]error{registry.ErrBound, registry.ErrCgroupTaken, registry.ErrPidNSTaken} {
		if errors.Is(err, taken) {
			return fmt.Errorf("cannot bind container %q: %w: %w", name, source.ErrConflict, err)
		}
	}
	return fmt.Errorf("cannot bind container %q: %w", name, err)
}

// stopped makes sure that a container does not run. A container that was restarted may be bound again before its exit was
// seen: the old binding is then stopped here.
func (s *Store) stopped(rec *containerRecord) error {
	c, ok := s.reg.Container(rec.name)
	if !ok {
		return notFound("container", rec.name)
	}
	b := c.Binding()
	if b == nil || b.Dead() {
		return nil
	}
	if s.exited(rec.bound) {
		s.reg.Stop(b)
		return nil
	}
	return fmt.Errorf("%w: container %q runs already with pid %d: bind it again after that process has exited",
		source.ErrConflict, rec.name, b.InitPID())
}

// exited reports whether the process of the last bind is certainly gone.
func (s *Store) exited(bound *boundRecord) bool {
	if bound == nil || s.binder == nil {
		return false
	}
	proc, err := s.binder.Open(bound.request)
	if err != nil {
		return errors.Is(err, source.ErrNoProcess)
	}
	defer proc.Close()
	return replaced(bound.facts, proc.Facts())
}

// replaced reports whether a pid certainly belongs to another process than before. It is not the opposite of SameProcess:
// the cgroup of a container that runs is in use, so that the binder may well not give it a second time.
func replaced(was, now source.Facts) bool {
	differ := func(a, b uint64) bool { return a != 0 && b != 0 && a != b }
	return was.BootID != now.BootID || differ(was.PidfdInode, now.PidfdInode) || differ(was.PidNSIno, now.PidNSIno)
}

// rebind binds a container to the process it was bound to before the daemon was restarted, and reports whether that still
// runs.
func (s *Store) rebind(name string, bound *boundRecord) bool {
	if s.binder == nil {
		return false
	}
	log := s.log.With("container", name, "pid", bound.request.PID)
	req := bound.request
	req.Was = &bound.facts
	proc, err := s.binder.Open(req)
	switch {
	case errors.Is(err, source.ErrNoProcess):
		log.Debug("container has stopped")
		return false
	case err != nil:
		log.Warn("container left stopped: its process cannot be examined; bind it again", "error", logging.GuestError(err))
		return false
	}
	defer proc.Close()
	if !bound.facts.SameProcess(proc.Facts()) {
		log.Info("container left stopped: the pid now belongs to another process")
		return false
	}
	if err := s.activate(proc, name); err != nil {
		log.Warn("container left stopped; bind it again", "error", logging.GuestError(err))
		return false
	}
	return true
}
