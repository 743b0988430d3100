package lxd

import (
	"fmt"
	"io"

	"devlxd/registry"
	"devlxd/source"
)

// readOnly refuses a change: words are how an operator makes it with the daemon's own client.
func (m *Mirror) readOnly(words string) error {
	k := m.opts.Address.Kind
	return fmt.Errorf("containers and images are %w, which mirrors %s: make the change there, with '%s %s'", source.ErrReadOnly, k, k.Client(), words)
}

// AddContainer implements [source.Writer] by [source.ErrReadOnly], as all of these methods do.
func (m *Mirror) AddContainer(source.NewContainer) error { return m.readOnly("launch") }

// RemoveContainer implements [source.Writer].
func (m *Mirror) RemoveContainer(string) error { return m.readOnly("delete") }

// Bind implements [source.Writer].
func (m *Mirror) Bind(string, source.BindRequest) error { return m.readOnly("start") }

// UpdateConfig implements [source.Writer].
func (m *Mirror) UpdateConfig(_ string, set map[string]string, _ []string) error {
	if len(set) == 0 {
		return m.readOnly("config unset")
	}
	return m.readOnly("config set")
}

// AddDevice implements [source.Writer].
func (m *Mirror) AddDevice(string, string, map[string]string) error {
	return m.readOnly("config device add")
}

// SetDevice implements [source.Writer].
func (m *Mirror) SetDevice(string, string, map[string]string, []string) error {
	return m.readOnly("config device set")
}

// RemoveDevice implements [source.Writer].
func (m *Mirror) RemoveDevice(string, string) error { return m.readOnly("config device remove") }

// ImportImage implements [source.Writer].
func (m *Mirror) ImportImage(io.Reader, io.Reader, source.ImageOptions) (registry.Image, error) {
	return registry.Image{}, m.readOnly("image import")
}

// RemoveImage implements [source.Writer].
func (m *Mirror) RemoveImage(string) error { return m.readOnly("image delete") }
