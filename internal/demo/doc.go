// Package demo tells the story of "devlxd demo": three real containers ask a
// running server for everything that the guest API has, and each answer is
// printed and checked.
//
// A [Tour] is given the run directory of a daemon and a function that runs the
// commands of devlxd; it knows nothing else of the server. What it asks, it asks
// as a stranger would: with net/http and github.com/coder/websocket, in processes
// inside of the containers ([Roles]). The commands of the operator that it prints
// are the ones that it runs. The shell lines of the guests that it prints do what
// the roles do, so that a newcomer can type them.
//
// # What is promised
//
//   - [Tour.Run] returns nil only if every check held. Its error says which answer
//     differed and how.
//   - A check that the host does not allow is printed as left out, with the reason.
//   - [Tour.Close] returns when no process, mount or cgroup of the containers is left.
//
// A [Tour] belongs to one goroutine.
package demo
