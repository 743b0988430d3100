// Package registrytest helps to test users of package registry: identities without a kernel, an observer that remembers, and a
// reader that fails the test when an event was lost.
package registrytest
