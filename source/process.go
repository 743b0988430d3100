package source

// BindRequest names the process that a container runs as, and how it is recognised.
type BindRequest struct {
	// PID is the container's init process in the pid namespace of the daemon.
	PID int `json:"pid"`
	// Cgroup is the path of the payload cgroup below the cgroup2 mount; "" takes the one the process is in.
	Cgroup string `json:"cgroup,omitempty"`
	// RootUID is the host uid that uid 0 of the container maps to; nil reads it from the process.
	RootUID *uint32 `json:"root_uid,omitempty"`
	// Was is what is remembered of the process, where it is bound again after a restart of the daemon; nil at its first bind.
	Was *Facts `json:"-"`
	// CgroupID is the id of the container's own cgroup where it is known for certain, because its runtime put it there: processes of the
	// host that are in it at the moment belong there then. 0: it is found out.
	CgroupID uint64 `json:"-"`
	// Check, unless nil, is asked after the process was opened: an error says that its pid may be that of another one by now.
	Check func() error `json:"-"`
}

// Found is a container that was found running, by what its runtime says of it.
type Found struct {
	Name string
	// InstanceID is the instance id that cloud-init sees, where the container is kept nowhere.
	InstanceID string
	Request    BindRequest
	// Hold says that nothing may be written down now: what would be is refused with [ErrLocked].
	Hold bool
}

// Facts are what a source remembers of a bound init process, to recognise it after a restart of the daemon. They never
// serve to identify a peer.
type Facts struct {
	// PID is the process in the pid namespace of the daemon.
	PID int `json:"pid"`
	// PidfdInode is the inode of its pidfd where the kernel gives a unique one (Linux 6.9, pidfs); 0 otherwise.
	PidfdInode uint64 `json:"pidfd_inode,omitempty"`
	// BootID is /proc/sys/kernel/random/boot_id at bind.
	BootID string `json:"boot_id,omitempty"`
	// CgroupID is the cgroup2 id of the container's own cgroup; 0 when it has none.
	CgroupID uint64 `json:"cgroup_id,omitempty"`
	// PidNSIno is the inode of its pid namespace. The kernel reuses these at once.
	PidNSIno uint64 `json:"pid_ns_ino,omitempty"`
	// RootUID is the host uid of the container's root.
	RootUID uint32 `json:"root_uid"`
	// Privileged says that host uid 0 is mapped in the container.
	Privileged bool `json:"privileged,omitempty"`
}

// SameProcess reports whether now, read from a living process, describes the process that f was saved from.
//
// Both must come from the same boot, since every other number starts again with the next one. Then the pidfd inode
// decides where both know it: pidfs never reuses it within a boot. Otherwise the process must be in the same cgroup,
// whose id is not reused within a boot either, and in the same pid namespace. Without a cgroup of its own a container of
// an older kernel is never recognised and has to be bound again: better stopped than taken for another.
func (f Facts) SameProcess(now Facts) bool {
	if f.BootID == "" || f.BootID != now.BootID || f.PID != now.PID {
		return false
	}
	if f.PidfdInode != 0 && now.PidfdInode != 0 {
		return f.PidfdInode == now.PidfdInode
	}
	return f.CgroupID != 0 && f.CgroupID == now.CgroupID && f.PidNSIno != 0 && f.PidNSIno == now.PidNSIno
}

// Process is an init process that was opened and examined but is not bound yet. It holds kernel objects, so that the
// process cannot be mistaken for another while the source stores its facts. Used by one goroutine.
type Process interface {
	// Facts returns what to remember. It does no I/O.
	Facts() Facts
	// Activate makes the process the running one of the container, which is in the registry, and watches it: when it
	// exits, the binding is stopped. On success the binding owns the kernel objects and Close does nothing any more.
	Activate(name string) error
	// Close gives the kernel objects back, unless Activate succeeded.
	Close() error
}

// Binder opens init processes. Safe for concurrent use.
type Binder interface {
	// Open examines the process of req and holds on to it. The error wraps [ErrNoProcess] when there is no such process
	// or it has exited, and [ErrInvalid] when the process cannot be a container. Whatever comes of it, a privileged container
	// that req.Was remembers is taken to run still, bound or not, for the identification of others.
	Open(req BindRequest) (Process, error)
}
