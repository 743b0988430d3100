// Package lxdapi is a thin client of the REST API of a LXD or Incus daemon on its Unix socket: documents are read with their ETag,
// written back if nobody has changed them meanwhile, and operations are waited for. It is net/http and JSON only.
//
// A Client is safe for concurrent use.
package lxdapi
