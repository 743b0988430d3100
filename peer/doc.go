// Package peer answers one question about an accepted Unix socket: which
// registered container connected it. The answer is a container or a refusal,
// never a guess.
//
// # What identifies a container
//
// A container is known by its cgroup v2 id, a 64-bit number that the kernel
// never gives out twice, or, when it has no cgroup of its own, by its pid
// namespace, which the pidfd on its init holds, so that the inode number cannot be
// used again.
// Both are learned from the container's init process by [Host.OpenInit]. Nothing
// that a guest can write takes part: not process names, not argv, not cgroup names
// (a path is used only to reach a directory, whose inode number then counts), not
// process start times, and not the cgroup v1 lines of /proc/PID/cgroup, because
// only cgroup v2 forbids a process to leave its subtree without write access to
// the common ancestor.
//
// # How a peer is resolved
//
// [Identify] is called once for each connection, right after accept, and its
// answer holds for the life of the connection. The kernel recorded the peer at
// connect(2): passing the descriptor to another process, exec, fork and reuse of the
// pid do not change who it is. What differs between kernels is how that record
// can be read, a [Level] that [Probe] finds out once:
//
//	LevelInfoExit   6.16  SO_PEERPIDFD, PIDFD_GET_INFO; also for a peer that exited and was reaped
//	LevelInfo       6.13  the same; an exited and reaped peer is refused
//	LevelPeerPidfd  6.5   SO_PEERPIDFD, /proc/PID/cgroup, then "is the pidfd still alive"
//	LevelPidfdOpen  5.3   pidfd_open right after accept, then the same
//
// On LevelPidfdOpen one hole is left: between connect and accept the pid can be
// reused, which takes a whole turn of pid_max while the connection waits in the
// backlog, and a process of another container with the same root uid. There, too, a peer
// that has changed its uid without exec is refused as [RejectGone] and not as
// [RejectUID]: /proc/PID of a process that is not dumpable (proc(5)) belongs to the root
// of its user namespace, so whether the pid is still that of the uid that connected
// cannot be seen.
//
// The peer's cgroup is looked up among the registered ones. One that is not
// registered is a leaf below a payload: the directory is opened by its id and
// followed upwards to the root, at most 64 levels. The outermost registered
// ancestor answers, so a container inside a registered container is part of it;
// pid namespaces follow the same rule. The leaf is then offered to
// [Directory.CacheLeaf]: cgroup v2 directories can be neither renamed nor moved,
// so a cached leaf never becomes wrong.
//
// A hit in the directory is then tested, in this order: is the binding still
// alive, does the pid namespace agree where that is required, and is the peer's
// uid the container's root.
//
// # When the pid namespace is a second proof
//
// A privileged container that sees the host's cgroup v2 tree can move itself
// into the cgroup of another container, and setuid to the root of any. It cannot enter
// a pid namespace that is not below its own. So the peer's pid namespace must be
// the container's own or one below it
//
//   - for every privileged binding;
//   - for every binding from the moment on in which the server knows of a privileged
//     container, to the end of the process: the container can run on when it is not bound, or
//     not bound yet, or removed. It is known when [Host.OpenInit] has seen it, when
//     [Host.RequirePidNS] was called, as is due for those remembered from an earlier
//     process of the server, or from the start with [Options.PidNSAlways];
//   - for a binding whose cgroup was later found to hold another container's init
//     as well (see [Host.OpenInit]).
//
// A peer that exited before it was identified cannot give this proof and is refused. A
// privileged container that the server never heard of is beyond all but PidNSAlways.
//
// # Limits
//
// The host's root is trusted: a process that it moves to another cgroup belongs
// there from then on, until the connection is identified. A process that gives
// its open connection to another container gives away what it was allowed to do.
//
// # Concurrency
//
// A [Host] is safe for concurrent use. [Identify] blocks on nothing but the
// kernel: four system calls and no allocation where the cgroup id is known.
package peer
