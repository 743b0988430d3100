package store

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"

	"devlxd/registry"
	"devlxd/source"
)

func TestContainerLife(t *testing.T) {
	h := newHarness(t)
	config := map[string]string{"user.a": "1", "cloud-init.user-data": "#cloud-config\n"}
	devices := map[string]map[string]string{"eth0": {"type": "nic"}}
	h.must(h.AddContainer(source.NewContainer{Name: "c", Config: config, Devices: devices}))
	config["user.a"], devices["eth0"]["type"] = "changed by the caller", "disk"

	h.must(h.UpdateConfig("c", map[string]string{"user.b": "2", "user.c": ""}, []string{"user.a", "user.absent"}))
	h.must(h.AddDevice("c", "root", map[string]string{"type": "disk", "path": "/"}))
	h.must(h.SetDevice("c", "root", map[string]string{"pool": "default"}, []string{"path"}))
	h.must(h.AddDevice("c", "gone", map[string]string{"type": "none"}))
	h.must(h.RemoveDevice("c", "gone"))
	want := containerState{
		Config: map[string]string{"user.b": "2", "user.c": "", "cloud-init.user-data": "#cloud-config\n"},
		Devices: map[string]map[string]string{
			"eth0": {"type": "nic"},
			"root": {"type": "disk", "pool": "default"},
		},
	}
	for range 2 {
		if got := stateOf(h.reg).Containers["c"]; !reflect.DeepEqual(got, want) {
			t.Fatalf("container is %+v; want %+v", got, want)
		}
		h.reopen()
	}
	h.must(h.RemoveContainer("c"))
	if h.reg.Len() != 0 {
		t.Error("the registry still has the container")
	}
	h.reopen()
	if h.reg.Len() != 0 {
		t.Error("the container is back after a restart")
	}
	h.must(h.AddContainer(source.NewContainer{Name: "c"}))
}

// TestRefusedChanges checks that what is refused changes nothing.
func TestRefusedChanges(t *testing.T) {
	h := newHarness(t)
	h.must(h.AddContainer(source.NewContainer{
		Name: "c", Config: map[string]string{"user.a": "1", "user.big": strings.Repeat("v", source.MaxValueLen)},
		Devices: map[string]map[string]string{"d": {"type": "nic", "name": "eth0"}},
	}))
	big := make(map[string]string)
	for i := range 8 {
		big[fmt.Sprint("user.", i)] = strings.Repeat("v", source.MaxValueLen)
	}
	many := make(map[string]string)
	for i := range source.MaxConfigKeys {
		many[fmt.Sprint("user.", i)] = ""
	}
	nic := map[string]string{"type": "nic"}
	before, file := stateOf(h.reg), readAll(t, h.path(stateName))
	for _, c := range []struct {
		name string
		err  error
		kind error
		text string
	}{
		{"add again", h.AddContainer(source.NewContainer{Name: "c"}), source.ErrExists, `container "c" already exists`},
		{"add with a bad name", h.AddContainer(source.NewContainer{Name: "a/b"}), source.ErrInvalid, "container name"},
		{"add with a bad config", h.AddContainer(source.NewContainer{Name: "n", Config: map[string]string{"x": ""}}), source.ErrInvalid, "config key"},
		{"remove absent", h.RemoveContainer("n"), source.ErrNotFound, `container "n" not found`},
		{"update absent", h.UpdateConfig("n", nil, nil), source.ErrNotFound, `container "n" not found`},
		{"update empty name", h.UpdateConfig("", nil, nil), source.ErrNotFound, `container "" not found`},
		{"set a bad key", h.UpdateConfig("c", map[string]string{"user.b": "", "limits.cpu": "1"}, nil), source.ErrInvalid, "limits.cpu"},
		{"set a bad value", h.UpdateConfig("c", map[string]string{"user.b": "", "security.devlxd": "maybe"}, nil), source.ErrInvalid, "true or false"},
		{"set and unset", h.UpdateConfig("c", map[string]string{"user.a": "2"}, []string{"user.a"}), source.ErrInvalid, "both set and unset"},
		{"unset a misspelt key", h.UpdateConfig("c", nil, []string{"user.a", "usr.a"}), source.ErrInvalid, "usr.a"},
		{"config too large", h.UpdateConfig("c", big, nil), source.ErrTooLarge, "config is too large"},
		{"too many keys", h.UpdateConfig("c", many, nil), source.ErrTooLarge, "1026 keys"},
		{"add a device again", h.AddDevice("c", "d", nic), source.ErrExists, `device "d" already exists`},
		{"add a device to nothing", h.AddDevice("n", "d", nic), source.ErrNotFound, `container "n"`},
		{"add a device with a bad name", h.AddDevice("c", "a/b", nic), source.ErrInvalid, "device name"},
		{"add a device without type", h.AddDevice("c", "e", nil), source.ErrInvalid, "type"},
		{"set an absent device", h.SetDevice("c", "e", nic, nil), source.ErrNotFound, `device "e"`},
		{"set a device of nothing", h.SetDevice("n", "e", nic, nil), source.ErrNotFound, `container "n"`},
		{"unset the type", h.SetDevice("c", "d", nil, []string{"type"}), source.ErrInvalid, "type"},
		{"set and unset a property", h.SetDevice("c", "d", map[string]string{"name": "x"}, []string{"name"}), source.ErrInvalid, "both"},
		{"remove an absent device", h.RemoveDevice("c", "e"), source.ErrNotFound, `device "e"`},
		{"remove a device of nothing", h.RemoveDevice("n", "e"), source.ErrNotFound, `container "n"`},
	} {
		t.Run(c.name, func(t *testing.T) { wantError(t, c.err, c.kind, c.text) })
	}
	if got := stateOf(h.reg); !reflect.DeepEqual(got, before) {
		t.Errorf("refused changes left %+v; want %+v", got, before)
	}
	if readAll(t, h.path(stateName)) != file {
		t.Error("refused changes were written")
	}
}

