package registry

import "errors"

// The errors of this package. They are comparable values: use errors.Is or ==.
var (
	// ErrName: a container, device or key has an empty name.
	ErrName = errors.New("name is empty: name the container, each device and each key")
	// ErrFull: Options.MaxContainers containers are registered.
	ErrFull = errors.New("registry is full: remove a container or raise the limit of containers")
	// ErrNotFound: no container or image of this name is registered.
	ErrNotFound = errors.New("not found: register it first")
	// ErrRender: Options.RenderValue gave a response that does not end with the value.
	ErrRender = errors.New("rendered response does not end with the value: return the offset where the value starts")
	// ErrLimit: the value of a quota is none.
	ErrLimit = errors.New("limit is malformed: use a whole number from 1 to 1000000000, or unlimited")
	// ErrLimitName: there is no such quota.
	ErrLimitName = errors.New("unknown quota: give QUOTA=VALUE,... and use connections, subscribers, requests, bytes or images")
	// ErrLimitTwice: a quota is set twice.
	ErrLimitTwice = errors.New("quota is given twice: give it once")
	// ErrFingerprint: an image has no fingerprint.
	ErrFingerprint = errors.New("image fingerprint is empty: give the full fingerprint")

	// ErrIdentity: an Identity can tell nobody apart.
	ErrIdentity = errors.New("identity has neither a cgroup nor a pid namespace: give at least one")
	// ErrRootCgroup: cgroup id 1 is the root of the hierarchy and holds every process of the host.
	ErrRootCgroup = errors.New("cgroup is the root of the hierarchy: give a cgroup of the container's own")
	// ErrBound: the container is running already.
	ErrBound = errors.New("container is running already: stop it before it is bound again")
	// ErrCgroupTaken: another running container has this cgroup.
	ErrCgroupTaken = errors.New("cgroup belongs to another running container: give each container its own")
	// ErrPidNSTaken: a pid namespace that is the only proof of one container is used by another one.
	ErrPidNSTaken = errors.New("pid namespace belongs to another running container: give each container its own cgroup or pid namespace")

	// ErrOverrun: events that the cursor asked for have left the ring.
	ErrOverrun = errors.New("events lost: reader too slow")
	// ErrGone: a position cannot be resumed, because its epoch is over or the ring no longer reaches back to it.
	ErrGone = errors.New("position is no longer held: read the configuration again and subscribe anew")
	// ErrRevoked: the guest API was closed to the container since the ring was made.
	ErrRevoked = errors.New("access was closed: read the configuration again and subscribe anew once it is open")
	// ErrPosition: text is not a position.
	ErrPosition = errors.New("position is malformed: give 16 hexadecimal digits, a dot and a decimal offset")

	// ErrStopped: the binding is dead.
	ErrStopped = errors.New("container has stopped: bind it again")
	// ErrRingExists: a ring can be restored only where none is in use yet.
	ErrRingExists = errors.New("ring is in use already: restore it before anyone subscribes")
	// ErrRingState: a RingState contradicts itself.
	ErrRingState = errors.New("ring state is inconsistent: give the state that the registry exported")
)
