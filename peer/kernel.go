package peer

// Numbers of the kernel's interface that golang.org/x/sys/unix does not have.
const (
	// fileidKernfs is FILEID_KERNFS of include/linux/exportfs.h: a file handle whose
	// eight bytes are the 64-bit kernfs id, which for cgroup v2 is the cgroup id
	// and st_ino (Linux 5.5).
	fileidKernfs = 0xfe

	// pidfdInfoSupportedMask is PIDFD_INFO_SUPPORTED_MASK of include/uapi/linux/pidfd.h
	// (Linux 6.19). Kernels ignore request bits that they do not know.
	pidfdInfoSupportedMask = 1 << 5

	// rootCgroup is the id of the root of the cgroup v2 hierarchy: kernfs numbers
	// its root 1 (fs/kernfs/dir.c, kernfs_create_root).
	rootCgroup = 1

	// unmappedID is (uid_t)-1: user_namespaces(7) shows it where an id has no
	// mapping in the reader's user namespace.
	unmappedID = 1<<32 - 1

	// maxPidNSDepth is MAX_PID_NS_LEVEL of include/linux/pid_namespace.h.
	maxPidNSDepth = 32

	// maxCgroupDepth bounds the way from a leaf up to the root.
	maxCgroupDepth = 64
)
