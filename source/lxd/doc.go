// Package lxd mirrors the containers of a LXD or Incus daemon, and offers its images. Nothing is stored: the daemon is asked over its Unix socket, and
// followed.
//
// # What is mirrored
//
// The containers of all projects that run on this member of a cluster, with their expanded config and devices. Of the config only what a
// guest may be shown is kept, and what decides whether and how much: user.*, cloud-init.*, security.devlxd and security.guestapi
// with their .images, limits.devlxd.*, volatile.NAME.hwaddr, which the guest API shows with a nic, and volatile.cloud-init.instance-id. Virtual
// machines are left out: they do not reach a Unix socket of the host.
//
// A container of the project "default" is called as the daemon calls it, that of another project PROJECT_NAME, which is what the daemon
// calls its cgroup and its directory. No two can be the same, since neither a project nor an instance may have a '_'. The guest is told the
// name alone.
//
// Images are those of the project "default", as in the daemon's own guest API. They are sent from the daemon's directory, and left
// out while their files are not there.
//
// # How the daemon is followed
//
// A session opens the feed of lifecycle events, then reads everything, then reads again what was announced since. An event only says
// what to read; what is published is what was read, so that events may come late, twice and in any order. What is announced while it is being read is
// read again. The differences to what was published before are made events for guests by the registry. Changes that follow one another within
// the few milliseconds of a read are one difference: a device that is added and removed in that time is no event, where the daemon's own guest
// API sends two.
//
// When the feed ends, or nothing comes through it, everything stays as it is, guests are served, and the next session is tried, each time
// after twice as long up to ten seconds, or one where there is nobody to connect to. Its first list is compared like everything else: guests are sent exactly what has changed. A list
// that is cut off changes nothing.
//
// A list costs the daemon half a millisecond for each instance, and reading one three: of many that are to be read the list is.
//
// # Identity
//
// A container that the daemon says is running is bound to its init process, which is found by its parent, the instance's monitor. Otherwise
// the daemon is asked for the pid (see find). It stops being bound when the process exits, which the kernel says, or when the
// instance is deleted or moves away: not when the daemon is away, or takes it for stopped.
//
// # The state of guests
//
// PATCH /1.0 of a guest is kept with the binding, shown by "devlxd container show", and forwarded as the config key
// volatile.last_state.ready, at most once a second for each container and only where it differs. Incus takes it. LXD 5.0 lets nobody but itself
// set that key: it is asked once in each session. A container that is bound begins with the state that the daemon has. A change that comes while the
// daemon is away is forwarded when it is back.
//
// # Hand-over
//
// Suspend ends the session, Save writes what was published, and Restore publishes that in the successor, whose first session then finds the
// same differences that the next one here would have.
package lxd
