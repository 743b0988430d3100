// Package loadtest is the load generator of devlxd: it drives a server of the
// guest API as thousands of real containers would, checks every answer and every
// event, and measures.
//
// # How it works
//
// Package guests makes the containers: processes in cgroups and namespaces of
// their own, which connect from inside and hand over the connections. One epoll
// loop of this package then drives all of them, so that the server sees real
// credentials while the load costs one thread. Package target starts or finds
// the server, and package report writes what came out.
//
// Containers that flood the server, and those that check who they are taken for, work
// by themselves instead, in processes of their own (guests.Set.Launch). Those that
// flood get the CPU time that nobody else wants, so that quiet ones wait for the
// server and not for the scheduler.
//
// # What is promised
//
//   - Every response is compared with what this container has to be answered, so
//     that one that belongs to another container is an error. Every event is
//     checked for order and loss.
//   - An open loop (Options.Rate) has no coordinated omission: a request that
//     could not be sent because earlier ones were late counts from when it was
//     due.
//   - What the server charges is read from its process, and what it says of
//     itself (its metrics) is compared with what came in.
//   - A run is bounded: in time, in connections, and in what it waits for.
//
// # Concurrency
//
// A run belongs to the goroutine that called [Run]. Only changes to the server
// (events, restarts) are made from goroutines of their own.
package loadtest
