package lxd

import (
	"testing"

	"devlxd/source"
)

// TestAttachedAccess: in a container that is attached the key closes the daemon's guest API, and what it was before decides about devlxd's.
func TestAttachedAccess(t *testing.T) {
	device := func(was string) map[string]map[string]string {
		d := map[string]string{"type": "disk", "path": "/dev/lxd"}
		if was != "" {
			d[source.AttachWas] = was
		}
		return map[string]map[string]string{source.AttachDevice: d}
	}
	for _, c := range []struct {
		key, now, was, want string
	}{
		{"security.devlxd", "false", source.AttachUnset, ""},
		{"security.devlxd", "false", "true", "true"},
		{"security.devlxd", "false", "false", "false"},
		{"security.guestapi", "false", source.AttachUnset, ""},
		{"security.guestapi", "false", "0", "0"},
		{"security.devlxd", "false", "", "false"}, // a device of the operator's own
		{"security.devlxd", "true", "", "true"},
	} {
		i := instance{Name: "c1", Project: "default", ExpandedConfig: map[string]string{c.key: c.now, "user.a": "1", "security.devlxd.images": "true"}, ExpandedDevices: device(c.was)}
		config := i.spec().Config
		if got := config[c.key]; got != c.want {
			t.Errorf("%s=%s, was %q: %q is mirrored; want %q", c.key, c.now, c.was, got, c.want)
		}
		if config["user.a"] != "1" || config["security.devlxd.images"] != "true" {
			t.Errorf("config %v", config)
		}
	}
}
