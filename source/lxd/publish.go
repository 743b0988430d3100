package lxd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"devlxd/fault"
	"devlxd/registry"
	"devlxd/source"
)

// publish makes the registry say what was read of an instance. The error is nil or says what is to be tried again.
func (s *session) publish(ctx context.Context, i *instance) error {
	if !i.mirrored(s.server.member()) {
		s.m.remove(i.key())
		return nil
	}
	if s.m.opts.Privileged != nil && i.privileged() {
		s.m.opts.Privileged()
	}
	e, err := s.m.put(i)
	if err != nil {
		return err
	}
	return s.bind(ctx, i, e)
}

// put publishes config and devices.
func (m *Mirror) put(i *instance) (*entry, error) {
	k, spec := i.key(), i.spec()
	m.mu.Lock()
	defer m.mu.Unlock()
	if other, taken := m.names[spec.Name]; taken && other != k {
		return nil, fmt.Errorf("%w: instance %q of project %q and %q of %q have the same name here: rename one", source.ErrConflict, k.name, k.project, other.name, other.project)
	}
	// Under mu, so that Save sees either both or none. The registry never calls the mirror.
	if _, err := m.reg.Put(spec); err != nil {
		if errors.Is(err, registry.ErrFull) {
			err = fmt.Errorf("%w: %w", source.ErrFull, err)
		}
		return nil, fmt.Errorf("cannot publish container %q: %w", spec.Name, err)
	}
	e := m.entries[k]
	if e == nil {
		e = &entry{name: spec.Name}
		m.entries[k], m.names[spec.Name] = e, k
		m.log.Debug("container mirrored", "container", spec.Name)
	}
	e.profiles, e.ready = i.Profiles, i.ExpandedConfig[keyReady] == "true"
	return e, nil
}

// remove forgets an instance that is no longer there, or not here.
func (m *Mirror) remove(k key) {
	m.mu.Lock()
	e := m.entries[k]
	if e != nil {
		delete(m.entries, k)
		delete(m.names, e.name)
	}
	m.mu.Unlock()
	m.mended(task{readInstance, k})
	if e == nil {
		return
	}
	if err := m.reg.Remove(e.name); err == nil {
		m.log.Debug("container gone", "container", e.name)
	}
}

// keys lists what is mirrored.
func (m *Mirror) keys() []key {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.entries))
}

// using lists the instances that have a profile. A project without profiles of its own takes those of the project "default", so
// that the project of the profile says little.
func (m *Mirror) using(c change) (keys []key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, e := range m.entries {
		if (k.project == c.group || c.group == defaultProject) && (slices.Contains(e.profiles, c.name) || c.old != "" && slices.Contains(e.profiles, c.old)) {
			keys = append(keys, k)
		}
	}
	return keys
}

// within lists the instances of a project.
func (m *Mirror) within(c change) (keys []key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range m.entries {
		if k.project == c.name || c.old != "" && k.project == c.old {
			keys = append(keys, k)
		}
	}
	return keys
}

// failed notes what could not be mirrored, for the operator.
func (m *Mirror) failed(t task, err error) {
	m.mu.Lock()
	m.broken[t] = err
	m.mu.Unlock()
	m.faults.Enter(fault.MirrorPart, "project", t.key.project, "instance", t.key.name, "error", err)
}

// mended takes that back.
func (m *Mirror) mended(t task) {
	m.mu.Lock()
	delete(m.broken, t)
	whole := len(m.broken) == 0
	m.mu.Unlock()
	if whole {
		m.faults.Leave(fault.MirrorPart)
	}
}
