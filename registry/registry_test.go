package registry_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"devlxd/registry"
	"devlxd/registry/registrytest"
)

type config = map[string]string
type devices = map[string]map[string]string

func put(t testing.TB, r *registry.Registry, spec registry.Spec) *registry.Container {
	t.Helper()
	c, err := r.Put(spec)
	if err != nil {
		t.Fatalf("Put(%q) = %v", spec.Name, err)
	}
	return c
}

func TestSnapshotSaysWhatWasPut(t *testing.T) {
	r := registry.New(registry.Options{RenderValue: func(v string) ([]byte, int) { return []byte("HEAD " + v), 5 }})
	spec := registry.Spec{Name: "c1", InstanceID: "id-1",
		Config:  config{"user.b": "2", "user.a": "1", "cloud-init.user-data": "", "volatile.x": "\xff"},
		Devices: devices{"root": {"type": "disk", "path": "/"}, "eth0": {"type": "nic", "name": "eth0"}}}
	s := put(t, r, spec).Snapshot()
	if s.Name() != "c1" || s.InstanceID() != "id-1" {
		t.Errorf("Name, InstanceID = %q, %q", s.Name(), s.InstanceID())
	}
	var keys []string
	for _, e := range s.Config() {
		keys = append(keys, e.Key)
		want := spec.Config[e.Key]
		if string(e.Value()) != want || string(e.Response()) != "HEAD "+want {
			t.Errorf("entry %q = %q, response %q; want %q", e.Key, e.Value(), e.Response(), want)
		}
		if v, ok := s.Value(e.Key); !ok || string(v) != want {
			t.Errorf("Value(%q) = %q, %v", e.Key, v, ok)
		}
		if v, ok := s.Lookup([]byte(e.Key)); !ok || string(v) != "HEAD "+want {
			t.Errorf("Lookup(%q) = %q, %v", e.Key, v, ok)
		}
	}
	if want := []string{"cloud-init.user-data", "user.a", "user.b", "volatile.x"}; !slices.Equal(keys, want) {
		t.Errorf("keys = %q; want %q", keys, want)
	}
	for _, absent := range []string{"", "user.", "user.aa", "zzz", "a"} {
		if v, ok := s.Lookup([]byte(absent)); ok || v != nil {
			t.Errorf("Lookup(%q) = %q, %v", absent, v, ok)
		}
		if v, ok := s.Value(absent); ok || v != nil {
			t.Errorf("Value(%q) = %q, %v", absent, v, ok)
		}
	}
	want := `[{eth0 [{name eth0} {type nic}]} {root [{path /} {type disk}]}]`
	if got := fmt.Sprint(s.Devices()); got != want {
		t.Errorf("Devices = %s; want %s", got, want)
	}
}

// TestPutKeepsNothingOfTheCaller: a source may reuse its maps.
func TestPutKeepsNothingOfTheCaller(t *testing.T) {
	r := registry.New(registry.Options{})
	spec := registry.Spec{Name: "c1", Config: config{"user.a": "1"}, Devices: devices{"d": {"k": "v"}}}
	s := put(t, r, spec).Snapshot()
	spec.Config["user.a"], spec.Config["user.b"], spec.Devices["d"]["k"] = "2", "3", "w"
	if v, _ := s.Value("user.a"); string(v) != "1" || len(s.Config()) != 1 || s.Devices()[0].Get("k") != "v" {
		t.Errorf("snapshot changed with the caller's maps: %v %v", s.Config(), s.Devices())
	}
}

func TestPutSharesWhatDidNotChange(t *testing.T) {
	rendered := 0
	r := registry.New(registry.Options{RenderValue: func(v string) ([]byte, int) { rendered++; return []byte(v), 0 }})
	c := put(t, r, registry.Spec{Name: "c1", Config: config{"user.a": "1", "user.b": "2"}})
	first := c.Snapshot()
	first.Rendered(registry.RenderConfigList, func(*registry.Snapshot) []byte { return []byte("list") })
	if again := put(t, r, registry.Spec{Name: "c1", Config: config{"user.b": "2", "user.a": "1"}}); again != c || c.Snapshot() != first {
		t.Error("a Put that changes nothing made another snapshot")
	}
	put(t, r, registry.Spec{Name: "c1", Config: config{"user.a": "1", "user.b": "3", "user.c": "4"}})
	if rendered != 4 {
		t.Errorf("%d values rendered; want 2, then the 2 that are new", rendered)
	}
	second := c.Snapshot()
	a1, _ := first.Value("user.a")
	a2, _ := second.Value("user.a")
	if &a1[0] != &a2[0] {
		t.Error("an unchanged value is held twice")
	}
	if b, _ := first.Value("user.b"); string(b) != "2" {
		t.Errorf("the old snapshot changed: user.b = %q", b)
	}
	if got := second.Rendered(registry.RenderConfigList, func(*registry.Snapshot) []byte { return []byte("new list") }); string(got) != "new list" {
		t.Errorf("Rendered = %q; a body outlived its snapshot", got)
	}
}

