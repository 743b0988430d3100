package source

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// The device by which "devlxd attach" puts the guest socket into containers of LXD and Incus, the property of it that says what
// the key that closes the daemon's own guest API was before (LXD and Incus let a device have properties in "user.", lxd/device/config/devices.go), and
// what it says when the key was not set, which is no value of a boolean.
const (
	AttachDevice = "devlxd"
	AttachWas    = "user.devlxd.was"
	AttachUnset  = "unset"
)

// deviceTypes are LXD's (lxd/device/device_load.go). A guest reads the devices of its container in a form that its tools
// know, so that no other is let in.
var deviceTypes = [...]string{
	"none", "nic", "disk", "unix-char", "unix-block", "usb", "gpu", "infiniband", "proxy", "unix-hotplug", "tpm", "pci",
}

// DeviceTypes returns the values that "type" of a device may have.
func DeviceTypes() []string { return slices.Clone(deviceTypes[:]) }

// ValidateDevice checks the name and the properties of one device. "type" is required and one of [DeviceTypes];
// properties are otherwise kept as given, since it is not devlxd that attaches the device.
func ValidateDevice(dev string, config map[string]string) error {
	if err := ValidateDeviceName(dev); err != nil {
		return err
	}
	if len(config) > MaxDeviceKeys {
		return fmt.Errorf("device %s is %w: %d properties, at most %d", quote(dev), ErrTooLarge, len(config), MaxDeviceKeys)
	}
	for key, value := range config {
		if err := validateProperty(dev, key, value); err != nil {
			return err
		}
	}
	typ, ok := config["type"]
	if !ok || !slices.Contains(deviceTypes[:], typ) {
		return fmt.Errorf("%w type %s of device %s: use one of %s", ErrInvalid, quote(typ), quote(dev), strings.Join(deviceTypes[:], ", "))
	}
	return nil
}

// ValidateDevices checks every device, and the limits of the whole.
func ValidateDevices(devices map[string]map[string]string) error {
	if len(devices) > MaxDevices {
		return fmt.Errorf("the set of devices is %w: %d devices, at most %d for a container", ErrTooLarge, len(devices), MaxDevices)
	}
	total := 0
	for dev, config := range devices {
		if err := ValidateDevice(dev, config); err != nil {
			return err
		}
		total += len(dev)
		for key, value := range config {
			total += len(key) + len(value)
		}
	}
	if total > MaxDevicesLen {
		return fmt.Errorf("the devices together are %w: %d bytes, at most %d for a container", ErrTooLarge, total, MaxDevicesLen)
	}
	return nil
}

func validateProperty(dev, key, value string) error {
	switch {
	case len(key) > MaxKeyLen:
		return fmt.Errorf("property %s of device %s is %w: %d bytes, at most %d", quote(key), quote(dev), ErrTooLarge, len(key), MaxKeyLen)
	case key == "" || !isLine(key):
		return fmt.Errorf("%w property %s of device %s: use UTF-8 text without control characters", ErrInvalid, quote(key), quote(dev))
	case len(value) > MaxDeviceValueLen:
		return fmt.Errorf("value of property %s of device %s is %w: %d bytes, at most %d",
			quote(key), quote(dev), ErrTooLarge, len(value), MaxDeviceValueLen)
	case !utf8.ValidString(value):
		return fmt.Errorf("%w value of property %s of device %s: not UTF-8", ErrInvalid, quote(key), quote(dev))
	}
	return nil
}
