// Package server is the guest side of devlxd: the reactor that holds every
// guest connection of the host on one Unix socket, and the routes it answers.
//
// # Flow
//
// The files follow the way of a request:
//
//	accept.go    a connection is accepted, given to a loop and identified
//	conn.go      its bytes are read and parsed
//	routes.go    the request is matched to a route
//	handlers.go  the route is answered (events.go and image.go for the two long answers)
//	output.go    the answer is written; what the kernel does not take becomes a cursor
//	fanout.go    events reach the subscribers
//
// # Concurrency
//
// A connection belongs to one loop for life, and everything that hangs off a
// [conn] or a [loop] is touched by that loop's goroutine only. Other
// goroutines reach a loop through its task queue ([loop.post]). The registry
// is read without locks. There is no other shared state on the guest path.
//
// # What is promised
//
//   - Identity is taken once, at accept, and holds for the connection; when the
//     container stops its connections are closed before its name can be reused
//     for an answer.
//   - No connection owns an output buffer. What a slow reader has not taken is a
//     position in a ring, an offset in a file or in an immutable response, or at
//     most one batch of copied bytes.
//   - Nothing a guest sends ends a loop: every callback recovers, closes the
//     connection it worked for and counts it.
//   - A loop never works for one connection for longer than a budget
//     ([fanoutSlice] deliveries, [fileSlice] bytes); it goes on after the others
//     had their turn.
package server
