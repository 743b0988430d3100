package server

import (
	"bytes"
	"slices"
	"strings"

	"devlxd/cloudinit"
	"devlxd/internal/logging"
	"devlxd/registry"
)

// mergeSSHKeys is registry.Options.Derive: the seed data with the SSH keys, as
// LXD answers them (lxd/cloudinit). It costs a container without SSH keys one
// search.
func (s *Server) mergeSSHKeys(snap, old *registry.Snapshot) (derived []registry.KV, same bool) {
	entries := sshKeyEntries(snap)
	if len(entries) == 0 {
		return nil, false
	}
	if sameSeed(snap, old) {
		return nil, true
	}
	sshKeys := make([]string, len(entries))
	for i := range entries {
		sshKeys[i] = string(entries[i].Value())
	}
	value := func(key string) string {
		v, _ := snap.Value(key)
		return string(v)
	}
	for _, r := range cloudinit.Merge(value, sshKeys) {
		if r.Err != nil {
			s.log.Warn("SSH keys not merged: the guest reads the value as it is", "container", snap.Name(), "key", r.Key, "error", logging.GuestError(r.Err))
		}
		if r.Value != "" {
			derived = append(derived, registry.KV{Key: r.Key, Value: r.Value})
		}
	}
	return derived, false
}

// sshKeyEntries returns the keys under cloudinit.Prefix; they stand together
// because entries are sorted.
func sshKeyEntries(snap *registry.Snapshot) []registry.Entry {
	config := snap.Config()
	first, _ := slices.BinarySearchFunc(config, cloudinit.Prefix, func(e registry.Entry, key string) int { return strings.Compare(e.Key, key) })
	last := first
	for last < len(config) && strings.HasPrefix(config[last].Key, cloudinit.Prefix) {
		last++
	}
	return config[first:last]
}

// sameSeed reports whether two snapshots have the same SSH keys and seed data.
func sameSeed(a, b *registry.Snapshot) bool {
	equal := func(x, y registry.Entry) bool { return x.Key == y.Key && bytes.Equal(x.Value(), y.Value()) }
	if !slices.EqualFunc(sshKeyEntries(a), sshKeyEntries(b), equal) {
		return false
	}
	for _, keys := range [...][2]string{cloudinit.VendorDataKeys, cloudinit.UserDataKeys} {
		for _, key := range keys {
			x, _ := a.Value(key)
			y, _ := b.Value(key)
			if !bytes.Equal(x, y) {
				return false
			}
		}
	}
	return true
}

// listSeedKeys hides the SSH keys from a sorted list of keys. Instead it names
// the seed data that they are merged into, also where the config has none
// (LXD devLXDConfigGetHandler): cloud-init asks for what is listed only.
func listSeedKeys(keys []string) []string {
	all := len(keys)
	keys = slices.DeleteFunc(keys, func(key string) bool { return strings.HasPrefix(key, cloudinit.Prefix) })
	if len(keys) == all {
		return keys
	}
	for _, pair := range [...][2]string{cloudinit.VendorDataKeys, cloudinit.UserDataKeys} {
		if !slices.Contains(keys, pair[0]) && !slices.Contains(keys, pair[1]) {
			keys = append(keys, pair[:]...)
		}
	}
	slices.Sort(keys)
	return keys
}
