package lxd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"devlxd/internal/lxdapi"
	"devlxd/registry"
	"devlxd/source"
)

func TestMain(m *testing.M) {
	if helped() {
		return
	}
	goleak.VerifyTestMain(m)
}

// patient is how long a test waits for what has to come.
const patient = 20 * time.Second

func eventually(t interface {
	Helper()
	Fatalf(string, ...any)
}, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patient)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(time.Millisecond)
	}
}

// testTimes are short, but for those that a busy machine must not run into.
func testTimes() Times {
	return Times{Retry: 2 * time.Millisecond, RetryMost: 20 * time.Millisecond, Silence: 30 * time.Second, State: time.Millisecond}
}

// rig is a daemon and a mirror of it.
type rig struct {
	t   testing.TB
	f   *fake
	reg *registry.Registry
	m   *Mirror
}

func newRig(t testing.TB, prepare func(*fake)) *rig {
	t.Helper()
	r := &rig{t: t, f: newFake(t)}
	t.Cleanup(r.close)
	if prepare != nil {
		prepare(r.f)
	}
	r.m, r.reg = r.mirror()
	r.load()
	return r
}

func (r *rig) close() {
	if r.m != nil {
		_ = r.m.Close()
	}
	r.f.close()
}

// mirror makes another mirror of the daemon, with a registry of its own.
func (r *rig) mirror() (*Mirror, *registry.Registry) {
	reg := registry.New(registry.Options{})
	return New(Options{
		Address: lxdapi.Address{Socket: r.f.socket}, Registry: reg, Binder: r.f.host.binder(reg), Times: testTimes(), Log: slog.New(slog.DiscardHandler), host: r.f.host,
	}), reg
}

func (r *rig) load() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	if err := r.m.Load(ctx); err != nil {
		r.t.Fatal(err)
	}
}

// settled waits until the registry is as the daemon, and nothing is left to be read.
func (r *rig) settled() {
	r.t.Helper()
	eventually(r.t, "registry and daemon differ", r.compare)
}

func (r *rig) compare() error {
	s := r.m.Status()
	if !s.Connected || s.Pending > 0 || s.Broken > 0 {
		return fmt.Errorf("not at rest: %+v", s)
	}
	want := r.f.expected()
	got := make(map[string]string)
	for _, c := range r.reg.Containers() {
		got[c.Name()] = describe(c)
	}
	if !maps.Equal(want, got) {
		return fmt.Errorf("containers\n%v\nwant\n%v", got, want)
	}
	if images, want := imagesOf(r.reg), r.f.imageList(); !slices.Equal(images, want) {
		return fmt.Errorf("images %v; want %v", images, want)
	}
	return nil
}

// description is a container as JSON: what it must be like.
type description struct {
	ID, Hostname string
	PID          int
	Config       map[string]string
	Devices      map[string]map[string]string
}

func (d description) String() string {
	b, err := json.Marshal(d) // sorts maps
	if err != nil {
		panic(err)
	}
	return string(b)
}

func describe(c *registry.Container) string {
	s := c.Snapshot()
	d := description{ID: s.InstanceID(), Hostname: s.Hostname(), Config: configOf(s), Devices: devicesOf(s)}
	if b := c.Binding(); b != nil && !b.Dead() {
		d.PID = b.InitPID()
	}
	return d.String()
}

func configOf(s *registry.Snapshot) map[string]string {
	config := make(map[string]string)
	for _, e := range s.Config() {
		config[e.Key] = string(e.Value())
	}
	return config
}

func devicesOf(s *registry.Snapshot) map[string]map[string]string {
	devices := make(map[string]map[string]string)
	for _, d := range s.Devices() {
		devices[d.Name] = make(map[string]string)
		for _, kv := range d.Config {
			devices[d.Name][kv.Key] = kv.Value
		}
	}
	return devices
}

