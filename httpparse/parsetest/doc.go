// Package parsetest reads the conformance cases of httpparse/testdata: what a client sends, what the parser must make of it, and what
// a server must answer. The same cases drive the parser in the tests of package httpparse and a live server in others. The notation is
// described in httpparse/testdata/README.md.
package parsetest
