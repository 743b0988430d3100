package lxd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"devlxd/source"
)

// Kind is which daemon is mirrored. The two speak the same API as far as it is used here.
type Kind uint8

// The daemons.
const (
	LXD Kind = iota
	Incus
)

// String is the name as --source takes it.
func (k Kind) String() string {
	if k == Incus {
		return "incus"
	}
	return "lxd"
}

// Client is the command by which an operator changes containers of that daemon.
func (k Kind) Client() string {
	if k == Incus {
		return "incus"
	}
	return "lxc"
}

const socketName = "unix.socket"

// Address says which daemon is mirrored, and where it is.
type Address struct {
	Kind   Kind
	Socket string // absolute path; "": the first default one that exists, looked for at each connection
}

// ParseAddress reads "lxd", "lxd:SOCKET", "incus" or "incus:SOCKET". The error wraps [source.ErrInvalid].
func ParseAddress(text string) (Address, error) {
	kind, socket, given := strings.Cut(text, ":")
	a := Address{Socket: socket}
	switch kind {
	case "lxd":
	case "incus":
		a.Kind = Incus
	default:
		return a, fmt.Errorf("%w source %q: use lxd[:SOCKET] or incus[:SOCKET]", source.ErrInvalid, text)
	}
	if given && !filepath.IsAbs(socket) {
		return a, fmt.Errorf("%w source %q: give the absolute path of the daemon's %s after the colon", source.ErrInvalid, text, socketName)
	}
	return a, nil
}

// String is the inverse of ParseAddress.
func (a Address) String() string {
	if a.Socket == "" {
		return a.Kind.String()
	}
	return a.Kind.String() + ":" + a.Socket
}

// sockets are the places of the daemon's socket in the order in which its own client looks there (client/connection.go: ConnectLXDUnix and
// ConnectIncusUnix; shared/util.go: VarPath). The environment excludes the default places.
func (a Address) sockets(getenv func(string) string) []string {
	prefix, defaults := "LXD", []string{"/var/lib/lxd/" + socketName, "/var/snap/lxd/common/lxd/" + socketName}
	if a.Kind == Incus {
		prefix, defaults = "INCUS", []string{"/run/incus/" + socketName, "/var/lib/incus/" + socketName}
	}
	switch {
	case a.Socket != "":
		return []string{a.Socket}
	case getenv(prefix+"_SOCKET") != "":
		return []string{getenv(prefix + "_SOCKET")}
	case getenv(prefix+"_DIR") != "":
		return []string{filepath.Join(getenv(prefix+"_DIR"), socketName)}
	}
	return defaults
}

// find returns the socket to connect to. The error wraps ErrNoSocket.
func (a Address) find(getenv func(string) string) (string, error) {
	places := a.sockets(getenv)
	for _, p := range places {
		if info, err := os.Stat(p); err == nil && info.Mode().Type() == os.ModeSocket {
			return p, nil
		}
	}
	return "", fmt.Errorf("%w at %s: start the daemon, or name its socket with --source %s:SOCKET",
		ErrNoSocket, strings.Join(places, " or "), a.Kind)
}

// dirs are the data directories that a daemon with this socket may have, by the names that it may know them by.
func (a Address) dirs(socket string, getenv func(string) string) []string {
	list := []string{filepath.Dir(socket)}
	if real, err := filepath.EvalSymlinks(socket); err == nil && filepath.Dir(real) != list[0] {
		list = append(list, filepath.Dir(real))
	}
	if a.Kind != Incus {
		return list
	}
	if dir := getenv("INCUS_DIR"); dir != "" {
		return append(list, dir)
	}
	return append(list, "/var/lib/incus") // the socket may be in /run/incus
}
