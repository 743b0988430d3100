// Package guests emulates containers by the thousand: processes that a server
// under load cannot tell from the init processes of real containers, while one
// process drives all their connections.
//
// A guest is pid 1 of a pid namespace of its own, root in a user namespace of its
// own and, where the host allows it, alone in a cgroup v2 of its own. It connects
// to the server's socket when it is told to and passes the connected sockets on
// (SCM_RIGHTS). The server sees the guest for ever: credentials, pidfd and cgroup
// of a peer are those of the process that called connect(2) (unix(7), SO_PEERCRED).
//
// # How it is made
//
// [Start] runs one small helper program (helper/*.c, built without a C library,
// embedded, executed from a memfd). It forks all guests itself with clone3(2),
// straight into their namespaces and cgroups, so that a guest takes about a
// millisecond to start, one or two pages of its own, and well below 100 KB of the
// host's memory (`go test -run XXX -bench Host ./loadtest/guests`, which starts 4200).
//
// Guests are told what to do through shared memory with one futex for each, and
// answer on one socket that they all inherit. So a guest costs the calling process
// no descriptor, which leaves its limit (RLIMIT_NOFILE) to the connections.
//
// # Jobs
//
// Guests can also work by themselves ([Set.Launch]): flood the server from several
// processes, or ask for the container's secret over and over and compare. What they
// have seen is counted in the shared memory ([Set.Counts]).
//
// # Real containers
//
// [Options.Attach] starts guests in containers that exist already, of any runtime,
// named by their init processes: in their pid and user namespaces and cgroup, as
// children of their init, but with the host's files and network, so that the path
// given to [Set.SetSocket] is one of the host.
//
// # What is promised
//
//   - Start returns when all guests run, or everything made for them is gone again
//     and the error says what the host does not allow.
//   - Where the host allows less than asked for but enough to go on, [Set.Notes]
//     says so.
//   - Each connection asked for is reported by [Set.Receive] exactly once: connected,
//     with the error of socket(2) or connect(2), or with ECANCELED because the guest
//     ended before it could tell. Only what was connected and is on the way when a
//     guest ends may have been seen by the server and still be reported as ECANCELED.
//   - [Set.Close] returns when no process is left and all cgroups are removed.
//   - No process outlives the caller, however that ends: the helper sees its socket
//     close, kills all guests and removes the cgroups. When the helper is killed too,
//     guests die with it (PR_SET_PDEATHSIG), attached ones within about a second, and
//     their empty cgroups, `devlxd-load.*`, are removed by the next Start.
//
// # Concurrency
//
// [Set.SetSocket], [Set.Connect] and [Set.Receive] are for one goroutine at a time;
// it may call them from the function that Receive calls. [Set.Launch] and [Set.Halt] are
// for one goroutine at a time for each guest, which has no connections under way.
// Everything else is safe for concurrent use, also beside these, except Close, which
// comes last.
package guests
