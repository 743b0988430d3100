// Package cgroup2 is what the packages that make processes in cgroups of their
// own have in common: where the tree is mounted, and how a part of it is removed.
//
// It holds no state and starts no process. Its functions are safe for concurrent
// use.
package cgroup2
