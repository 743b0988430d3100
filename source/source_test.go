package source_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"devlxd/source"
)

// outcome is a case of a validation: a nil want accepts, otherwise the error is of that kind and says text.
type outcome struct {
	name string
	err  error
	want error
	text string
}

func (o outcome) check(t *testing.T) {
	t.Helper()
	t.Run(o.name, func(t *testing.T) {
		switch {
		case o.want == nil && o.err != nil:
			t.Fatalf("error = %v; want none", o.err)
		case o.want == nil:
			return
		case !errors.Is(o.err, o.want):
			t.Fatalf("error = %v; want one that is %q", o.err, o.want)
		case !strings.Contains(o.err.Error(), o.text):
			t.Fatalf("error = %q; want it to say %q", o.err, o.text)
		case strings.Contains(o.err.Error(), "\n"):
			t.Fatalf("error = %q; want one line", o.err)
		}
	})
}

func TestValidateName(t *testing.T) {
	for _, c := range []struct {
		name string
		ok   bool
	}{
		{"c1", true}, {"C", true}, {"0", true}, {"a-b", true}, {"a_b.c", true}, {"a-", true}, {strings.Repeat("a", 63), true},
		{"", false}, {"-a", false}, {".a", false}, {"_a", false}, {"..", false}, {"a/b", false}, {"a b", false}, {"a\x00", false},
		{"a\n", false}, {"ä", false}, {"a:b", false}, {strings.Repeat("a", 64), false},
	} {
		o := outcome{name: fmt.Sprintf("%.20q", c.name), err: source.ValidateName(c.name)}
		if !c.ok {
			o.want, o.text = source.ErrInvalid, "letters, digits"
		}
		o.check(t)
	}
}

func TestValidateDeviceName(t *testing.T) {
	for _, c := range []struct {
		name string
		ok   bool
	}{
		{"eth0", true}, {"eth0:1", true}, {"0a", true}, {"my.disk_1", true}, {strings.Repeat("d", 64), true},
		{"", false}, {":a", false}, {"a/b", false}, {"a b", false}, {"-", false}, {strings.Repeat("d", 65), false},
	} {
		o := outcome{name: fmt.Sprintf("%.20q", c.name), err: source.ValidateDeviceName(c.name)}
		if !c.ok {
			o.want, o.text = source.ErrInvalid, "device name"
		}
		o.check(t)
	}
}

func TestValidateFingerprint(t *testing.T) {
	good := strings.Repeat("0123456789abcdef", 4)
	for _, c := range []struct {
		fp string
		ok bool
	}{
		{good, true}, {"", false}, {good[1:], false}, {good + "0", false}, {strings.ToUpper(good), false}, {"../" + good[3:], false},
		{"g" + good[1:], false},
	} {
		o := outcome{name: fmt.Sprintf("%.20q", c.fp), err: source.ValidateFingerprint(c.fp)}
		if !c.ok {
			o.want, o.text = source.ErrInvalid, "64 lower-case"
		}
		o.check(t)
	}
}

func TestValidateKey(t *testing.T) {
	for _, c := range []struct {
		key  string
		want error
		text string
	}{
		{key: "user.a"}, {key: "user.user-data"}, {key: "user.ü"}, {key: "user.a b?c%d#"}, {key: "user.."},
		{key: "cloud-init.user-data"}, {key: "cloud-init.ssh-keys.joe"},
		{key: "security.devlxd"}, {key: "security.devlxd.images"}, {key: "security.guestapi"}, {key: "security.guestapi.images"},
		{key: "limits.devlxd.connections"}, {key: "limits.devlxd.images"}, {"limits.devlxd.cpu", source.ErrInvalid, "limits.devlxd.connections"},
		{key: "volatile.eth0.hwaddr"}, {key: "volatile.a.b.hwaddr"}, {key: "volatile.cloud-init.instance-id"},
		{key: "user." + strings.Repeat("k", 250)},
		{"user." + strings.Repeat("k", 251), source.ErrTooLarge, "256 bytes, at most 255"},
		{"user.a/b", source.ErrInvalid, "'/'"},
		{"user.a\x00", source.ErrInvalid, "control"}, {"user.a\n", source.ErrInvalid, "control"}, {"user.a\u0085", source.ErrInvalid, "control"},
		{"user.\xff", source.ErrInvalid, "UTF-8"},
		{"", source.ErrInvalid, "use user.NAME"}, {"user.", source.ErrInvalid, "use user.NAME"}, {"user", source.ErrInvalid, "use user.NAME"},
		{"User.a", source.ErrInvalid, "use user.NAME"}, {"cloud-init.", source.ErrInvalid, "use user.NAME"},
		{"limits.cpu", source.ErrInvalid, "use user.NAME"}, {"security.nesting", source.ErrInvalid, "use user.NAME"},
		{"volatile..hwaddr", source.ErrInvalid, "use user.NAME"}, {"volatile.hwaddr", source.ErrInvalid, "use user.NAME"},
		{"volatile.eth0.name", source.ErrInvalid, "use user.NAME"}, {"volatile.last_state.ready", source.ErrInvalid, "use user.NAME"},
	} {
		outcome{fmt.Sprintf("%.30q", c.key), source.ValidateKey(c.key), c.want, c.text}.check(t)
	}
}

