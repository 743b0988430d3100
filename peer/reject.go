package peer

import "fmt"

// Reject is why a peer was refused: a closed set, one label each for metrics.
type Reject uint8

const (
	// RejectNone: not refused; the binding and the peer are valid.
	RejectNone Reject = iota

	// RejectCredentials: the socket gives no credentials (not a Unix socket, or the
	// kernel call failed in a way that is not about the peer).
	RejectCredentials

	// RejectGone: the peer exited before it could be identified.
	RejectGone

	// RejectUnknown: no registered container: a host process, a container that is not
	// registered, or a peer that the server cannot see.
	RejectUnknown

	// RejectPidNS: the cgroup names a container, but the peer's pid namespace is not in it.
	RejectPidNS

	// RejectUID: a container was found, but the peer is not its root.
	RejectUID

	// RejectStopped: the container stopped, or is stopping.
	RejectStopped

	// RejectResources: the server is out of descriptors or the kernel out of memory;
	// says nothing about the peer.
	RejectResources

	// RejectUnsupported: the Host has LevelNone.
	RejectUnsupported
)

// AllRejects returns every value, so that counters can be made for each at start.
func AllRejects() []Reject {
	return []Reject{
		RejectNone, RejectCredentials, RejectGone, RejectUnknown, RejectPidNS,
		RejectUID, RejectStopped, RejectResources, RejectUnsupported,
	}
}

// String returns the label used in metrics and logs.
func (r Reject) String() string {
	switch r {
	case RejectNone:
		return "none"
	case RejectCredentials:
		return "credentials"
	case RejectGone:
		return "gone"
	case RejectUnknown:
		return "unknown"
	case RejectPidNS:
		return "pid_namespace"
	case RejectUID:
		return "uid"
	case RejectStopped:
		return "stopped"
	case RejectResources:
		return "resources"
	case RejectUnsupported:
		return "unsupported"
	}
	return fmt.Sprintf("reject(%d)", uint8(r))
}