func readAll(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestNoChangeIsNotWritten: a configuration tool that sets the same values again costs no sync.
func TestNoChangeIsNotWritten(t *testing.T) {
	h := newHarness(t)
	h.must(h.AddContainer(source.NewContainer{
		Name: "c", Config: map[string]string{"user.a": "1"}, Devices: map[string]map[string]string{"d": {"type": "none"}},
	}))
	id, file := h.instanceID("c"), readAll(t, h.path(stateName))
	h.must(h.UpdateConfig("c", map[string]string{"user.a": "1"}, []string{"user.user-data"}))
	h.must(h.SetDevice("c", "d", map[string]string{"type": "none"}, []string{"absent"}))
	if readAll(t, h.path(stateName)) != file {
		t.Error("the same values were written again")
	}
	if got := h.instanceID("c"); got != id {
		t.Errorf("instance id = %q; want %q as before", got, id)
	}
}

func TestFullRegistry(t *testing.T) {
	h := &harness{t: t, dir: memDir(t), binder: newFakeBinder()}
	h.must(h.tryOpen(registry.Options{MaxContainers: 1}))
	t.Cleanup(func() { _ = h.Close() })
	h.must(h.AddContainer(source.NewContainer{Name: "a"}))
	h.binder.start(9)
	h.want(h.AddContainer(source.NewContainer{Name: "b", PID: 9}), source.ErrFull, "remove containers")
	if n := h.binder.opened(); n != 0 {
		t.Errorf("%d processes are still open", n)
	}
	h.reopen()
	if _, ok := h.reg.Container("b"); ok || h.reg.Len() != 1 {
		t.Error("the refused container is there after a restart")
	}
	h.must(h.RemoveContainer("a"))
	h.must(h.AddContainer(source.NewContainer{Name: "b"}))
}

func TestInstanceID(t *testing.T) {
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	h := newHarness(t)
	h.must(h.AddContainer(source.NewContainer{Name: "c", Devices: map[string]map[string]string{
		"eth0": {"type": "nic"}, "root": {"type": "disk"}, "lan": {"type": "nic", "name": "eth1"},
	}}))
	h.must(h.AddContainer(source.NewContainer{Name: "other"}))
	if a, b := h.instanceID("c"), h.instanceID("other"); !uuid.MatchString(a) || !uuid.MatchString(b) || a == b {
		t.Fatalf("instance ids %q and %q; want two UUIDs of version 4", a, b)
	}
	set := func(kv ...string) func() error {
		m := make(map[string]string)
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return func() error { return h.UpdateConfig("c", m, nil) }
	}
	unset := func(keys ...string) func() error { return func() error { return h.UpdateConfig("c", nil, keys) } }
	dev := func(name string, set map[string]string, unset ...string) func() error {
		return func() error { return h.SetDevice("c", name, set, unset) }
	}
	for _, c := range []struct {
		name   string
		change func() error
		renew  bool
	}{
		{"user.meta-data", set("user.meta-data", "x"), false},
		{"user.a", set("user.a", "x"), false},
		{"cloud-init.other", set("cloud-init.other", "x"), false},
		{"security.devlxd", set("security.devlxd", "false"), false},
		{"user.user-data", set("user.user-data", "x"), true},
		{"user.user-data again", set("user.user-data", "x"), false},
		{"user.user-data and another key", set("user.user-data", "y", "user.z", "1"), true},
		{"user.user-data emptied", set("user.user-data", ""), true},
		{"user.user-data unset", unset("user.user-data"), true},
		{"user.vendor-data", set("user.vendor-data", "x"), true},
		{"user.network-config", set("user.network-config", "x"), true},
		{"cloud-init.user-data", set("cloud-init.user-data", "x"), true},
		{"cloud-init.vendor-data", set("cloud-init.vendor-data", "x"), true},
		{"cloud-init.network-config", set("cloud-init.network-config", "x"), true},
		{"cloud-init.ssh-keys.me", set("cloud-init.ssh-keys.me", "me:x"), true},
		{"disk added", func() error { return h.AddDevice("c", "data", map[string]string{"type": "disk"}) }, false},
		{"disk property", dev("root", map[string]string{"path": "/"}), false},
		{"nic added", func() error { return h.AddDevice("c", "eth2", map[string]string{"type": "nic"}) }, true},
		{"nic property", dev("eth2", map[string]string{"network": "lxdbr0"}), false},
		{"nic named as its device", dev("eth2", map[string]string{"name": "eth2"}), false},
		{"nic renamed", dev("eth2", map[string]string{"name": "wan0"}), true},
		{"nic name unset", dev("eth2", nil, "name"), true},
		{"nic becomes a disk", dev("eth2", map[string]string{"type": "disk"}), true},
		{"nic removed", func() error { return h.RemoveDevice("c", "lan") }, true},
		{"disk removed", func() error { return h.RemoveDevice("c", "data") }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := h.instanceID("c")
			h.must(c.change())
			after := h.instanceID("c")
			if (after != before) != c.renew || !uuid.MatchString(after) {
				t.Errorf("instance id %q became %q; want a new one: %v", before, after, c.renew)
			}
		})
	}
	t.Run("override", func(t *testing.T) {
		stored := h.instanceID("c")
		h.must(set(source.KeyInstanceID, "mine")())
		if got := h.instanceID("c"); got != "mine" {
			t.Errorf("instance id = %q; want the one of the config", got)
		}
		h.reopen()
		if got := h.instanceID("c"); got != "mine" {
			t.Errorf("instance id after a restart = %q; want the one of the config", got)
		}
		h.must(unset(source.KeyInstanceID)())
		if got := h.instanceID("c"); got != stored {
			t.Errorf("instance id = %q; want %q again", got, stored)
		}
	})
}