// expected is what a mirror must have, made without the code under test.
func (f *fake) expected() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	want := make(map[string]string)
	for k, i := range f.instances {
		if i.Location != "here" || i.Type != "container" {
			continue
		}
		shown := f.show(i)
		d := description{ID: "id-" + strings.TrimPrefix(i.config["volatile.cloud-init.instance-id"], "id-"), Hostname: k.name, PID: i.pid, Config: make(map[string]string), Devices: shown.ExpandedDevices}
		for name, value := range shown.ExpandedConfig {
			if strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "cloud-init.") || name == "security.devlxd" || name == "volatile.eth0.hwaddr" {
				d.Config[name] = value
			}
		}
		name := k.name
		if k.project != "default" {
			name = k.project + "_" + k.name
		}
		want[name] = d.String()
	}
	return want
}

func imagesOf(reg *registry.Registry) (list []string) {
	for _, i := range reg.Images() {
		list = append(list, fmt.Sprintf("%s %v %d", i.Fingerprint[:4], i.Cached, i.Size))
	}
	return list
}

func (f *fake) imageList() (list []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for fp, i := range f.images {
		list = append(list, fmt.Sprintf("%s %v %d", fp[:4], i.Cached, len("image")))
	}
	slices.Sort(list)
	return list
}

// view is what a guest knows that has read everything once and follows the events since.
type view struct {
	binding *registry.Binding
	ring    *registry.Ring
	cursor  registry.Cursor
	config  map[string]string // user.*
	devices map[string]map[string]string
	events  int
}

func newView(c *registry.Container) *view {
	b := c.Binding()
	v := &view{binding: b, ring: b.Ring()}
	v.cursor = v.ring.Subscribe(registry.EventConfig | registry.EventDevice)
	s := c.Snapshot()
	v.config, v.devices = configOf(s), devicesOf(s)
	maps.DeleteFunc(v.config, func(k, _ string) bool { return !strings.HasPrefix(k, "user.") })
	return v
}

// follow applies the events that have come. An event that changes nothing, or does not fit to what the guest knows, is an error.
func (v *view) follow() error {
	for {
		e, err := v.ring.Next(&v.cursor)
		if err != nil || e == nil {
			return err
		}
		v.events++
		if err := v.apply(e.Payload(false)); err != nil {
			return fmt.Errorf("event %s: %w", bytes.TrimSpace(e.Payload(false)), err)
		}
	}
}

func (v *view) apply(payload []byte) error {
	var e struct {
		Type     string
		Metadata struct {
			Key, Value, Action, Name string
			OldValue                 string `json:"old_value"`
			Config                   map[string]string
		}
	}
	if err := json.Unmarshal(payload, &e); err != nil {
		return err
	}
	m := &e.Metadata
	if e.Type == "config" {
		if m.OldValue != v.config[m.Key] || m.Value == m.OldValue {
			return fmt.Errorf("value was %q", v.config[m.Key])
		}
		if v.config[m.Key] = m.Value; m.Value == "" {
			delete(v.config, m.Key)
		}
		return nil
	}
	old, had := v.devices[m.Name]
	switch {
	case m.Action == "removed" && had:
		delete(v.devices, m.Name)
	case m.Action == "added" && !had, m.Action == "updated" && had && !maps.Equal(old, m.Config):
		v.devices[m.Name] = m.Config
	default:
		return fmt.Errorf("device was %v (%v)", old, had)
	}
	return nil
}

// matches reports whether the guest knows what the registry has.
func (v *view) matches() error {
	s := v.binding.Container().Snapshot()
	config := configOf(s)
	maps.DeleteFunc(config, func(k, _ string) bool { return !strings.HasPrefix(k, "user.") })
	if !maps.Equal(config, v.config) {
		return fmt.Errorf("guest has config %v; the registry %v", v.config, config)
	}
	if !maps.EqualFunc(devicesOf(s), v.devices, func(a, b map[string]string) bool { return maps.Equal(a, b) }) {
		return fmt.Errorf("guest has devices %v; the registry %v", v.devices, devicesOf(s))
	}
	return nil
}

// container finds a container that must be there.
func (r *rig) container(name string) *registry.Container {
	r.t.Helper()
	c, ok := r.reg.Container(name)
	if !ok {
		r.t.Fatalf("no container %q", name)
	}
	return c
}

var _ source.Binder = (*fakeBinder)(nil)
