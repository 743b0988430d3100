// Package source says where containers come from.
//
// A source owns the containers of a host, their config, devices and images, and publishes them to a [registry.Registry],
// which the guest side reads. The default source is the embedded store (package source/store); other sources mirror another
// daemon. This package holds what they share:
//
//   - [Writer]: the changes that the admin API makes;
//   - [Binder] and [Process]: how a source ties a stored container to its running init process, without knowing how the
//     kernel is asked;
//   - [Facts]: what is remembered of that process, so that a restarted daemon recognises it and never binds another one;
//   - the limits and the validation of everything that an operator can write;
//   - the error values, by which callers choose an HTTP status or an exit code.
//
// # Rules of names and values
//
// Whatever passes the Validate functions can be shown to a guest and read by cloud-init, so they refuse more than LXD
// does in three places, and less in one:
//
//   - a config key has no '/' and no control character: cloud-init keeps '/' unescaped when it follows the config list, so
//     LXD answers for such a key with another resource, and the guest can never read it;
//   - keys and values are valid UTF-8: cloud-init decodes strictly and gives up on the whole crawl otherwise;
//   - sizes and counts are bounded ([MaxValueLen] and its neighbours), because a value is held in memory, rendered, and
//     kept in an event ring;
//   - container names may hold '_' and '.', begin with a digit and end with any allowed character, because podman, nspawn
//     and plain LXC have such names.
//
// All functions of this package are safe for concurrent use.
package source