func TestValidateValue(t *testing.T) {
	big := strings.Repeat("v", source.MaxValueLen)
	for _, c := range []struct {
		key, value string
		want       error
		text       string
	}{
		{"user.a", "", nil, ""}, {"user.a", "line\nline\x00%s\u2028", nil, ""}, {"user.a", big, nil, ""},
		{"user.a", big + "v", source.ErrTooLarge, "1048577 bytes, at most 1048576"},
		{"user.a", "secret\xff", source.ErrInvalid, "not UTF-8"},
		{"security.devlxd", "true", nil, ""}, {"security.devlxd", "False", nil, ""}, {"security.devlxd.images", "ON", nil, ""},
		{"security.guestapi", "0", nil, ""}, {"security.guestapi.images", "Yes", nil, ""},
		{"security.devlxd", "", source.ErrInvalid, "true or false"}, {"security.devlxd", "flase", source.ErrInvalid, "true or false"},
		{"security.guestapi.images", " true", source.ErrInvalid, "true or false"},
		{"limits.devlxd.connections", "1", nil, ""}, {"limits.devlxd.requests", "unlimited", nil, ""},
		{"limits.devlxd.bytes", "1000000000", nil, ""}, {"limits.devlxd.bytes", "1000000001", source.ErrInvalid, "from 1 to 1000000000, or unlimited"},
		{"limits.devlxd.images", "0", source.ErrInvalid, "or unlimited"}, {"limits.devlxd.images", "", source.ErrInvalid, "or unlimited"},
		{"volatile.eth0.hwaddr", "00:16:3e:12:34:56", nil, ""}, {"volatile.eth0.hwaddr", "", nil, ""},
		{"volatile.ib0.hwaddr", "00:00:00:00:fe:80:00:00:00:00:00:00:02:00:5e:10:00:00:00:01", nil, ""},
		{"volatile.eth0.hwaddr", "0016.3e12.3456", source.ErrInvalid, "MAC"}, {"volatile.eth0.hwaddr", "00-16-3e-12-34-56", source.ErrInvalid, "MAC"},
		{"volatile.eth0.hwaddr", "02:00:5e:10:00:00:00:01", source.ErrInvalid, "MAC"}, {"volatile.eth0.hwaddr", "x", source.ErrInvalid, "MAC"},
		{"volatile.cloud-init.instance-id", "iid-local_01.x", nil, ""},
		{"volatile.cloud-init.instance-id", "", source.ErrInvalid, "letters"}, {"volatile.cloud-init.instance-id", "a\nb", source.ErrInvalid, "letters"},
		{"volatile.cloud-init.instance-id", "a: b", source.ErrInvalid, "letters"},
		{"volatile.cloud-init.instance-id", strings.Repeat("i", 129), source.ErrInvalid, "letters"},
	} {
		err := source.ValidateValue(c.key, c.value)
		outcome{fmt.Sprintf("%s=%.20q", c.key, c.value), err, c.want, c.text}.check(t)
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("error = %q; want it not to repeat the value", err)
		}
	}
}

// numbered returns n keys with values of size bytes.
func numbered(prefix string, n, size int) map[string]string {
	m := make(map[string]string, n)
	for i := range n {
		m[fmt.Sprintf("%s%04d", prefix, i)] = strings.Repeat("v", size)
	}
	return m
}

