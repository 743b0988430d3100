// Package rival has the servers that devlxd is compared with: each listens on a
// Unix socket as devlxd's guest socket does, and is given the same load. A rival
// runs in a process of its own ([Main]), so that its memory and CPU time are its own.
//
// # The rivals
//
//   - [NetHTTP] does what LXD does, in code of our own: net/http and
//     gorilla/websocket, a goroutine per connection, SO_PEERCRED in a map under one
//     lock, the walk through /proc for every request, a goroutine per event and listener.
//     Where it differs it does less than LXD: see [NetHTTP].
//   - [Plain] is net/http with one fixed answer: the most that net/http can do.
//   - [FastHTTP] is the same on fasthttp.
//   - [GNet] is gnet's engine with one loop: it looks for the end of a request and for
//     nothing in it but the two paths below.
//   - [Limit] is what the machine can do from Go: one thread, epoll and bare system calls.
//   - [LimitC] is the same in C, compiled when it is started.
//
// All but NetHTTP answer every request with the same bytes: the value of [Key] of the
// container that was registered first, "abc" before and without one. A later Set does
// not change it. GNet, Limit and LimitC take every CRLFCRLF for the end of a GET request.
// They do not read header fields, so they keep a connection open until the client
// closes it; requests to /1.0/events and, for Limit, /1.0/images/ are known by their first bytes.
//
// # What is promised
//
//   - Requests may be pipelined, and arrive in any pieces. A client may go away at any point.
//   - No rival limits the number of connections; the backlog is the kernel's
//     (net.core.somaxconn), 4096 unless it was changed. When descriptors run out, clients of Limit and LimitC
//     wait in it, net/http and fasthttp retry after a pause, and gnet's engine ends, which is how it is made.
//   - An upgraded connection stays open and is read from, so that pings and pongs of the client do no harm;
//     only NetHTTP sends pings. LimitC answers each handshake as if its key were [SampleKey].
//   - A change of a "user." key of a container is sent to its subscribers as one text
//     frame with LXD's JSON. Rivals without identity tell subscribers apart by the pid that connected: one that is no
//     registered init gets the events of all containers.
//   - NetHTTP answers a handshake before it subscribes, as LXD does: an event in between is missed. Its first ping says
//     that the connection is a subscriber. With the others the answer says so.
//   - LimitC drops a client that sends a handshake together with requests, Limit one that then does not read their answers.
//   - A subscriber of Limit that does not take a frame at once is closed: it keeps no
//     backlog. NetHTTP gives a write 5 s, as LXD does. GNet buffers without bound, as its engine does.
//
// # The control protocol
//
// Commands come on standard input and answers go to standard output, one JSON object a
// line each, one answer for each command and in the same order. [Client] speaks it.
//
//	{"op":"register","containers":[{"name":"c1","pid":123,"config":{"user.load":"abc"}}]}
//	{"op":"unregister","container":"c1"}
//	{"op":"set","container":"c1","key":"user.load","value":"xyz"}
//	{"op":"image","path":"/file"}
//
// An answer is {}, {"fingerprint":"..."} for an image, or {"error":"..."}. The answer to
// "set" says that the event was handed to each subscriber: written by Limit, queued by GNet, given to a goroutine by
// NetHTTP as in LXD. The first answer says that the socket takes connections. The end of the input ends the server.
//
// # Concurrency
//
// [Serve] may run several times in one process, on different sockets. A [Client] is safe for
// concurrent use.
package rival
