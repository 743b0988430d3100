// Package fdpass carries messages with open descriptors between two processes of one host, over a pair of
// Unix sockets of type SOCK_SEQPACKET (unix(7), SCM_RIGHTS).
//
// A message is a kind, a body of up to [MaxBody] bytes and up to [MaxFDs] descriptors. Its header has the length and a
// checksum (CRC-32C) of all of it, so that a message that was cut off or changed is an error and never a shorter message. A message
// with descriptors is acknowledged before Send returns: no more than one such message is in flight, so that the kernel's
// limit on descriptors in flight (RLIMIT_NOFILE of the sender, where it has no capabilities) is never near.
//
// The two processes trust each other with everything but time: each call has a deadline.
package fdpass