// TestChangeIsVisibleBeforeItsEvent: while the event is made, the snapshot is new already. Otherwise one who subscribes just after
// the event and reads the snapshot would miss the change.
func TestChangeIsVisibleBeforeItsEvent(t *testing.T) {
	var c *registry.Container
	framed := 0
	r, b := running(t, registry.Options{FrameEvent: func(payload []byte) ([]byte, int) {
		framed++
		if v, _ := c.Snapshot().Value("user.a"); string(v) != "1" {
			t.Errorf("user.a = %q while its event is made", v)
		}
		return payload, 0
	}})
	c = b.Container()
	b.Ring()
	put(t, r, registry.Spec{Name: "c1", Config: config{"user.a": "1"}})
	if framed != 1 {
		t.Errorf("%d events; want 1", framed)
	}
}

// TestNothingIsMadeWithoutARing: without a subscriber, or without a running container, no event is encoded.
func TestNothingIsMadeWithoutARing(t *testing.T) {
	framed := 0
	r, b := running(t, registry.Options{FrameEvent: func(payload []byte) ([]byte, int) { framed++; return payload, 0 }})
	put(t, r, registry.Spec{Name: "c1", Config: config{"user.a": "1"}})
	b.Ring()
	r.Stop(b)
	put(t, r, registry.Spec{Name: "c1", Config: config{"user.a": "2"}})
	if framed != 0 || r.Stats().ConfigEvents != 0 {
		t.Errorf("%d events were made, %d counted; want none", framed, r.Stats().ConfigEvents)
	}
}

func TestRenderedOncePerSnapshot(t *testing.T) {
	s := put(t, registry.New(registry.Options{}), registry.Spec{Name: "c1"}).Snapshot()
	built := map[string]int{}
	for range 3 {
		for _, k := range registry.AllRenders() {
			got := s.Rendered(k, func(got *registry.Snapshot) []byte {
				if got != s {
					t.Error("build got another snapshot")
				}
				built[k.String()]++
				return []byte(k.String())
			})
			if string(got) != k.String() {
				t.Errorf("Rendered(%s) = %q", k, got)
			}
		}
	}
	for label, n := range built {
		if n != 1 {
			t.Errorf("%s was built %d times", label, n)
		}
	}
	if got := s.Rendered(registry.Render(99), func(*registry.Snapshot) []byte { return []byte("x") }); string(got) != "x" {
		t.Errorf("Rendered(99) = %q; want what build gives", got)
	}
}

func TestPutRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		spec registry.Spec
		want error
	}{
		{"no name", registry.Spec{}, registry.ErrName},
		{"empty key", registry.Spec{Name: "c1", Config: config{"": "x"}}, registry.ErrName},
		{"empty device", registry.Spec{Name: "c1", Devices: devices{"": {}}}, registry.ErrName},
		{"empty device key", registry.Spec{Name: "c1", Devices: devices{"d": {"": "x"}}}, registry.ErrName},
		{"one too many", registry.Spec{Name: "c3"}, registry.ErrFull},
		{"bad rendering", registry.Spec{Name: "c1", Config: config{"user.a": "bad"}}, registry.ErrRender},
		{"bad rendering of a new one", registry.Spec{Name: "c2", Config: config{"user.a": "bad"}}, registry.ErrFull},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := registry.New(registry.Options{MaxContainers: 1, RenderValue: func(v string) ([]byte, int) {
				if v == "bad" {
					return []byte(v), 7
				}
				return []byte(v), 0
			}})
			before := put(t, r, registry.Spec{Name: "c1", Config: config{"user.a": "good"}}).Snapshot()
			if c, err := r.Put(tt.spec); err != tt.want || c != nil {
				t.Errorf("Put = %v, %v; want %v", c, err, tt.want)
			}
			if c, _ := r.Container("c1"); c.Snapshot() != before || r.Len() != 1 {
				t.Error("a refused Put changed something")
			}
		})
	}
}

