package discover

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

const podmanID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestKinds(t *testing.T) {
	id := podmanID
	for _, c := range []struct {
		runtime Runtime
		dir     string
		want    kind
	}{
		{LXC, "", kindPlace}, {LXC, "lxc.payload.c1", kindPayload}, {LXC, "lxc.payload.", kindNone}, {LXC, "lxc.payload", kindNone},
		{LXC, "lxc.monitor.c1", kindNone}, {LXC, "lxc.pivot", kindNone}, {LXC, "lxc.payload.c1/.lxc", kindNone},
		{LXC, "lxc.payload.c1/lxc.payload.victim", kindNone}, {LXC, "user.slice/lxc.payload.c1", kindNone}, {LXC, "machine.slice", kindNone},

		{Nspawn, "", kindPlace}, {Nspawn, "machine.slice", kindPlace}, {Nspawn, "machine.slice/machine-a.scope", kindPlace},
		{Nspawn, "machine.slice/machine-a.scope/payload", kindPayload}, {Nspawn, "machine.slice/machine-a.scope/supervisor", kindNone},
		{Nspawn, "machine.slice/machine-a.scope/libvirt", kindNone}, {Nspawn, "machine.slice/machine-.scope/payload", kindNone},
		{Nspawn, "machine.slice/systemd-nspawn@a.service", kindPlace}, {Nspawn, "machine.slice/systemd-nspawn@a.service/payload", kindPayload},
		{Nspawn, "machine.slice/systemd-nspawn@a.service/payload/payload", kindNone},
		{Nspawn, "machine.slice/systemd-nspawn@a.service/payload/machine.slice/machine-b.scope/payload", kindNone},
		{Nspawn, "machine.slice/other.service/payload", kindNone}, {Nspawn, "system.slice/machine-a.scope/payload", kindNone},
		{Nspawn, "machine.slice/libpod-" + id + ".scope", kindNone},

		{Podman, "", kindPlace}, {Podman, "machine.slice", kindPlace}, {Podman, "machine.slice/libpod-" + id + ".scope", kindPayload},
		{Podman, "machine.slice/libpod-conmon-" + id + ".scope", kindNone}, {Podman, "machine.slice/libpod-" + id, kindNone},
		{Podman, "machine.slice/libpod-" + id[1:] + ".scope", kindNone}, {Podman, "machine.slice/libpod-" + strings.ToUpper(id) + ".scope", kindNone},
		{Podman, "machine.slice/libpod-" + id + ".scope/container", kindNone},
		{Podman, "machine.slice/libpod-" + id + ".scope/libpod-" + id + ".scope", kindNone},
		{Podman, "machine.slice/machine-libpod_pod_" + id + ".slice", kindPlace},
		{Podman, "machine.slice/machine-libpod_pod_" + id + ".slice/libpod-" + id + ".scope", kindPayload},
		{Podman, "machine.slice/machine-x.slice/libpod-" + id + ".scope", kindNone},
		{Podman, "libpod_parent", kindPlace}, {Podman, "libpod_parent/libpod-" + id, kindPayload}, {Podman, "libpod_parent/conmon", kindNone},
		{Podman, "libpod_parent/libpod-conmon-" + id, kindNone}, {Podman, "libpod_parent/" + id, kindPlace},
		{Podman, "libpod_parent/" + id + "/libpod-" + id, kindPayload}, {Podman, "libpod_parent/libpod-" + id + "/libpod-" + id, kindNone},
		{Podman, "system.slice", kindPlace}, {Podman, "system.slice/web.service", kindPlace}, {Podman, "system.slice/web.service/runtime", kindNone},
		{Podman, "system.slice/web.service/libpod-payload-" + id, kindPayload}, {Podman, "system.slice/libpod-payload-" + id, kindNone},
		{Podman, "system.slice/web.service/x/libpod-payload-" + id, kindNone}, {Podman, "user.slice/web.service/libpod-payload-" + id, kindNone},
	} {
		if got := allRules()[c.runtime].kind(c.dir); got != c.want {
			t.Errorf("to %s, %q is of kind %d; want %d", c.runtime, c.dir, got, c.want)
		}
	}
}

func TestParseRuntimes(t *testing.T) {
	for _, c := range []struct {
		text string
		want []Runtime
	}{{"", nil}, {"lxc", []Runtime{LXC}}, {"podman,lxc,podman", []Runtime{Podman, LXC}}, {"lxc,nspawn,podman", Runtimes()}} {
		if got, err := ParseRuntimes(c.text); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q gives %v, %v; want %v", c.text, got, err, c.want)
		}
	}
	for _, text := range []string{"docker", "lxc,", ",", "LXC", "lxc podman"} {
		if got, err := ParseRuntimes(text); !errors.Is(err, ErrRuntime) || !strings.Contains(err.Error(), "use lxc, nspawn and podman") {
			t.Errorf("%q gives %v, %v; want ErrRuntime", text, got, err)
		}
	}
}

