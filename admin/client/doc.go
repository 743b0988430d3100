// Package client speaks the admin API of devlxd over its unix socket: one
// method for each operation of package admin, with its types.
//
//	c := client.New("/run/devlxd/admin.sock")
//	err := c.AddContainer(ctx, admin.ContainersPost{Name: "c1", PID: 4242})
//
// Errors fit on one line that says what was wrong and what to do. What the
// daemon answered is an [*Error]; if it could not be reached the error wraps
// [ErrUnreachable].
//
// A [Client] is safe for concurrent use, holds no connection between calls
// and starts no goroutine that outlives a call. A [Stream] belongs to one
// goroutine, except that Close may be called from anywhere.
package client
