// Package cloudinit merges the SSH keys of cloud-init.ssh-keys.* into the seed
// data of a container, its vendor-data and user-data, as LXD does before a
// guest reads them. It is pure: text in, text out, no I/O, no goroutine.
//
// # What is merged into what
//
// The value of a key is USER:KEY; one without both parts, such as LXD's "none",
// means nothing. A KEY with a space is a public key, one without is an import
// id for ssh-import-id(1). [Merge] adds each to the entry of its user in the
// list "users" of the cloud-config, under both spellings of the field
// (ssh_authorized_keys and ssh-authorized-keys, ssh_import_id and
// ssh-import-id), since nobody knows which cloud-init will read it. An added
// key carries the comment "#lxd:cloud-init.ssh-keys".
//
// Seed data that is absent becomes a cloud-config with these users only. In
// user-data the list replaces that of vendor-data (cloud-init's rule), so
// user-data without users is left alone while vendor-data has them.
//
// # What stays as it is
//
// Everything outside of "users", byte for byte, wherever the document allows
// it: comments, quoting, and text that YAML 1.1 (cloud-init) and YAML 1.2 read
// differently. A document in flow style (JSON), or with anchors that cross
// the border of "users", is written anew; its text then changes, its meaning
// does not. Either is read again and compared before it is returned.
//
// Data that is not in #cloud-config format, not YAML, or of another shape than
// cloud-init's is not touched at all; the error says why.
//
// # Bounds
//
// Data may be wrong or hostile. What is longer than [MaxData], nested deeper than
// cloud-config ever is, or grows beyond those bounds by its aliases is not
// touched. Reading is linear in the length.
package cloudinit
