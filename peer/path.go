package peer

import "fmt"

// Path is how far the search for a peer's container had to go: a closed set, one
// label each for metrics.
type Path uint8

const (
	// PathNone: there was no search; the peer was refused before.
	PathNone Path = iota

	// PathCgroup: the directory was asked for the peer's own cgroup, once. The fast path.
	PathCgroup

	// PathAncestors: the cgroups above the peer's were looked at.
	PathAncestors

	// PathPidNS: the pid namespaces above the peer's were looked at.
	PathPidNS
)

// AllPaths returns every value, so that counters can be made for each at start.
func AllPaths() []Path { return []Path{PathNone, PathCgroup, PathAncestors, PathPidNS} }

// String returns the label used in metrics.
func (p Path) String() string {
	switch p {
	case PathNone:
		return "none"
	case PathCgroup:
		return "cgroup"
	case PathAncestors:
		return "ancestors"
	case PathPidNS:
		return "pid_namespace"
	default:
		return fmt.Sprintf("path(%d)", uint8(p))
	}
}
