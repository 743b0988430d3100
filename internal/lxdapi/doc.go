// Package lxdapi is a thin client of the REST API of a LXD or Incus daemon on its Unix socket: it finds the socket, reads documents with
// their ETag and lists element by element, writes back what nobody has changed meanwhile, and waits for operations. It is net/http and JSON only.
//
// An answer counts when all of it has come: one that is cut off anywhere is [ErrAnswer]. The answers are not bounded, since
// who has the socket of that daemon is root on this host.
//
// A Client is safe for concurrent use.
package lxdapi
