// Package target is the server side of a load run: how a server under load is
// started or found, told which containers there are, made to publish events,
// and looked at from outside.
//
// A [Target] is devlxd itself (started for the run, or one that is running
// already), a rival server that devlxd is compared with, a LXD or Incus daemon,
// or any socket of the same shape. What a target cannot do is missing from its
// [Feature] set, and the scenarios that need it refuse to run against it.
//
// # What is promised
//
//   - A server that was started here ends with the caller, however that ends,
//     and its directory is removed; after SIGKILL the directory is removed by the
//     next run.
//   - A server that was found is left as it was: containers that were added are
//     removed by Close, keys that were set are set back.
//   - [Usage] is read from /proc of the server's process and costs the server
//     nothing.
//
// # Concurrency
//
// The methods of a Target may be called from several goroutines at once, except
// Close, which comes last.
package target
