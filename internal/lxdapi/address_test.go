package lxdapi_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"devlxd/internal/lxdapi"
)

// env is an environment of names and values.
func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

// listen makes a socket in a directory of its own.
func listen(t *testing.T) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), lxdapi.SocketName)
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return socket
}

// TestAddress: what --source takes, and where the sockets are.
func TestAddress(t *testing.T) {
	for _, c := range []struct {
		text   string
		getenv func(string) string
		want   []string
	}{
		{"lxd", env(), []string{"/var/lib/lxd/unix.socket", "/var/snap/lxd/common/lxd/unix.socket"}},
		{"lxd", env("LXD_DIR", "/d", "INCUS_DIR", "/i"), []string{"/d/unix.socket"}},
		{"lxd", env("LXD_DIR", "/d", "LXD_SOCKET", "/s"), []string{"/s"}},
		{"lxd:/x/y", env("LXD_DIR", "/d", "LXD_SOCKET", "/s"), []string{"/x/y"}},
		{"incus", env("LXD_DIR", "/d"), []string{"/run/incus/unix.socket", "/var/lib/incus/unix.socket"}},
		{"incus", env("INCUS_DIR", "/i"), []string{"/i/unix.socket"}},
		{"incus", env("INCUS_SOCKET", "/s"), []string{"/s"}},
		{"incus:/x:y", env(), []string{"/x:y"}},
	} {
		a, err := lxdapi.ParseAddress(c.text)
		if err != nil || a.String() != c.text {
			t.Errorf("ParseAddress(%q) = %q, %v", c.text, a, err)
		}
		if got := a.Sockets(c.getenv); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v; want %v", c.text, got, c.want)
		}
	}
	for _, text := range []string{"", "lxc", "lxd:", "lxd:unix.socket", "LXD", "incus:", "lxd/x"} {
		if _, err := lxdapi.ParseAddress(text); !errors.Is(err, lxdapi.ErrAddress) || strings.Contains(err.Error(), "\n") {
			t.Errorf("ParseAddress(%q): %v", text, err)
		}
	}
	socket := listen(t)
	if got, err := (lxdapi.Address{Socket: socket}).Find(env()); got != socket || err != nil {
		t.Errorf("found %q, %v", got, err)
	}
	for _, path := range []string{filepath.Dir(socket), filepath.Join(t.TempDir(), "nothing")} {
		if _, err := (lxdapi.Address{Socket: path}).Find(env()); !errors.Is(err, lxdapi.ErrNoSocket) {
			t.Errorf("%s: %v", path, err)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(socket, link); err != nil {
		t.Fatal(err)
	}
	if got := (lxdapi.Address{}).Dirs(link, env()); !slices.Contains(got, filepath.Dir(socket)) {
		t.Errorf("data directories %v; want %s among them", got, filepath.Dir(socket))
	}
}

// TestLocate: the daemon that the environment names is the one, and where it names two, or none that is there, nothing is guessed.
func TestLocate(t *testing.T) {
	lxd, incus := listen(t), listen(t)
	for _, c := range []struct {
		name string
		env  []string
		want string
		err  error
	}{
		{"LXD_SOCKET", []string{"LXD_SOCKET", lxd}, lxd, nil},
		{"LXD_DIR", []string{"LXD_DIR", filepath.Dir(lxd)}, lxd, nil},
		{"INCUS_SOCKET", []string{"INCUS_SOCKET", incus}, incus, nil},
		{"INCUS_DIR", []string{"INCUS_DIR", filepath.Dir(incus)}, incus, nil},
		{"one of two is there", []string{"LXD_DIR", "/nowhere", "INCUS_DIR", filepath.Dir(incus)}, incus, nil},
		{"both", []string{"LXD_SOCKET", lxd, "INCUS_SOCKET", incus}, "", lxdapi.ErrTwo},
		{"nobody there", []string{"INCUS_DIR", "/nowhere"}, "", lxdapi.ErrNoSocket},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := lxdapi.Locate(env(c.env...)); got != c.want || !errors.Is(err, c.err) {
				t.Errorf("%q, %v; want %q, %v", got, err, c.want, c.err)
			}
		})
	}
}
