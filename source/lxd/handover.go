package lxd

import (
	"encoding/json"
	"fmt"
	"io"

	"devlxd/internal/logging"
	"devlxd/registry"
	"devlxd/source"
)

// handoverVersion is that of the form of a saved state.
const handoverVersion = 1

// saved is what a process hands to its successor: what was published last, so that what the daemon has changed since becomes events there.
type saved struct {
	Version    int              `json:"version"`
	Member     string           `json:"member,omitempty"` // of a cluster
	Containers []savedContainer `json:"containers"`
	Images     []registry.Image `json:"images"`
}

type savedContainer struct {
	Project    string                       `json:"project"`
	Name       string                       `json:"name"`
	InstanceID string                       `json:"instance_id,omitempty"`
	Config     map[string]string            `json:"config,omitempty"`
	Devices    map[string]map[string]string `json:"devices,omitempty"`
	Profiles   []string                     `json:"profiles,omitempty"`
	Ready      bool                         `json:"ready,omitempty"`
	Forward    bool                         `json:"forward,omitempty"` // the guest's state is yet to be forwarded
	Bound      *source.Facts                `json:"bound,omitempty"`
}

// Save writes what was published, for Restore in another process. Suspend comes before it.
func (m *Mirror) Save(w io.Writer) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	pending := m.states.peek()
	s := saved{Version: handoverVersion, Member: m.member, Containers: make([]savedContainer, 0, len(m.entries)), Images: make([]registry.Image, 0, len(m.images))}
	for k, e := range m.entries {
		c, ok := m.reg.Container(e.name)
		if !ok {
			continue
		}
		snap := c.Snapshot()
		sc := savedContainer{
			Project: k.project, Name: k.name, InstanceID: snap.InstanceID(), Profiles: e.profiles, Ready: e.ready,
			Config: make(map[string]string, len(snap.Config())), Devices: make(map[string]map[string]string, len(snap.Devices())),
		}
		for i := range snap.Config() {
			sc.Config[snap.Config()[i].Key] = string(snap.Config()[i].Value())
		}
		for _, d := range snap.Devices() {
			sc.Devices[d.Name] = make(map[string]string, len(d.Config))
			for _, kv := range d.Config {
				sc.Devices[d.Name][kv.Key] = kv.Value
			}
		}
		if b := c.Binding(); b != nil && !b.Dead() {
			facts := e.facts
			sc.Bound, sc.Ready = &facts, e.state(b)
			_, sc.Forward = pending[b]
		}
		s.Containers = append(s.Containers, sc)
	}
	for _, img := range m.images {
		s.Images = append(s.Images, img)
	}
	return json.NewEncoder(w).Encode(&s)
}

// Restore publishes what a predecessor has saved, and binds the containers whose init process still runs. Start follows the daemon from there.
// The error wraps ErrState.
func (m *Mirror) Restore(r io.Reader) error {
	var s saved
	if err := json.NewDecoder(r).Decode(&s); err != nil {
		return fmt.Errorf("%w (%w)", ErrState, err)
	}
	if s.Version != handoverVersion {
		return fmt.Errorf("%w (its form is %d, not %d)", ErrState, s.Version, handoverVersion)
	}
	m.setMember(s.Member)
	for i := range s.Containers {
		if err := m.restore(&s.Containers[i]); err != nil {
			return err
		}
	}
	images := make(map[string]registry.Image, len(s.Images))
	for _, img := range s.Images {
		images[img.Fingerprint] = img
	}
	m.putImages(images)
	return nil
}

func (m *Mirror) restore(c *savedContainer) error {
	k := key{c.Project, c.Name}
	name := k.registryName()
	spec := registry.Spec{Name: name, Hostname: c.Name, InstanceID: c.InstanceID, Config: c.Config, Devices: c.Devices}
	if _, err := m.reg.Put(spec); err != nil {
		return fmt.Errorf("cannot publish container %q: %w", name, err)
	}
	e := &entry{name: name, profiles: c.Profiles, ready: c.Ready}
	m.mu.Lock()
	m.entries[k], m.names[name] = e, k
	m.mu.Unlock()
	if c.Bound == nil {
		return nil
	}
	log := m.log.With("container", name, "pid", c.Bound.PID)
	proc, err := m.opts.Binder.Open(source.BindRequest{PID: c.Bound.PID, Was: c.Bound})
	if err != nil {
		log.Debug("container has stopped", "error", logging.GuestError(err))
		return nil
	}
	defer proc.Close()
	if !c.Bound.SameProcess(proc.Facts()) {
		return nil
	}
	facts := proc.Facts()
	if err := proc.Activate(name); err != nil {
		log.Warn("container left stopped until the daemon is followed", "error", logging.GuestError(err))
		return nil
	}
	m.mu.Lock()
	e.facts = facts
	m.mu.Unlock()
	if ct, ok := m.reg.Container(name); ok && c.Forward {
		if b := ct.Binding(); b != nil {
			m.StateSet(b)
		}
	}
	return nil
}
