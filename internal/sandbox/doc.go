// Package sandbox starts small real containers: a process tree in pid, user,
// mount and UTS namespaces of its own, with a root file system of its own in
// which a directory of the host stands at /dev/lxd. It needs Linux and nothing
// else: no image, no other program, no network, and no root where the host
// allows unprivileged user namespaces.
//
// It is made to show and to test a server that tells containers apart. It is
// not a runtime for programs that nobody trusts: there is no seccomp filter, no
// limit on resources, and the network is the host's.
//
// # How a container comes up
//
// [Start] runs the calling program again, through /proc/self/exe, in new
// namespaces. [Main], which the program calls first of all, sees that and
// becomes the container's init: it builds the root, tells the caller, and then
// starts what [Container.Command] and [Container.Guest] ask for. A guest is a
// function of the program itself, registered by name with Main and run in a
// process inside of the container, so nothing has to be installed there.
//
// # What a process inside sees
//
//   - root, whom the host sees as [Container.RootUID]: the caller's own uid, or as
//     root one of 65536 ids of the container's own;
//   - itself below pid 1, and /proc of its own pid namespace;
//   - /usr, /bin, /lib*, /etc and the like of the host, read-only; an own /tmp; a
//     /dev with null, zero, full, random, urandom and tty; no home directories
//     and no sockets of the host but those in the given directory;
//   - the given directory at /dev/lxd, read-only: a socket in it can be
//     connected to, and one that is made in it later shows up;
//   - its own cgroup v2 tree at /sys/fs/cgroup, if it has one;
//   - the container's name as host name.
//
// # What is promised
//
//   - Start returns when the container is ready, or everything made for it is gone
//     again and the error says what the host does not allow.
//   - Where the host allows less than asked for but enough to go on, [Container.Notes]
//     says so.
//   - [Container.Stop] returns when no process of the container is left and its
//     cgroups are removed. Mounts end with the processes: no mount is ever made in
//     the caller's mount namespace.
//   - No process outlives the caller, however that ends: the init gets SIGKILL when the
//     caller dies (PR_SET_PDEATHSIG), and leaves by itself when its control socket
//     closes. Only an empty cgroup can be left after SIGKILL.
//
// # Concurrency
//
// A [Container] is safe for concurrent use. A [Cmd] belongs to one goroutine,
// except for its writers, which are written to by others.
package sandbox
