package source

import (
	"io"

	"devlxd/registry"
)

// NewContainer is a container to add.
type NewContainer struct {
	Name    string                       `json:"name"`
	Config  map[string]string            `json:"config,omitempty"`
	Devices map[string]map[string]string `json:"devices,omitempty"`
	// Cgroup and RootUID are stored, and serve every later [BindRequest] that leaves them out.
	Cgroup  string  `json:"cgroup,omitempty"`
	RootUID *uint32 `json:"root_uid,omitempty"`
	// PID is the init process to bind in the same step; 0 adds a stopped container.
	PID int `json:"pid,omitempty"`
}

// ImageOptions say how an imported image is offered. A guest may export an image that is public or cached, nothing else.
type ImageOptions struct {
	Public bool `json:"public"`
	Cached bool `json:"cached"`
	// Type is [TypeContainer] or [TypeVirtualMachine]; "" is a container image.
	Type string `json:"type,omitempty"`
}

// Types of image.
const (
	// TypeContainer is an image that containers are made of.
	TypeContainer = "container"
	// TypeVirtualMachine is an image with a disk for virtual machines.
	TypeVirtualMachine = "virtual-machine"
)

// Writer is a source that can be changed. Every method returns after the change is on disk and visible in the registry,
// or with an error after which neither holds; a change is seen whole or not at all. Safe for concurrent use: changes are
// made one after another, and the events of each are published in that order.
//
// The maps given are not kept.
type Writer interface {
	// AddContainer adds a container, and binds it if PID is set: both or nothing. Errors: ErrInvalid, ErrTooLarge,
	// ErrExists, ErrFull, ErrStorage, and those of Bind.
	AddContainer(NewContainer) error
	// RemoveContainer forgets a container. If it runs, its connections are closed. Errors: ErrNotFound, ErrStorage.
	RemoveContainer(name string) error
	// Bind says that the container runs now, as that process. Errors: ErrNotFound, ErrConflict when it runs already,
	// ErrNoProcess, ErrInvalid, ErrStorage.
	Bind(name string, req BindRequest) error
	// UpdateConfig sets and unsets keys in one change; unsetting a key that is not set is no error. Errors: ErrNotFound,
	// ErrInvalid, ErrTooLarge, ErrStorage.
	UpdateConfig(name string, set map[string]string, unset []string) error
	// AddDevice adds a device; config needs "type". Errors: ErrNotFound (container), ErrExists, ErrInvalid, ErrTooLarge,
	// ErrStorage.
	AddDevice(name, dev string, config map[string]string) error
	// SetDevice sets and unsets properties of a device in one change. Errors: ErrNotFound (container or device),
	// ErrInvalid, ErrTooLarge, ErrStorage.
	SetDevice(name, dev string, set map[string]string, unset []string) error
	// RemoveDevice removes a device. Errors: ErrNotFound (container or device), ErrStorage.
	RemoveDevice(name, dev string) error
	// ImportImage reads an image, unified when rootfs is nil and split otherwise, and offers it under the SHA-256 of what
	// was read. Errors: ErrExists, ErrInvalid (no known image format), ErrTooLarge, ErrStorage, and those of the readers.
	ImportImage(meta io.Reader, rootfs io.Reader, o ImageOptions) (registry.Image, error)
	// RemoveImage withdraws an image and deletes its files; a download under way still gets all of it. Errors:
	// ErrNotFound, ErrInvalid, ErrStorage.
	RemoveImage(fingerprint string) error
}
