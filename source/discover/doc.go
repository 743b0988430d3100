// Package discover finds the running containers of plain LXC, systemd-nspawn and podman by their cgroups, and has the source
// bind them to their init processes.
//
// # What is a container
//
// A runtime keeps its containers in places of its own in the cgroup v2 tree. The rules of each are in one file (lxc.go,
// nspawn.go, podman.go): which directories are such places, which cgroup in one is a container's own, and how a container is
// called. Only those places count. A container with a delegated cgroup makes what it wants below its own, lxc.payload.victim
// included, and that is never looked at; a place that somebody else than the owner of the tree could write to is none.
//
// The init process is the one that is process 1 of a pid namespace just below that of the daemon: it is reached from any
// process of the cgroup by going up to parents. Names come from the path of the cgroup, which root on the host has chosen,
// and, where the path alone does not say (LXC appends -1 to what is taken; podman's path holds an id), from the arguments of
// the supervisor outside of the container that is the parent of init. Where that does not say it either the container is left
// alone: refused, never guessed.
//
// # How it follows them
//
// inotify(7) tells of directories that appear and vanish in the places, and of cgroup.events of a container that is not bound
// yet (cgroup-v2: "populated" changes generate a file modified event). A container that is bound needs no watch: its exit is
// seen by the [source.Binder], which calls [Discovery.Stopped]. When the kernel drops events (IN_Q_OVERFLOW) everything is read
// again. fsnotify(github.com/fsnotify/fsnotify) is not used since it lets nobody choose the events of a watch: with its own the files of a
// directory count too, so that a guest could keep the daemon busy by writing to files of its cgroup.
//
// What cannot be bound yet, such as an init without a uid map, is tried again, after 5 ms first and every 5 s at last.
package discover
