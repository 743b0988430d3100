package registry

import "sync/atomic"

// Container is one registered container, from its first Put until Remove. It is safe for concurrent use; reading never locks. After
// Remove it keeps its last snapshot and has no binding any more; another Put of the name makes another Container.
type Container struct {
	name     string
	snapshot atomic.Pointer[Snapshot] // never nil
	binding  atomic.Pointer[Binding]  // nil while the container is stopped
}

// Name returns the name of the container.
func (c *Container) Name() string { return c.name }

// Snapshot returns the current state. A caller that looks at several parts of it should load it once.
func (c *Container) Snapshot() *Snapshot { return c.snapshot.Load() }

// Binding returns the current life of the container, nil when it is stopped.
func (c *Container) Binding() *Binding { return c.binding.Load() }
