package registry

import "sync/atomic"

// Container is one registered container, from its first Put until Remove. It is safe for concurrent use; reading never locks. After
// Remove it keeps its last snapshot and has no binding any more; another Put of the name makes another Container.
type Container struct {
	name     string
	snapshot atomic.Pointer[Snapshot] // never nil
	binding  atomic.Pointer[Binding]  // nil while the container is stopped
	attached atomic.Pointer[any]      // see Attachment
}

// Name returns the name of the container.
func (c *Container) Name() string { return c.name }

// Snapshot returns the current state. A caller that looks at several parts of it should load it once.
func (c *Container) Snapshot() *Snapshot { return c.snapshot.Load() }

// Binding returns the current life of the container, nil when it is stopped.
func (c *Container) Binding() *Binding { return c.binding.Load() }

// Attachment returns what a server keeps beside the container in all its lives, made by the first call that has a make; of several at once
// one counts. nil: there is none, and make is nil.
func (c *Container) Attachment(make func() any) any {
	if p := c.attached.Load(); p != nil {
		return *p
	}
	if make == nil {
		return nil
	}
	made := make()
	if c.attached.CompareAndSwap(nil, &made) {
		return made
	}
	return *c.attached.Load()
}
