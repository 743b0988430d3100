package source

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// shownLen bounds how much of a refused text an error repeats.
const shownLen = 64

// ValidateName checks a container name: 1 to 63 letters, digits, '-', '_' and '.', the first a letter or digit. LXD
// allows letters, digits and '-' only; the wider rule takes the names of podman, systemd-nspawn and plain LXC as they are.
func ValidateName(name string) error {
	if !isName(name, MaxNameLen) {
		return fmt.Errorf("%w container name %s: use 1 to %d letters, digits, '-', '_' or '.', beginning with a letter or digit",
			ErrInvalid, quote(name), MaxNameLen)
	}
	return nil
}

// ValidateDeviceName checks a device name: 1 to 64 letters, digits, '-', '_', '.' and ':', the first a letter or digit.
func ValidateDeviceName(dev string) error {
	if !isName(strings.ReplaceAll(dev, ":", "_"), MaxDeviceNameLen) || dev[0] == ':' {
		return fmt.Errorf("%w device name %s: use 1 to %d letters, digits, '-', '_', '.' or ':', beginning with a letter or digit",
			ErrInvalid, quote(dev), MaxDeviceNameLen)
	}
	return nil
}

// ValidateFingerprint checks the fingerprint of an image: the 64 lower-case hexadecimal digits of a SHA-256.
func ValidateFingerprint(fp string) error {
	ok := len(fp) == 64
	for i := 0; ok && i < len(fp); i++ {
		ok = '0' <= fp[i] && fp[i] <= '9' || 'a' <= fp[i] && fp[i] <= 'f'
	}
	if !ok {
		return fmt.Errorf("%w image fingerprint %s: use all 64 lower-case hexadecimal digits", ErrInvalid, quote(fp))
	}
	return nil
}

func isName(s string, most int) bool {
	if s == "" || len(s) > most || !isAlnum(s[0]) {
		return false
	}
	for i := 1; i < len(s); i++ {
		if !isAlnum(s[i]) && s[i] != '-' && s[i] != '_' && s[i] != '.' {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// isLine reports whether s is valid UTF-8 without control characters, so that it fits on one line of text.
func isLine(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
}

// quote shows s in an error: escaped, and cut when it is long.
func quote(s string) string {
	if len(s) > shownLen {
		return strconv.Quote(s[:shownLen]) + "..."
	}
	return strconv.Quote(s)
}
