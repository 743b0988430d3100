// Package daemontest runs the built devlxd in tests, as its users meet it: an
// operator with the command line, and guests in real containers.
package daemontest