// TestConcurrentWriters: changes of one container by many are all made, each whole.
func TestConcurrentWriters(t *testing.T) {
	h := newHarness(t)
	h.must(h.AddContainer(source.NewContainer{Name: "shared"}))
	const writers, rounds = 8, 15
	stop := make(chan struct{})
	var readers, wg sync.WaitGroup
	readers.Go(func() { // a change is seen whole
		for {
			select {
			case <-stop:
				return
			default:
			}
			c, _ := h.reg.Container("shared")
			s := c.Snapshot()
			for i := range writers {
				a, _ := s.Value(fmt.Sprintf("user.%d.a", i))
				b, _ := s.Value(fmt.Sprintf("user.%d.b", i))
				if string(a) != string(b) {
					t.Errorf("half of a change is visible: %q and %q", a, b)
					return
				}
			}
		}
	})
	for i := range writers {
		wg.Go(func() {
			own := fmt.Sprintf("own%d", i)
			if err := h.AddContainer(source.NewContainer{Name: own}); err != nil {
				t.Error(err)
			}
			for n := range rounds {
				v := fmt.Sprint(n)
				err := h.UpdateConfig("shared", map[string]string{fmt.Sprintf("user.%d.a", i): v, fmt.Sprintf("user.%d.b", i): v}, nil)
				if err != nil {
					t.Error(err)
				}
				if err := h.UpdateConfig(own, map[string]string{"user.n": v}, nil); err != nil {
					t.Error(err)
				}
			}
			if _, err := h.ImportImage(image(i, 5000), nil, source.ImageOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	close(stop)
	readers.Wait()
	before := stateOf(h.reg)
	if got := len(before.Containers["shared"].Config); got != 2*writers {
		t.Errorf("shared container has %d keys; want %d", got, 2*writers)
	}
	h.reopen()
	if got := stateOf(h.reg); !reflect.DeepEqual(got, before) {
		t.Error("state differs after a restart")
	}
}
