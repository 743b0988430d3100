package peer

import "errors"

// Errors of OpenInit, the Watcher and Probe. They are wrapped with what was
// looked at; test with errors.Is.
var (
	// ErrNoProcess: the pid is not a live process, or it ended while it was read.
	ErrNoProcess = errors.New("no such live process: give the pid of the container's init")

	// ErrHidden: the process lives, but the server is not shown what it has to know of it (ptrace(2), hidepid of proc(5)).
	ErrHidden = errors.New("the process is hidden from the server: give devlxd CAP_SYS_PTRACE, or remount /proc without hidepid")

	// ErrNotContainer: the process shares the server's pid namespace and has no cgroup of its own.
	ErrNotContainer = errors.New("the process is not in a container: it has neither a pid namespace nor a cgroup v2 of its own")

	// ErrForeignPidNS: the pid namespace is not below the server's, so peers in it are not visible.
	ErrForeignPidNS = errors.New("the pid namespace of the process is not below the server's: run the server in an ancestor of it")

	// ErrNoRootUID: the user namespace does not map a root, so no peer could be authorized.
	ErrNoRootUID = errors.New("the user namespace maps no root: give the host uid of the container's root")

	// ErrUIDMap: /proc/PID/uid_map does not have the form of user_namespaces(7).
	ErrUIDMap = errors.New("uid_map is malformed: want lines of three numbers")

	// ErrCgroupLine: /proc/PID/cgroup has no usable cgroup v2 line.
	ErrCgroupLine = errors.New("no usable cgroup v2 line in /proc/PID/cgroup: is cgroup2 mounted on this host")

	// ErrCgroupPath: the path given for the container's cgroup is not one below the cgroup2 mount.
	ErrCgroupPath = errors.New("not a cgroup v2 directory: give a path below the cgroup2 mount")

	// ErrCgroupReserved: the cgroup is the root, the server's own or one above it.
	ErrCgroupReserved = errors.New("the cgroup is the root, the server's own or one above it: give the container a cgroup of its own")

	// ErrCgroupNotInit: the cgroup given does not hold the init process.
	ErrCgroupNotInit = errors.New("the cgroup does not hold the init process: give the cgroup that the container was started in")

	// ErrCgroupTaken: the cgroup given belongs to another registered container.
	ErrCgroupTaken = errors.New("the cgroup belongs to another registered container: give this one a cgroup of its own")

	// ErrNested: the cgroup is below or above that of another registered container.
	ErrNested = errors.New("the cgroup is nested with that of another registered container: only one of the two can be registered")

	// ErrNoCgroup2: a cgroup path was given, but the host has no usable cgroup2 mount.
	ErrNoCgroup2 = errors.New("no usable cgroup2 mount: mount cgroup2 or leave out the cgroup path")

	// ErrNotWorking: a start-up check needed for the wanted level failed.
	ErrNotWorking = errors.New("the kernel or the permissions do not allow this level of identification: choose a lower one")

	// ErrNoProc: /proc is not a procfs of the server's own pid namespace.
	ErrNoProc = errors.New("/proc does not show the server's own pid namespace: mount procfs there")

	// ErrWatcherClosed: the watcher does not watch any more.
	ErrWatcherClosed = errors.New("the watcher is closed")

	// ErrWatched: the descriptor is watched already.
	ErrWatched = errors.New("the pidfd is watched already: remove it first")
)
