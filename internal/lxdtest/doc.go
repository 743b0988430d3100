// Package lxdtest runs real LXD and Incus daemons in tests, with small real
// containers, as root on a host that has them installed.
//
// # Nothing is left behind
//
// [Main] runs the tests of a package in a pid, mount and network namespace of their own.
// The daemons, the monitors and the containers are started in there, and the kernel ends
// them all, and takes their mounts away, when the process that runs the tests ends,
// however that happens. The directories of the daemons and the cgroups of the containers
// are removed afterwards by the process outside; only if that gets SIGKILL do they stay, empty. Nothing
// inside reaches the network.
//
// # How a daemon is set up
//
// By hand, without systemd: a directory of its own (LXD_DIR, INCUS_DIR), a storage pool of
// the kind "dir", no network, and an image made here of busybox and the program of
// [devlxd/internal/lxdtest/agent], which is the containers' init. The daemon is
// told what to do by its API, as its own client does.
//
// # How a test speaks as a guest
//
// [Instance.Dial] has a process inside of the container connect to a socket and hand the
// connection out. The peer, as the listener sees it, is that process, so the test
// itself can speak whatever it likes, in the name of the container.
//
// # Concurrency
//
// A [Daemon] and its instances may be used by several goroutines. What fails the test
// (all methods without an error do) belongs to the goroutine of the test.
package lxdtest
