package lxd

import (
	"slices"

	"devlxd/registry"
)

// The properties that a daemon changes while the device is in use (lxd/device: UpdatableFields). When others change, it takes the device
// away and attaches another one, and says so to guests.
var (
	liveDisk   = [...]string{"limits.max", "limits.read", "limits.write", "size", "size.state"}
	liveLimits = [...]string{"limits.egress", "limits.ingress", "limits.max", "limits.priority"}
	liveRoutes = [...]string{"ipv4.routes", "ipv6.routes"}
	liveBridge = [...]string{
		"ipv4.address", "ipv4.routes.external", "ipv6.address", "ipv6.routes.external",
		"security.acls", "security.ipv4_filtering", "security.ipv6_filtering", "security.mac_filtering",
	}
)

// live reports whether a daemon changes a property of a device in place.
func live(device *registry.Device, property string) bool {
	switch device.Get("type") {
	case "disk":
		return slices.Contains(liveDisk[:], property)
	case "nic":
	default:
		return false
	}
	switch device.Get("nictype") {
	case "routed":
		return slices.Contains(liveLimits[:], property)
	case "p2p":
		return slices.Contains(liveLimits[:], property) || slices.Contains(liveRoutes[:], property)
	case "bridged", "ovn", "": // "": the network says of which kind it is
		return slices.Contains(liveLimits[:], property) || slices.Contains(liveRoutes[:], property) || slices.Contains(liveBridge[:], property)
	}
	return false
}

// sameDevice reports whether all that differs between a device and one of its name is changed in place.
func sameDevice(a, b *registry.Device) bool {
	differs := func(a, b *registry.Device) bool {
		return slices.ContainsFunc(a.Config, func(kv registry.KV) bool { return b.Get(kv.Key) != kv.Value && !live(a, kv.Key) })
	}
	return !differs(a, b) && !differs(b, a)
}
