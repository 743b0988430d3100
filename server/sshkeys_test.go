package server

import (
	"strings"
	"testing"
)

const (
	seedWithRoot = "#cloud-config\nx: 1\nusers:\n- name: root\n  ssh-import-id:\n  - gh:me #lxd:cloud-init.ssh-keys\n" +
		"  ssh_import_id:\n  - gh:me #lxd:cloud-init.ssh-keys\n"
	plainSeed = "#cloud-config\nx: 1\n"
)

// TestSSHKeysFollowTheConfig: what guests read changes with the keys and with the seed data, and is that of their dialect.
func TestSSHKeysFollowTheConfig(t *testing.T) {
	const path = "/1.0/config/cloud-init.user-data"
	r := newRig(t, Options{Dialect: DialectLXD, Loops: 1})
	r.container("c1", map[string]string{"cloud-init.user-data": plainSeed})
	c := r.dial("c1")
	expect := func(path, want string, status int) {
		t.Helper()
		if a := c.get(path); a.status != status || a.body != want {
			t.Errorf("%s = %d %q; want %d %q", path, a.status, a.body, status, want)
		}
	}
	expect(path, plainSeed, 200)
	expect("/1.0/config/cloud-init.vendor-data", "Not Found\n", 404)

	r.set("c1", "cloud-init.ssh-keys.me", "root:gh:me")
	expect(path, seedWithRoot, 200)
	expect("/1.0/config/cloud-init.ssh-keys.me", "root:gh:me", 200)
	expect("/1.0/config/cloud-init.vendor-data", strings.Replace(seedWithRoot, "x: 1\n", "", 1), 200)
	expect("/1.0/config", `["/1.0/config/cloud-init.user-data","/1.0/config/cloud-init.vendor-data","/1.0/config/user.vendor-data"]`+"\n", 200)

	r.set("c1", "user.other", "1") // what was merged is kept
	expect(path, seedWithRoot, 200)

	r.set("c1", "cloud-init.user-data", "#!/bin/sh\n")
	expect(path, "#!/bin/sh\n", 200)

	r.set("c1", "cloud-init.user-data", "", "cloud-init.vendor-data", "#cloud-config\nusers: [joe]\n")
	expect(path, "Not Found\n", 404) // it would hide the users of the vendor-data

	r.set("c1", "cloud-init.ssh-keys.me", "none", "cloud-init.user-data", plainSeed)
	expect(path, plainSeed, 200)
}

// TestSSHKeysTellWhyNot: data that cannot be merged is left alone, and the operator can find out.
func TestSSHKeysTellWhyNot(t *testing.T) {
	r := newRig(t, Options{Dialect: DialectLXD, Loops: 1})
	r.container("c1", map[string]string{"cloud-init.user-data": "#!/bin/sh\n", "cloud-init.ssh-keys.me": "root:gh:me"})
	for _, line := range r.log.lines {
		if strings.Contains(line, "SSH keys not merged") && strings.Contains(line, "container=c1") && strings.Contains(line, "key=cloud-init.user-data") {
			return
		}
	}
	t.Errorf("the log does not say so: %q", r.log.lines)
}

func TestSSHKeysOfOtherDialects(t *testing.T) {
	for _, dialect := range []Dialect{DialectDocument, DialectIncus} {
		r := newRig(t, Options{Dialect: dialect, Loops: 1})
		r.container("c1", map[string]string{"cloud-init.user-data": plainSeed, "cloud-init.ssh-keys.me": "root:gh:me"})
		c := r.dial("c1")
		if a := c.get("/1.0/config/cloud-init.user-data"); a.body != plainSeed {
			t.Errorf("%s: %q; want the value as it is", dialect, a.body)
		}
		if a := c.get("/1.0/config"); !strings.Contains(a.body, "cloud-init.ssh-keys.me") {
			t.Errorf("%s: the list %s hides the key", dialect, a.body)
		}
	}
}