func TestMakesRoomAgain(t *testing.T) {
	r := registry.New(registry.Options{MaxContainers: 2})
	put(t, r, registry.Spec{Name: "a"})
	put(t, r, registry.Spec{Name: "b"})
	if _, err := r.Put(registry.Spec{Name: "c"}); err != registry.ErrFull {
		t.Fatalf("Put = %v; want ErrFull", err)
	}
	put(t, r, registry.Spec{Name: "a", InstanceID: "replaced, not added"})
	if err := r.Remove("a"); err != nil {
		t.Fatal(err)
	}
	put(t, r, registry.Spec{Name: "c"})
	var names []string
	for _, c := range r.Containers() {
		names = append(names, c.Name())
	}
	if got := strings.Join(names, " "); got != "b c" || r.Len() != 2 {
		t.Errorf("Containers = %s, Len = %d; want b c, 2", got, r.Len())
	}
}

func TestAccessKeys(t *testing.T) {
	for _, tt := range []struct {
		config          config
		allowed, images bool
	}{
		{nil, true, false},
		{config{"security.devlxd": ""}, true, false},
		{config{"security.devlxd": "true"}, true, false},
		{config{"security.devlxd": "false"}, false, false},
		{config{"security.devlxd": "FALSE"}, false, false},
		{config{"security.devlxd": "0"}, false, false},
		{config{"security.devlxd": "No"}, false, false},
		{config{"security.devlxd": "oFf"}, false, false},
		{config{"security.devlxd": " false"}, true, false},
		{config{"security.devlxd": "falsey"}, true, false},
		{config{"security.devlxd": "nonsense"}, true, false},
		{config{"security.guestapi": "false"}, false, false},
		{config{"security.devlxd": "true", "security.guestapi": "false"}, false, false},
		{config{"security.devlxd": "false", "security.guestapi": "true"}, false, false},
		{config{"security.devlxd.images": "true"}, true, true},
		{config{"security.devlxd.images": "YES"}, true, true},
		{config{"security.devlxd.images": "1"}, true, true},
		{config{"security.devlxd.images": "On"}, true, true},
		{config{"security.devlxd.images": "ye\u017f"}, true, false},
		{config{"security.devlxd.images": ""}, true, false},
		{config{"security.devlxd.images": "false"}, true, false},
		{config{"security.guestapi.images": "true"}, true, true},
		{config{"security.devlxd.images": "false", "security.guestapi.images": "true"}, true, true},
		{config{"security.devlxd": "false", "security.devlxd.images": "true"}, false, true},
	} {
		t.Run(fmt.Sprint(tt.config), func(t *testing.T) {
			s := put(t, registry.New(registry.Options{}), registry.Spec{Name: "c1", Config: tt.config}).Snapshot()
			if s.Allowed() != tt.allowed || s.ImagesAllowed() != tt.images {
				t.Errorf("Allowed, ImagesAllowed = %v, %v; want %v, %v", s.Allowed(), s.ImagesAllowed(), tt.allowed, tt.images)
			}
		})
	}
}

// TestRevoked: told at each change from open to closed, running or not, after the snapshot is in place, and at no other time.
func TestRevoked(t *testing.T) {
	var seen registrytest.Recorder
	r := registry.New(registry.Options{Observer: &seen})
	for i, step := range []struct {
		value string
		want  int
	}{{"false", 0}, {"true", 0}, {"false", 1}, {"off", 1}, {"", 1}, {"no", 2}} {
		c := put(t, r, registry.Spec{Name: "c1", Config: config{"security.devlxd": step.value}})
		got := seen.AllRevoked()
		if len(got) != step.want {
			t.Fatalf("step %d: Revoked called %d times; want %d", i, len(got), step.want)
		}
		if step.want > 0 && got[0] != c {
			t.Errorf("step %d: Revoked got another container", i)
		}
	}
}

