package source

// Limits of what an operator can write. A set that reaches a limit is accepted, one that exceeds it is refused with
// [ErrTooLarge].
const (
	// MaxNameLen is the longest container name in bytes: LXD's limit, and that of a DNS label.
	MaxNameLen = 63
	// MaxDeviceNameLen is the longest device name in bytes.
	MaxDeviceNameLen = 64
	// MaxKeyLen is the longest config key or device property name in bytes.
	MaxKeyLen = 255
	// MaxValueLen is the longest config value in bytes.
	MaxValueLen = 1 << 20
	// MaxConfigKeys is the number of config keys of one container.
	MaxConfigKeys = 1024
	// MaxConfigLen is the sum of the lengths of all config keys and values of one container in bytes.
	MaxConfigLen = 8 << 20
	// MaxDevices is the number of devices of one container.
	MaxDevices = 64
	// MaxDeviceKeys is the number of properties of one device.
	MaxDeviceKeys = 128
	// MaxDeviceValueLen is the longest value of a device property in bytes.
	MaxDeviceValueLen = 64 << 10
	// MaxDevicesLen is the sum of the lengths of all device names, properties and values of one container in bytes.
	MaxDevicesLen = 1 << 20
	// MaxInstanceIDLen is the longest instance id in bytes.
	MaxInstanceIDLen = 128
	// MaxCgroupLen is the longest cgroup path in bytes (PATH_MAX).
	MaxCgroupLen = 4096
)
