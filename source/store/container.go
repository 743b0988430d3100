package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"

	"go.etcd.io/bbolt"

	"devlxd/registry"
	"devlxd/source"
)

// AddContainer implements [source.Writer].
func (s *Store) AddContainer(n source.NewContainer) error {
	if err := n.Validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	switch _, was, err := s.record(n.Name); {
	case err == nil && was == nil:
		return s.storeFound(n)
	case err == nil:
		return exists("container", n.Name)
	case !errors.Is(err, source.ErrNotFound):
		return err
	}
	rec := (&containerRecord{
		name: n.Name, instanceID: newInstanceID(), cgroup: n.Cgroup, rootUID: n.RootUID, config: n.Config, devices: n.Devices,
	}).clone()
	var proc source.Process
	if n.PID != 0 {
		var err error
		if proc, err = s.openProcess(rec, source.BindRequest{PID: n.PID}); err != nil {
			return err
		}
		defer proc.Close()
	}
	return s.create(rec, proc)
}

// create stores and publishes a new container, and activates proc unless it is nil: all or nothing.
func (s *Store) create(rec *containerRecord, proc source.Process) error {
	doing := fmt.Sprintf("save container %q", rec.name)
	if err := s.commit(doing, putContainer(rec.name, rec.encode())); err != nil {
		return err
	}
	err := s.publish(rec)
	if err == nil && proc != nil {
		if err = s.activate(proc, rec.name); err != nil {
			_ = s.reg.Remove(rec.name)
		}
	}
	if err != nil {
		return s.undo(err, rec.name, func(tx *bbolt.Tx) error { return remove(tx, bucketContainers, []byte(rec.name)) })
	}
	return nil
}

// RemoveContainer implements [source.Writer].
func (s *Store) RemoveContainer(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	_, was, err := s.record(name)
	if err != nil {
		return err
	}
	if was != nil {
		err = s.commit(fmt.Sprintf("remove container %q", name), func(tx *bbolt.Tx) error {
			return remove(tx, bucketContainers, []byte(name))
		})
		if err != nil {
			return err
		}
	}
	return s.withdraw(name)
}

// UpdateConfig implements [source.Writer].
func (s *Store) UpdateConfig(name string, set map[string]string, unset []string) error {
	return s.change(name, func(rec *containerRecord) error {
		if err := edit(rec.config, set, unset, source.ValidateKey); err != nil {
			return err
		}
		return source.ValidateConfig(rec.config)
	})
}

// AddDevice implements [source.Writer].
func (s *Store) AddDevice(name, dev string, config map[string]string) error {
	return s.change(name, func(rec *containerRecord) error {
		if _, ok := rec.devices[dev]; ok {
			return exists("device", dev)
		}
		rec.devices[dev] = maps.Clone(config)
		return source.ValidateDevices(rec.devices)
	})
}

// SetDevice implements [source.Writer].
func (s *Store) SetDevice(name, dev string, set map[string]string, unset []string) error {
	return s.change(name, func(rec *containerRecord) error {
		config, ok := rec.devices[dev]
		if !ok {
			return notFound("device", dev)
		}
		if err := edit(config, set, unset, func(string) error { return nil }); err != nil {
			return err
		}
		return source.ValidateDevices(rec.devices)
	})
}

// RemoveDevice implements [source.Writer].
func (s *Store) RemoveDevice(name, dev string) error {
	return s.change(name, func(rec *containerRecord) error {
		if _, ok := rec.devices[dev]; !ok {
			return notFound("device", dev)
		}
		delete(rec.devices, dev)
		return nil
	})
}

// edit sets and unsets keys of m. A key that is not there can be unset if it is one that could be: anything else is a slip
// of the pen.
func edit(m, set map[string]string, unset []string, validate func(key string) error) error {
	for _, key := range unset {
		if _, ok := set[key]; ok {
			return fmt.Errorf("%w change: key %q is both set and unset, choose one", source.ErrInvalid, key)
		}
		if _, ok := m[key]; !ok {
			if err := validate(key); err != nil {
				return err
			}
		}
		delete(m, key)
	}
	maps.Copy(m, set)
	return nil
}

