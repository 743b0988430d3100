// Package admin serves the host-only API of devlxd: the one through which an
// operator, or the runtime that starts containers, says what exists and reads
// what the daemon is doing. It has a socket of its own and is never on the
// way of a guest's request.
//
// # Who may talk to it
//
// The socket has mode 0600 and lives outside the directory that is mounted
// into containers. Mode bits can be changed by mistake, so every connection is
// checked again by SO_PEERCRED (unix(7)): uid 0 and the uid of the server are
// served, any other uid is answered 403 to every request, whatever it asks.
//
// # Shape
//
// Resources live under /1.0 and every answer is the envelope that LXD uses, so
// `curl --unix-socket RUN_DIR/admin.sock http://devlxd/1.0/containers` reads
// as it would against LXD:
//
//	{"type":"sync","status":"Success","status_code":200,"operation":"","error_code":0,"error":"","metadata":...}
//	{"type":"error","status":"","status_code":0,"operation":"","error_code":404,"error":"...","metadata":null}
//
// A request that creates something answers 201 with a Location, again like
// LXD, where the code inside the envelope stays 200. /healthz, /readyz and
// /metrics answer plain text. [Server.ServeMetrics] serves those three, and
// nothing else, on a second listener that may be TCP.
//
// # Promises
//
//   - A change is answered only after the [source.Writer] has it on disk and
//     every later guest request sees it.
//   - One PATCH of a config is one change: all of its keys or none.
//   - A body is read strictly: an unknown or doubled field, a value of the
//     wrong type, invalid UTF-8 or trailing bytes are refused with the field
//     named, and nothing is changed.
//   - An image is streamed to the writer. Memory does not grow with its size,
//     and a body cut short is an error to the writer, never a short image.
//   - An event stream delivers every event it asked for in order, or ends
//     with one error envelope that says why it does not go on. A reader that takes
//     nothing for [StreamWriteTimeout] is disconnected.
//   - It can serve before the registry is filled ([Options.Loading]): health,
//     metrics, GET /1.0 and the status are answered then, and everything about
//     containers and images with 503, so that nobody takes a part for the
//     whole.
//   - No request, however malformed, ends the process: a panic in a handler
//     is logged and answered 500.
//
// # Concurrency
//
// A [Server] is safe for concurrent use. Each connection is served by one
// goroutine, and one more while it streams events. [Server.Shutdown] returns
// when all of them have ended.
package admin
