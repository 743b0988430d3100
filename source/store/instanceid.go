package store

import (
	"crypto/rand"
	"fmt"
	"maps"
	"strings"
)

// newInstanceID returns a random UUID (RFC 9562 §5.4).
func newInstanceID() string {
	var u [16]byte
	_, _ = rand.Read(u[:]) // never fails
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// needsNewInstanceID reports whether cloud-init has to run again from the start: its data changed, or the names of the
// network interfaces (lxd/instance/drivers/driver_common.go: needsNewInstanceID).
func needsNewInstanceID(old, changed *containerRecord) bool {
	for _, m := range [2]map[string]string{old.config, changed.config} {
		for key := range m {
			a, hadIt := old.config[key]
			b, hasIt := changed.config[key]
			if (hadIt != hasIt || a != b) && startsOver(key) {
				return true
			}
		}
	}
	return !maps.Equal(interfaces(old.devices), interfaces(changed.devices))
}

// startsOver reports whether key is data that cloud-init applies once per instance.
func startsOver(key string) bool {
	switch key {
	case "cloud-init.vendor-data", "cloud-init.user-data", "cloud-init.network-config",
		"user.vendor-data", "user.user-data", "user.network-config":
		return true
	}
	return strings.HasPrefix(key, "cloud-init.ssh-keys.")
}

// interfaces returns the set of names that the nics have in the container.
func interfaces(devices map[string]map[string]string) map[string]bool {
	names := make(map[string]bool)
	for dev, config := range devices {
		if config["type"] != "nic" {
			continue
		}
		if name := config["name"]; name != "" {
			names[name] = true
		} else {
			names[dev] = true
		}
	}
	return names
}
