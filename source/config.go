package source

import (
	"fmt"
	"net"
	"strings"
	"unicode/utf8"

	"devlxd/registry"
)

// Config keys with a meaning of their own.
const (
	// KeyInstanceID replaces the stored instance id that cloud-init sees.
	KeyInstanceID = "volatile.cloud-init.instance-id"
	// KeyUserPrefix and KeyCloudInitPrefix begin the keys that the guest can read.
	KeyUserPrefix      = "user."
	KeyCloudInitPrefix = "cloud-init."
)

// The MAC address that LXD has generated for a nic without hwaddr.
const (
	hwaddrPrefix = "volatile."
	hwaddrSuffix = ".hwaddr"
)

// keyKind is what values a config key takes.
type keyKind uint8

const (
	kindUnknown    keyKind = iota // no key of devlxd
	kindText                      // any text
	kindBool                      // LXD's booleans
	kindHwaddr                    // a MAC address
	kindInstanceID                // an instance id
	kindLimit                     // a quota
)

func kindOf(key string) keyKind {
	switch key {
	case "security.devlxd", "security.devlxd.images", "security.guestapi", "security.guestapi.images":
		return kindBool
	case KeyInstanceID:
		return kindInstanceID
	}
	for _, prefix := range [...]string{KeyUserPrefix, KeyCloudInitPrefix} {
		if len(key) > len(prefix) && strings.HasPrefix(key, prefix) {
			return kindText
		}
	}
	if _, ok := registry.LimitOfKey(key); ok {
		return kindLimit
	}
	if rest, ok := strings.CutPrefix(key, hwaddrPrefix); ok {
		if dev, ok := strings.CutSuffix(rest, hwaddrSuffix); ok && ValidateDeviceName(dev) == nil {
			return kindHwaddr
		}
	}
	return kindUnknown
}

// ValidateKey checks a config key. Allowed are user.NAME and cloud-init.NAME, which the guest reads, security.devlxd,
// security.devlxd.images, security.guestapi, security.guestapi.images, volatile.DEVICE.hwaddr and
// volatile.cloud-init.instance-id, which steer what it is shown, and limits.devlxd.QUOTA ([registry.Limit]). A key has at most [MaxKeyLen] bytes of UTF-8 without '/'
// and control characters; see the package comment for the reason.
func ValidateKey(key string) error {
	switch {
	case len(key) > MaxKeyLen:
		return fmt.Errorf("config key %s is %w: %d bytes, at most %d", quote(key), ErrTooLarge, len(key), MaxKeyLen)
	case !isLine(key):
		return fmt.Errorf("%w config key %s: use UTF-8 text without control characters", ErrInvalid, quote(key))
	case strings.Contains(key, "/"):
		return fmt.Errorf("%w config key %s: a guest cannot read a key with '/', use '.' or '-'", ErrInvalid, quote(key))
	case kindOf(key) == kindUnknown:
		return fmt.Errorf("%w config key %s: use user.NAME, cloud-init.NAME, security.devlxd[.images], security.guestapi[.images], "+
			"volatile.DEVICE.hwaddr, %s or limits.devlxd.connections, .subscribers, .requests, .bytes or .images", ErrInvalid, quote(key), KeyInstanceID)
	}
	return nil
}

// ValidateValue checks the value of a config key that passed [ValidateKey]: at most [MaxValueLen] bytes of UTF-8, and for
// the keys with a meaning what that meaning allows: a boolean as LXD reads it, a MAC address or "", an instance id. The
// error never repeats a value, which may be a secret.
func ValidateValue(key, value string) error {
	if len(value) > MaxValueLen {
		return fmt.Errorf("value of %s is %w: %d bytes, at most %d", quote(key), ErrTooLarge, len(value), MaxValueLen)
	}
	if !utf8.ValidString(value) {
		return fmt.Errorf("%w value of %s: not UTF-8, encode binary data as base64", ErrInvalid, quote(key))
	}
	switch kindOf(key) {
	case kindBool:
		if !isBool(value) {
			return fmt.Errorf("%w value of %s: use true or false (or 1, 0, yes, no, on, off)", ErrInvalid, quote(key))
		}
	case kindHwaddr:
		if !isHwaddr(value) {
			return fmt.Errorf("%w value of %s: use a MAC address such as 00:16:3e:12:34:56", ErrInvalid, quote(key))
		}
	case kindLimit:
		if _, err := registry.ParseLimit(value); err != nil {
			return fmt.Errorf("%w value of %s: use a whole number from 1 to %d, or unlimited", ErrInvalid, quote(key), registry.MaxLimit)
		}
	case kindInstanceID:
		if !isInstanceID(value) {
			return fmt.Errorf("%w value of %s: use 1 to %d letters, digits, '-', '_' or '.'", ErrInvalid, quote(key), MaxInstanceIDLen)
		}
	}
	return nil
}

// ValidateConfig checks every key and value, and the limits of the whole.
func ValidateConfig(config map[string]string) error {
	if len(config) > MaxConfigKeys {
		return fmt.Errorf("config is %w: %d keys, at most %d for a container", ErrTooLarge, len(config), MaxConfigKeys)
	}
	total := 0
	for key, value := range config {
		if err := ValidateKey(key); err != nil {
			return err
		}
		if err := ValidateValue(key, value); err != nil {
			return err
		}
		total += len(key) + len(value)
	}
	if total > MaxConfigLen {
		return fmt.Errorf("config is %w: %d bytes, at most %d for a container", ErrTooLarge, total, MaxConfigLen)
	}
	return nil
}

// isBool accepts what lxd/shared/validate.IsBool does, in any case. An empty value is LXD's "unset", which is done by
// unsetting the key.
func isBool(s string) bool {
	switch strings.ToLower(s) {
	case "true", "1", "yes", "on", "false", "0", "no", "off":
		return true
	}
	return false
}

// isHwaddr accepts an Ethernet (6 bytes) or InfiniBand (20 bytes) address with colons, and "", which is how LXD clears it.
func isHwaddr(s string) bool {
	if s == "" {
		return true
	}
	mac, err := net.ParseMAC(s)
	return err == nil && strings.Contains(s, ":") && (len(mac) == 6 || len(mac) == 20)
}

// isInstanceID keeps the id within one YAML scalar: it is written into meta-data as it is.
func isInstanceID(s string) bool {
	if s == "" || len(s) > MaxInstanceIDLen {
		return false
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && s[i] != '-' && s[i] != '_' && s[i] != '.' {
			return false
		}
	}
	return true
}
