// Package clidoc makes the reference of a command line out of its commands: man
// pages, completions of bash, zsh and fish, and a page of Markdown. The files are
// committed, so that a package can be built and a page be read without running
// anything; [Check] fails the tests of a command whose files are stale.
//
//	go test ./cmd/... -run TestReference -update
//
// writes them again.
package clidoc