func TestUnescape(t *testing.T) {
	for text, want := range map[string]string{`a`: "a", `web\x2d1`: "web-1", `a\x5cb`: `a\b`} {
		if got, err := unescapeUnit(text); err != nil || got != want {
			t.Errorf("%q gives %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{`a\`, `a\x2`, `a\n11`, `a\xzz`} {
		if got, err := unescapeUnit(text); !errors.Is(err, errEscape) {
			t.Errorf("%q gives %q, %v; want an error", text, got, err)
		}
	}
}

// TestLXCNames: what the kernel says of the parent of init decides where the path can mean two names.
func TestLXCNames(t *testing.T) {
	w := newWorld(t, LXC)
	monitor := func(dir string, ns []int, args ...string) int { return w.process(1, dir, args, ns...) }
	titled := monitor("lxc.monitor.c1-1", nil, "[lxc monitor] /var/lib/my lxc c1")
	plain := monitor("lxc.monitor.c1-1", nil, "[lxc monitor] /var/lib/lxc c1-1")
	other := monitor("lxc.monitor.x", nil, "[lxc monitor] /var/lib/lxc x")
	foreground := monitor("lxc.monitor.c1-1", nil, "lxc-start", "-F", "-n", "c1-1")
	elsewhere := monitor("", nil, "[lxc monitor] /var/lib/lxc c1")
	nested := monitor("lxc.monitor.c1/lxc.monitor.c1", nil, "[lxc monitor] /var/lib/lxc c1")
	guest := monitor("lxc.monitor.c1", []int{7}, "[lxc monitor] /var/lib/lxc c1")
	for _, c := range []struct {
		dir    string
		parent int
		want   string
	}{
		{"lxc.payload.c1", 1, "c1"}, {"lxc.payload.a-b", 1, "a-b"}, {"lxc.payload.-1", 1, "-1"}, {"lxc.payload.c1-", 1, "c1-"},
		{"lxc.payload.c1-1", titled, "c1"}, {"lxc.payload.c1-1", plain, "c1-1"}, {"lxc.payload.c1-1", foreground, "c1-1"},
		{"lxc.payload.c1-1", other, ""}, {"lxc.payload.c1-1", elsewhere, ""}, {"lxc.payload.c1-1", nested, ""},
		{"lxc.payload.c1-1", guest, ""}, {"lxc.payload.c1-1", 1, ""}, {"lxc.payload.c1-1", 0, ""},
	} {
		name, _, err := lxcNamed(w.d.procs, c.dir, process{parent: c.parent})
		if name != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s with parent %d is %q, %v; want %q", c.dir, c.parent, name, err, c.want)
		}
	}
}

func TestPodmanNames(t *testing.T) {
	w := newWorld(t, Podman)
	conmon := w.process(1, "machine.slice/libpod-conmon-x.scope", []string{"/usr/bin/conmon", "--api-version", "1", "-c", podmanID, "-u", podmanID, "-n", "web"})
	wrong := w.process(1, "", []string{"/usr/bin/conmon", "-c", podmanID[1:] + "0", "-n", "web"})
	nameless := w.process(1, "", []string{"/usr/bin/conmon", "-c", podmanID})
	guest := w.process(1, "", []string{"/usr/bin/conmon", "-c", podmanID, "-n", "web"}, 8)
	for _, c := range []struct {
		dir    string
		parent int
		want   string
	}{
		{"machine.slice/libpod-" + podmanID + ".scope", conmon, "web"}, {"libpod_parent/libpod-" + podmanID, conmon, "web"},
		{"system.slice/a-b.service/libpod-payload-" + podmanID, conmon, "web"},
		{"libpod_parent/libpod-" + podmanID, wrong, ""}, {"libpod_parent/libpod-" + podmanID, nameless, ""},
		{"libpod_parent/libpod-" + podmanID, guest, ""}, {"libpod_parent/libpod-" + podmanID, 1, ""},
	} {
		name, identity, err := podmanNamed(w.d.procs, c.dir, process{parent: c.parent})
		if name != c.want || (err == nil) != (c.want != "") || err == nil && identity != podmanID {
			t.Errorf("%s with parent %d is %q of %q, %v; want %q", c.dir, c.parent, name, identity, err, c.want)
		}
	}
}