func TestValidateConfig(t *testing.T) {
	eight := numbered("user.", 8, source.MaxValueLen)
	fits := numbered("user.", 8, source.MaxValueLen-len("user.0000"))
	for _, o := range []outcome{
		{name: "nil", err: source.ValidateConfig(nil)},
		{name: "1024 keys", err: source.ValidateConfig(numbered("user.", 1024, 1))},
		{"1025 keys", source.ValidateConfig(numbered("user.", 1025, 1)), source.ErrTooLarge, "1025 keys, at most 1024"},
		{name: "8 MiB", err: source.ValidateConfig(fits)},
		{"8 MiB and keys", source.ValidateConfig(eight), source.ErrTooLarge, "at most 8388608"},
		{"bad key", source.ValidateConfig(map[string]string{"x": ""}), source.ErrInvalid, `"x"`},
		{"bad value", source.ValidateConfig(map[string]string{"security.devlxd": "x"}), source.ErrInvalid, "security.devlxd"},
	} {
		o.check(t)
	}
}

func TestValidateDevices(t *testing.T) {
	nic := map[string]string{"type": "nic"}
	with := func(key, value string) map[string]map[string]string {
		return map[string]map[string]string{"d": {"type": "disk", key: value}}
	}
	many := make(map[string]map[string]string)
	for i := range source.MaxDevices {
		many[fmt.Sprint("d", i)] = nic
	}
	tooMany := map[string]map[string]string{"one-more": nic}
	big := make(map[string]map[string]string)
	for i := range 16 {
		tooMany[fmt.Sprint("e", i)] = nic
		big[fmt.Sprint("d", i)] = map[string]string{"type": "disk", "user.x": strings.Repeat("v", source.MaxDeviceValueLen)}
	}
	for name, d := range many {
		tooMany[name] = d
	}
	wide := numbered("k", source.MaxDeviceKeys-1, 1)
	wide["type"] = "none"
	wider := numbered("k", source.MaxDeviceKeys, 1)
	wider["type"] = "none"
	for _, o := range []outcome{
		{name: "nil", err: source.ValidateDevices(nil)},
		{name: "64 devices", err: source.ValidateDevices(many)},
		{"too many", source.ValidateDevices(tooMany), source.ErrTooLarge, "at most 64"},
		{"1 MiB", source.ValidateDevices(big), source.ErrTooLarge, "at most 1048576"},
		{name: "128 properties", err: source.ValidateDevice("d", wide)},
		{"129 properties", source.ValidateDevice("d", wider), source.ErrTooLarge, "129 properties, at most 128"},
		{"no type", source.ValidateDevice("d", nil), source.ErrInvalid, "use one of none, nic"},
		{"unknown type", source.ValidateDevice("d", map[string]string{"type": "Nic"}), source.ErrInvalid, "unix-hotplug"},
		{"bad name", source.ValidateDevices(map[string]map[string]string{"a b": nic}), source.ErrInvalid, `"a b"`},
		{name: "odd property", err: source.ValidateDevices(with("user.a/b ü", "x\ny"))},
		{"empty property", source.ValidateDevices(with("", "x")), source.ErrInvalid, "property"},
		{"control", source.ValidateDevices(with("a\tb", "x")), source.ErrInvalid, "control"},
		{"long property", source.ValidateDevices(with(strings.Repeat("k", 256), "x")), source.ErrTooLarge, "256 bytes"},
		{"long value", source.ValidateDevices(with("k", strings.Repeat("v", source.MaxDeviceValueLen+1))), source.ErrTooLarge, "65537 bytes"},
		{"value not UTF-8", source.ValidateDevices(with("k", "\xff")), source.ErrInvalid, "UTF-8"},
	} {
		o.check(t)
	}
	for _, typ := range source.DeviceTypes() {
		outcome{name: "type " + typ, err: source.ValidateDevice("d", map[string]string{"type": typ})}.check(t)
	}
	source.DeviceTypes()[0] = "changed"
	if got := source.DeviceTypes()[0]; got != "none" {
		t.Errorf("DeviceTypes()[0] = %q after the caller changed its copy; want none", got)
	}
}

