package lxd

import (
	"testing"

	"devlxd/registry"
)

func TestSameDevice(t *testing.T) {
	for _, tc := range []struct {
		name string
		a, b map[string]string
		want bool
	}{
		{"a limit of a disk", map[string]string{"type": "disk", "path": "/a"}, map[string]string{"type": "disk", "path": "/a", "limits.read": "1MB"}, true},
		{"the path of a disk", map[string]string{"type": "disk", "path": "/a"}, map[string]string{"type": "disk", "path": "/b"}, false},
		{"the path of a disk and a limit", map[string]string{"type": "disk", "path": "/a"}, map[string]string{"type": "disk", "path": "/b", "size": "1GB"}, false},
		{"routes of a nic", map[string]string{"type": "nic", "nictype": "p2p", "ipv4.routes": "x"}, map[string]string{"type": "nic", "nictype": "p2p"}, true},
		{"routes of a routed nic", map[string]string{"type": "nic", "nictype": "routed", "ipv4.routes": "x"}, map[string]string{"type": "nic", "nictype": "routed"}, false},
		{"the address of a nic of a network", map[string]string{"type": "nic", "network": "n"}, map[string]string{"type": "nic", "network": "n", "ipv4.address": "x"}, true},
		{"the kind of a nic", map[string]string{"type": "nic", "nictype": "p2p"}, map[string]string{"type": "nic", "nictype": "bridged"}, false},
		{"a limit of what has none", map[string]string{"type": "unix-char", "limits.max": "1"}, map[string]string{"type": "unix-char"}, false},
		{"the type", map[string]string{"type": "disk"}, map[string]string{"type": "none"}, false},
		{"nothing", map[string]string{"type": "gpu"}, map[string]string{"type": "gpu"}, true},
	} {
		r := registry.New(registry.Options{})
		c, err := r.Put(registry.Spec{Name: "c", Devices: map[string]map[string]string{"a": tc.a, "b": tc.b}})
		if err != nil {
			t.Fatal(err)
		}
		devices := c.Snapshot().Devices()
		if got := sameDevice(&devices[0], &devices[1]); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
		if sameDevice(&devices[1], &devices[0]) != tc.want {
			t.Errorf("%s: it matters which is the older", tc.name)
		}
	}
}
