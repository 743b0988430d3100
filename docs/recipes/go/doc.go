// Command go asks the guest API of LXD, Incus or devlxd from inside a container,
// with package guest.
package main
