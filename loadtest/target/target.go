package target

import "context"

// Key is the configuration key whose value requests read and events change.
const Key = "user.load"

// Container is what a target is told about a guest.
type Container struct {
	Name   string
	PID    int // init process, seen from the host; 0: registered, but not running
	Config map[string]string
}

// Feature is a bit set of what a target can do.
type Feature uint8

const (
	// Identity: each container is answered with its own value.
	Identity Feature = 1 << iota
	// Routes: all paths that cloud-init reads are there.
	Routes
	// Events: a change of the key reaches the container's subscribers.
	Events
	// Images: files can be exported.
	Images
	// Lifecycle: connections end when their container stops, and it can be bound again.
	Lifecycle
)

// Has reports whether all of f are in the set.
func (s Feature) Has(f Feature) bool { return s&f == f }

// Target is a server under load.
type Target interface {
	// Name says what it is in tables.
	Name() string
	// Socket is the guest socket's path.
	Socket() string
	// PID is the server's process, 0 if it is not known.
	PID() int
	// Features is what it can do.
	Features() Feature
	// Register makes containers known; done is called with how many are so far.
	Register(ctx context.Context, containers []Container, done func(int)) error
	// Set changes a key of a container. It returns when the server has acknowledged the change.
	Set(ctx context.Context, container, key, value string) error
	// Bind says that a stopped container runs again.
	Bind(ctx context.Context, container string, pid int) error
	// Image imports a file as a public image that every container may export, and returns its fingerprint.
	Image(ctx context.Context, path string) (fingerprint string, err error)
	// Counters reads the server's own counters: totals by metric name, summed over all labels. nil: it has none.
	Counters(ctx context.Context) (map[string]float64, error)
	// Restart ends the server and starts it again with what it was told before, so that its memory is that of a new process.
	// ErrUnsupported if it was not started here.
	Restart(ctx context.Context) error
	// Close removes what was added, and ends a server that was started here.
	Close() error
}

// Remover is a target that can forget a container, so that it can be known by another name.
type Remover interface {
	Target
	// Remove takes a container out, whether it runs or not.
	Remove(ctx context.Context, container string) error
}

// Upgrader is a target whose process can hand over to a new one while it serves.
type Upgrader interface {
	Target
	// Upgrade returns when the new process serves. ErrUnsupported: this build cannot.
	Upgrade(ctx context.Context) error
}

// Changer is a target that can change many keys of a container at once.
type Changer interface {
	Target
	// Change sets and removes keys of a container. It returns when the server has acknowledged all of it.
	Change(ctx context.Context, container string, set map[string]string, unset []string) error
}

// Named is a target under another name.
func Named(t Target, name string) Target { return named{t, name} }

type named struct {
	Target
	name string
}

// Name implements Target.
func (n named) Name() string { return n.name }
