package lxd

import (
	"context"
	"errors"
	"fmt"

	"devlxd/source"
)

// bind ties a container to its init process, if it runs and is not tied to it already.
func (s *session) bind(ctx context.Context, i *instance, e *entry) error {
	m := s.m
	c, ok := m.reg.Container(e.name)
	if !ok {
		return nil
	}
	if b := c.Binding(); b != nil {
		if !m.opts.host.ended(e.facts) {
			return nil
		}
		m.reg.Stop(b) // the daemon was quicker than the watcher of the process
	}
	if !i.runs() {
		return nil
	}
	proc, by, err := s.find(ctx, i.key(), e.name)
	if err != nil {
		if errors.Is(err, source.ErrNoProcess) && !s.stillRuns(ctx, i.key()) {
			return nil
		}
		m.counts.binds[bindFailed].Add(1)
		return fmt.Errorf("cannot bind container %q: %w", e.name, err)
	}
	defer proc.Close()
	facts := proc.Facts()
	if err := proc.Activate(e.name); err != nil {
		m.counts.binds[bindFailed].Add(1)
		return fmt.Errorf("cannot bind container %q: %w", e.name, err)
	}
	m.counts.binds[by].Add(1)
	m.mu.Lock()
	e.facts = facts
	ready := e.ready
	m.mu.Unlock()
	if b := c.Binding(); b != nil && ready {
		b.SetReady(true)
	}
	return nil
}

// stillRuns asks whether an instance whose process is not to be found is running at all.
func (s *session) stillRuns(ctx context.Context, k key) bool {
	i, err := s.client.instance(ctx, k)
	return err == nil && i.runs()
}

// find opens the init process of an instance, and makes sure that it is that.
//
// The quick way is the host's own: the process is a child of the instance's monitor, which is a process of the host's root that no guest can
// pass for. Else the daemon is asked for the pid, twice: what holds the pid while the daemon says that it is the instance's, is the
// instance's, since a pid that is held is not given to another process.
func (s *session) find(ctx context.Context, k key, name string) (source.Process, bindResult, error) {
	m := s.m
	for _, pid := range m.opts.host.inits(s.dirs, name) {
		proc, err := m.opts.Binder.Open(source.BindRequest{PID: pid})
		if err != nil {
			continue
		}
		if m.opts.host.proves(s.dirs, name, pid) {
			return proc, bindMonitor, nil
		}
		_ = proc.Close()
	}
	pid, err := s.client.initPID(ctx, k)
	if err != nil {
		return nil, bindFailed, err
	}
	if pid == 0 {
		return nil, bindFailed, fmt.Errorf("daemon knows no process of it: %w", source.ErrNoProcess)
	}
	proc, err := m.opts.Binder.Open(source.BindRequest{PID: pid})
	if err != nil {
		return nil, bindFailed, err
	}
	again, err := s.client.initPID(ctx, k)
	if err == nil && (again != pid || m.opts.host.ended(proc.Facts())) {
		err = fmt.Errorf("it was restarted just now: %w", source.ErrNoProcess)
	}
	if err != nil {
		_ = proc.Close()
		return nil, bindFailed, err
	}
	return proc, bindAPI, nil
}
