package lxdapi

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Kind is which daemon it is. The two speak the same API as far as it is used here.
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

// GuestKey is the config key that says whether an instance has the daemon's own guest API.
func (k Kind) GuestKey() string {
	if k == Incus {
		return "security.guestapi"
	}
	return "security.devlxd"
}

// SocketName is the file name of a daemon's socket.
const SocketName = "unix.socket"

// Address says which daemon it is, and where.
type Address struct {
	Kind   Kind
	Socket string // absolute path; "": the first default one that exists, looked for at each connection
}

// ParseAddress reads "lxd", "lxd:SOCKET", "incus" or "incus:SOCKET". The error wraps ErrAddress.
func ParseAddress(text string) (Address, error) {
	kind, socket, given := strings.Cut(text, ":")
	a := Address{Socket: socket}
	switch kind {
	case LXD.String():
	case Incus.String():
		a.Kind = Incus
	default:
		return a, fmt.Errorf("%w %q: use lxd[:SOCKET] or incus[:SOCKET]", ErrAddress, text)
	}
	if given && !filepath.IsAbs(socket) {
		return a, fmt.Errorf("%w %q: give the absolute path of the daemon's %s after the colon", ErrAddress, text, SocketName)
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

// fromEnvironment is the socket that the environment names, for the daemon's own client too; "": none.
func (k Kind) fromEnvironment(getenv func(string) string) string {
	prefix := "LXD"
	if k == Incus {
		prefix = "INCUS"
	}
	dir := getenv(prefix + "_DIR")
	if dir != "" {
		dir = filepath.Join(dir, SocketName)
	}
	return cmp.Or(getenv(prefix+"_SOCKET"), dir)
}

// Sockets are the places of the daemon's socket in the order in which its own client looks there (client/connection.go: ConnectLXDUnix and
// ConnectIncusUnix; shared/util.go: VarPath). The environment excludes the default places.
func (a Address) Sockets(getenv func(string) string) []string {
	named := cmp.Or(a.Socket, a.Kind.fromEnvironment(getenv))
	switch {
	case named != "":
		return []string{named}
	case a.Kind == Incus:
		return []string{"/run/incus/" + SocketName, "/var/lib/incus/" + SocketName}
	}
	return []string{"/var/lib/lxd/" + SocketName, "/var/snap/lxd/common/lxd/" + SocketName}
}

// Find returns the socket to connect to. The error wraps ErrNoSocket and names the places; what to do is the caller's to add.
func (a Address) Find(getenv func(string) string) (string, error) {
	places := a.Sockets(getenv)
	for _, p := range places {
		if isSocket(p) {
			return p, nil
		}
	}
	return "", fmt.Errorf("%w at %s", ErrNoSocket, strings.Join(places, " or "))
}

// Locate finds the daemon of this host, whichever it is: one that the environment names, and only without such a one where the packages of both have
// theirs. The errors wrap ErrNoSocket, and ErrTwo when there are both.
func Locate(getenv func(string) string) (socket string, err error) {
	kinds := []Kind{LXD, Incus}
	var named []Kind
	for _, k := range kinds {
		if k.fromEnvironment(getenv) != "" {
			named = append(named, k)
		}
	}
	if len(named) > 0 {
		kinds = named
	}
	var places, found []string
	for _, k := range kinds {
		a := Address{Kind: k}
		places = append(places, a.Sockets(getenv)...)
		if socket, err := a.Find(getenv); err == nil {
			found = append(found, socket)
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("%w at %s", ErrNoSocket, strings.Join(places, " or "))
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%w: %s", ErrTwo, strings.Join(found, " and "))
}

func isSocket(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Type() == os.ModeSocket
}

// Dirs are the data directories that a daemon with this socket may have, by the names that it may know them by.
func (a Address) Dirs(socket string, getenv func(string) string) []string {
	list := []string{filepath.Dir(socket)}
	if real, err := filepath.EvalSymlinks(socket); err == nil && filepath.Dir(real) != list[0] {
		list = append(list, filepath.Dir(real))
	}
	if a.Kind != Incus {
		return list
	}
	// The socket may be in /run/incus.
	return append(list, cmp.Or(getenv("INCUS_DIR"), "/var/lib/incus"))
}