// change applies fn to a container: read, changed, checked, committed, published. What stays the same is not written.
func (s *Store) change(name string, fn func(rec *containerRecord) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	old, was, err := s.record(name)
	if err != nil {
		return err
	}
	rec := old.clone()
	if err := fn(rec); err != nil {
		return err
	}
	if needsNewInstanceID(old, rec) {
		rec.instanceID = newInstanceID()
	}
	if bytes.Equal(rec.encode(), old.encode()) {
		return nil
	}
	found := s.found[name]
	if err := s.save(fmt.Sprintf("save container %q", name), rec); err != nil {
		return err
	}
	if err := s.publish(rec); err != nil {
		return s.restore(err, name, was, found)
	}
	return nil
}

// record reads a container as it is stored, and its bytes, which are nil where it was found only. The caller holds mu.
func (s *Store) record(name string) (rec *containerRecord, raw []byte, err error) {
	if rec = s.found[name]; rec != nil {
		return rec.clone(), nil, nil
	}
	err = s.read(func(tx *bbolt.Tx) error {
		raw = bytes.Clone(tx.Bucket(bucketContainers).Get([]byte(name)))
		return nil
	})
	switch {
	case err != nil:
		return nil, nil, storageError(fmt.Sprintf("read container %q", name), err)
	case raw == nil:
		return nil, nil, notFound("container", name)
	}
	if rec, err = decodeContainer(raw); err == nil && rec.name != name {
		err = fmt.Errorf("it is the record of %q", rec.name)
	}
	if err != nil {
		return nil, nil, damagedError(s.db.Path(), fmt.Sprintf("container %q: %v", name, err))
	}
	return rec, raw, nil
}

// publish makes a stored container visible.
func (s *Store) publish(rec *containerRecord) error {
	id := rec.config[source.KeyInstanceID]
	if id == "" {
		id = rec.instanceID
	}
	_, err := s.reg.Put(registry.Spec{Name: rec.name, InstanceID: id, Config: rec.config, Devices: rec.devices})
	if errors.Is(err, registry.ErrFull) {
		return fmt.Errorf("no room for container %q: registry is %w: remove containers or raise the limit", rec.name, source.ErrFull)
	}
	if err != nil {
		return fmt.Errorf("cannot publish container %q: %w: %w", rec.name, source.ErrInvalid, err)
	}
	return nil
}

// undo takes a committed change back that could not be published, and returns cause.
func (s *Store) undo(cause error, name string, fn func(tx *bbolt.Tx) error) error {
	if err := s.commit(fmt.Sprintf("take back the change of container %q", name), fn); err != nil {
		return fmt.Errorf("%w; the state file holds the change nevertheless: %v", cause, err)
	}
	return cause
}

func putContainer(name string, b []byte) func(tx *bbolt.Tx) error {
	return func(tx *bbolt.Tx) error { return put(tx, bucketContainers, []byte(name), b) }
}

// loadContainers publishes all containers, then binds those that still run.
func (s *Store) loadContainers() error {
	var bound []*containerRecord
	total := 0
	err := s.read(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketContainers).ForEach(func(key, value []byte) error {
			rec, err := decodeContainer(value)
			if err != nil {
				return damagedError(s.db.Path(), fmt.Sprintf("container %q: %v", key, err))
			}
			if rec.bound != nil {
				bound = append(bound, &containerRecord{name: rec.name, bound: rec.bound})
			}
			total++
			return s.publish(rec)
		})
	})
	if err != nil {
		return err
	}
	running := 0
	for _, rec := range bound {
		if s.rebind(rec.name, rec.bound) {
			running++
		}
	}
	s.log.Info("containers loaded", "containers", total, "running", running, "stopped", total-running)
	return nil
}