func TestValidateRequests(t *testing.T) {
	uid := uint32(100000)
	ok := source.NewContainer{Name: "c", Cgroup: "/lxc.payload.c", RootUID: &uid, PID: 4}
	edit := func(f func(*source.NewContainer)) error {
		c := ok
		f(&c)
		return c.Validate()
	}
	long := "/" + strings.Repeat("c", source.MaxCgroupLen)
	for _, o := range []outcome{
		{name: "container", err: ok.Validate()},
		{"container name", edit(func(c *source.NewContainer) { c.Name = "/" }), source.ErrInvalid, "container name"},
		{"config", edit(func(c *source.NewContainer) { c.Config = map[string]string{"a": ""} }), source.ErrInvalid, "config key"},
		{"devices", edit(func(c *source.NewContainer) { c.Devices = map[string]map[string]string{"d": nil} }), source.ErrInvalid, "type"},
		{"negative pid", edit(func(c *source.NewContainer) { c.PID = -1 }), source.ErrInvalid, "pid -1"},
		{"cgroup with a line break", edit(func(c *source.NewContainer) { c.Cgroup = "/a\nb" }), source.ErrInvalid, "cgroup"},
		{"long cgroup", edit(func(c *source.NewContainer) { c.Cgroup = long }), source.ErrTooLarge, "4097 bytes"},
		{name: "bind", err: source.BindRequest{PID: 1}.Validate()},
		{"bind pid 0", source.BindRequest{}.Validate(), source.ErrInvalid, "pid 0"},
		{"bind cgroup", source.BindRequest{PID: 1, Cgroup: "\x00"}.Validate(), source.ErrInvalid, "cgroup"},
		{name: "image", err: source.ImageOptions{}.Validate()},
		{name: "image of a container", err: source.ImageOptions{Type: "container"}.Validate()},
		{name: "image of a virtual machine", err: source.ImageOptions{Type: "virtual-machine"}.Validate()},
		{"image of what", source.ImageOptions{Type: "vm"}.Validate(), source.ErrInvalid, "container or virtual-machine"},
	} {
		o.check(t)
	}
}

func TestSameProcess(t *testing.T) {
	full := source.Facts{PID: 7, PidfdInode: 70, BootID: "b", CgroupID: 71, PidNSIno: 72, RootUID: 1000}
	with := func(f func(*source.Facts)) source.Facts {
		c := full
		f(&c)
		return c
	}
	old := with(func(f *source.Facts) { f.PidfdInode = 0 })
	for _, c := range []struct {
		name       string
		saved, now source.Facts
		same       bool
	}{
		{"same", full, full, true},
		{"pid reused", full, with(func(f *source.Facts) { f.PidfdInode = 99 }), false},
		{"another pid", full, with(func(f *source.Facts) { f.PID = 8 }), false},
		{"after a reboot", full, with(func(f *source.Facts) { f.BootID = "c" }), false},
		{"boot unknown", with(func(f *source.Facts) { f.BootID = "" }), with(func(f *source.Facts) { f.BootID = "" }), false},
		{"moved to another cgroup", full, with(func(f *source.Facts) { f.CgroupID = 9 }), true},
		{"older kernel", old, old, true},
		{"kernel upgraded to pidfs", old, full, true},
		{"older kernel, other cgroup", old, with(func(f *source.Facts) { f.PidfdInode, f.CgroupID = 0, 9 }), false},
		{"older kernel, other namespace", old, with(func(f *source.Facts) { f.PidfdInode, f.PidNSIno = 0, 9 }), false},
		{"older kernel, no cgroup", with(func(f *source.Facts) { f.PidfdInode, f.CgroupID = 0, 0 }),
			with(func(f *source.Facts) { f.PidfdInode, f.CgroupID = 0, 0 }), false},
		{"older kernel, no namespace", with(func(f *source.Facts) { f.PidfdInode, f.PidNSIno = 0, 0 }),
			with(func(f *source.Facts) { f.PidfdInode, f.PidNSIno = 0, 0 }), false},
		{"nothing known", source.Facts{}, source.Facts{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.saved.SameProcess(c.now); got != c.same {
				t.Errorf("SameProcess = %v; want %v", got, c.same)
			}
			if got := c.now.SameProcess(c.saved); got != c.same {
				t.Errorf("SameProcess the other way round = %v; want %v", got, c.same)
			}
		})
	}
}

// TestAcceptedKeysAreReadable checks what cloud-init and the guest need of every key that is let in.
func TestAcceptedKeysAreReadable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.OneOf(
			rapid.Custom(func(t *rapid.T) string { return "user." + rapid.String().Draw(t, "name") }),
			rapid.Custom(func(t *rapid.T) string { return "cloud-init." + string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) }),
		).Draw(t, "key")
		err := source.ValidateKey(key)
		readable := utf8.ValidString(key) && !strings.ContainsAny(key, "/\x00\r\n") && len(key) <= source.MaxKeyLen
		if err == nil && !readable {
			t.Fatalf("ValidateKey(%q) = nil; want an error", key)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\n\x00") {
			t.Fatalf("ValidateKey(%q) = %q; want one line", key, err)
		}
	})
}