func TestDevicesWithHwaddr(t *testing.T) {
	r := registry.New(registry.Options{})
	c := put(t, r, registry.Spec{Name: "c1",
		Config: config{"volatile.eth0.hwaddr": "00:16:3e:00:00:01", "volatile.eth1.hwaddr": "00:16:3e:00:00:02",
			"volatile.eth2.hwaddr": "00:16:3e:00:00:03", "volatile.root.hwaddr": "x", "volatile.eth3.hwaddr": ""},
		Devices: devices{"eth0": {"type": "nic", "name": "eth0", "a": "b"}, "eth1": {"type": "nic", "hwaddr": "own"},
			"eth2": {"type": "nic", "hwaddr": ""}, "eth3": {"type": "nic"}, "eth4": {"type": "nic"}, "root": {"type": "disk"}}})
	s := c.Snapshot()
	before := fmt.Sprint(s.Devices())
	want := "[{eth0 [{a b} {hwaddr 00:16:3e:00:00:01} {name eth0} {type nic}]} {eth1 [{hwaddr own} {type nic}]} " +
		"{eth2 [{hwaddr 00:16:3e:00:00:03} {type nic}]} {eth3 [{type nic}]} {eth4 [{type nic}]} {root [{type disk}]}]"
	if got := fmt.Sprint(s.DevicesWithHwaddr()); got != want {
		t.Errorf("DevicesWithHwaddr =\n%s; want\n%s", got, want)
	}
	if got := fmt.Sprint(s.Devices()); got != before {
		t.Errorf("Devices changed to %s", got)
	}
}

func TestImages(t *testing.T) {
	r := registry.New(registry.Options{})
	if err := r.PutImage(registry.Image{}); err != registry.ErrFingerprint {
		t.Errorf("PutImage without a fingerprint = %v", err)
	}
	properties := map[string]string{"os": "debian"}
	for _, image := range []registry.Image{
		{Fingerprint: "bb", Public: true, Path: "/x/bb", Properties: properties}, {Fingerprint: "aa", RootfsPath: "/x/aa.rootfs"},
	} {
		if err := r.PutImage(image); err != nil {
			t.Fatal(err)
		}
	}
	properties["os"] = "changed"
	image, ok := r.LookupImage([]byte("bb"))
	if !ok || !image.Public || !image.Unified() || image.Properties["os"] != "debian" {
		t.Errorf("LookupImage(bb) = %+v, %v", image, ok)
	}
	if image, ok := r.Image("aa"); !ok || image.Unified() {
		t.Errorf("Image(aa) = %+v, %v", image, ok)
	}
	if _, ok := r.Image("b"); ok {
		t.Error("a prefix of a fingerprint found an image")
	}
	r.PutImage(registry.Image{Fingerprint: "bb", Cached: true})
	if now, _ := r.Image("bb"); !now.Cached || now.Public || image.Cached {
		t.Errorf("replaced image = %+v, the one held before = %+v", now, image)
	}
	if got := r.Images(); len(got) != 2 || got[0].Fingerprint != "aa" || got[1].Fingerprint != "bb" || r.Stats().Images != 2 {
		t.Errorf("Images = %v, Stats = %+v", got, r.Stats())
	}
	if err := r.RemoveImage("bb"); err != nil {
		t.Error(err)
	}
	if err := r.RemoveImage("bb"); err != registry.ErrNotFound {
		t.Errorf("second RemoveImage = %v; want ErrNotFound", err)
	}
}

func TestStats(t *testing.T) {
	var host registrytest.Host
	r := registry.New(registry.Options{})
	quiet := host.Start(t, r, registry.Spec{Name: "quiet"})
	b := host.Start(t, r, registry.Spec{Name: "c1"})
	put(t, r, registry.Spec{Name: "stopped"})
	put(t, r, registry.Spec{Name: "quiet", Config: config{"user.a": "nobody listens"}})
	b.Ring()
	put(t, r, registry.Spec{Name: "c1", Config: config{"user.a": "1", "user.b": "2"}, Devices: devices{"d": {}}})
	s := r.Stats()
	if s.Containers != 3 || s.Bound != 2 || s.Rings != 1 || s.RingBytes <= 3*registry.EventOverhead {
		t.Errorf("Stats = %+v; want 3 containers, 2 bound, 1 ring with 3 events", s)
	}
	if s.Published(registry.EventConfig) != 2 || s.Published(registry.EventDevice) != 1 || s.Published(0) != 0 {
		t.Errorf("Stats = %+v; want 2 config events and 1 device event", s)
	}
	r.Stop(b)
	b.Ring()
	r.Stop(quiet)
	quiet.Ring() // too late to count
	if s := r.Stats(); s.Bound != 0 || s.Rings != 0 || s.RingBytes != 0 || s.ConfigEvents != 2 {
		t.Errorf("Stats = %+v after the stops; want no ring, and the counters kept", s)
	}
}
