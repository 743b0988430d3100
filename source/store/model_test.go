package store

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"devlxd/registry"
	"devlxd/source"
)

// model says what the store should hold, in maps.
type model struct {
	containers map[string]containerState
	running    map[string]int
	images     map[string]source.ImageOptions
	alive      map[int]bool // processes
}

var (
	modelNames  = rapid.SampledFrom([]string{"a", "b", "c-1", "d.2", "e_3"})
	modelKeys   = rapid.SampledFrom([]string{"user.a", "user.b", "user.c", "cloud-init.user-data", "security.devlxd", "bad"})
	modelValues = rapid.SampledFrom([]string{"", "1", "true", "long: " + fmt.Sprintf("%05000d", 0)})
	modelDevs   = rapid.SampledFrom([]string{"eth0", "root"})
	modelDev    = rapid.MapOf(rapid.SampledFrom([]string{"type", "name", "path"}), rapid.SampledFrom([]string{"nic", "disk"}))
	modelPIDs   = rapid.IntRange(10, 13)
)

func validConfig(m map[string]string) bool { return source.ValidateConfig(m) == nil }

// expect checks the kind of an error; nil means success.
func expect(t *rapid.T, err, kind error) {
	if !errors.Is(err, kind) || kind == nil && err != nil {
		t.Fatalf("error = %v; want %v", err, kind)
	}
}

// TestModel makes random changes to the store and to maps, restarts now and then, and compares.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(memDir(t), "model-*")
		if err != nil {
			rt.Fatal(err)
		}
		h := &harness{t: t, dir: dir, binder: newFakeBinder()}
		h.open()
		defer func() { _ = h.Close() }()
		m := &model{
			containers: make(map[string]containerState), running: make(map[string]int),
			images: make(map[string]source.ImageOptions), alive: make(map[int]bool),
		}
		rt.Repeat(map[string]func(*rapid.T){
			"add":          func(t *rapid.T) { m.add(t, h) },
			"remove":       func(t *rapid.T) { m.remove(t, h) },
			"config":       func(t *rapid.T) { m.config(t, h) },
			"addDevice":    func(t *rapid.T) { m.addDevice(t, h) },
			"setDevice":    func(t *rapid.T) { m.setDevice(t, h) },
			"removeDevice": func(t *rapid.T) { m.removeDevice(t, h) },
			"bind":         func(t *rapid.T) { m.bind(t, h) },
			"process":      func(t *rapid.T) { m.process(t, h) },
			"import":       func(t *rapid.T) { m.importImage(t, h) },
			"removeImage":  func(t *rapid.T) { m.removeImage(t, h) },
			"restart":      func(t *rapid.T) { h.reopen() },
			"":             func(t *rapid.T) { m.compare(t, h) },
		})
	})
}

func (m *model) compare(t *rapid.T, h *harness) {
	got := stateOf(h.reg)
	if !reflect.DeepEqual(got.Containers, m.containers) {
		t.Fatalf("containers are %+v; want %+v", got.Containers, m.containers)
	}
	for name := range m.containers {
		if pid := h.running(name); pid != m.running[name] {
			t.Fatalf("%s runs as pid %d; want %d", name, pid, m.running[name])
		}
	}
	if n := h.binder.opened(); n != len(m.running) {
		t.Fatalf("%d processes are held; want %d", n, len(m.running))
	}
	for fp, o := range m.images {
		if i, ok := got.Images[fp]; !ok || i.Public != o.Public || i.Cached != o.Cached {
			t.Fatalf("image is %+v (there: %v); want %+v", i, ok, o)
		}
	}
	if got := h.unfinished(); len(got) != 0 {
		t.Fatalf("images are noted as unfinished: %q; want none", got)
	}
	if want := slices.Sorted(maps.Keys(m.images)); !slices.Equal(h.files(), want) {
		t.Fatalf("image files are %q; want %q", h.files(), want)
	}
}

func (m *model) add(t *rapid.T, h *harness) {
	n := source.NewContainer{
		Name: modelNames.Draw(t, "name"), Config: rapid.MapOfN(modelKeys, modelValues, 0, 3).Draw(t, "config"),
		Devices: rapid.MapOfN(modelDevs, modelDev, 0, 2).Draw(t, "devices"),
	}
	if rapid.Bool().Draw(t, "with process") {
		n.PID = modelPIDs.Draw(t, "pid")
	}
	_, taken := m.containers[n.Name]
	err := h.AddContainer(n)
	switch {
	case !validConfig(n.Config) || source.ValidateDevices(n.Devices) != nil:
		expect(t, err, source.ErrInvalid)
	case taken:
		expect(t, err, source.ErrExists)
	case n.PID != 0 && !m.alive[n.PID]:
		expect(t, err, source.ErrNoProcess)
	case n.PID != 0 && m.used(n.PID):
		expect(t, err, source.ErrConflict)
	default:
		expect(t, err, nil)
		m.containers[n.Name] = containerState{Config: n.Config, Devices: n.Devices}
		if n.PID != 0 {
			m.running[n.Name] = n.PID
		}
	}
}

// used reports whether a container runs as pid: its cgroup is taken.
func (m *model) used(pid int) bool {
	return slices.Contains(slices.Collect(maps.Values(m.running)), pid)
}

func (m *model) remove(t *rapid.T, h *harness) {
	name := modelNames.Draw(t, "name")
	err := h.RemoveContainer(name)
	if _, ok := m.containers[name]; !ok {
		expect(t, err, source.ErrNotFound)
		return
	}
	expect(t, err, nil)
	delete(m.containers, name)
	delete(m.running, name)
}

func (m *model) config(t *rapid.T, h *harness) {
	name := modelNames.Draw(t, "name")
	set := rapid.MapOfN(modelKeys, modelValues, 0, 3).Draw(t, "set")
	unset := rapid.SliceOfNDistinct(modelKeys, 0, 2, rapid.ID).Draw(t, "unset")
	err := h.UpdateConfig(name, set, unset)
	c, ok := m.containers[name]
	if !ok {
		expect(t, err, source.ErrNotFound)
		return
	}
	config, bad := maps.Clone(c.Config), false
	for _, key := range unset {
		_, both := set[key]
		bad = bad || both || key == "bad"
		delete(config, key)
	}
	maps.Copy(config, set)
	if bad || !validConfig(config) {
		expect(t, err, source.ErrInvalid)
		return
	}
	expect(t, err, nil)
	m.containers[name] = containerState{Config: config, Devices: c.Devices}
}

func (m *model) addDevice(t *rapid.T, h *harness) {
	name, dev, config := modelNames.Draw(t, "name"), modelDevs.Draw(t, "device"), modelDev.Draw(t, "config")
	err := h.AddDevice(name, dev, config)
	c, ok := m.containers[name]
	_, taken := c.Devices[dev]
	switch {
	case !ok:
		expect(t, err, source.ErrNotFound)
	case taken:
		expect(t, err, source.ErrExists)
	case source.ValidateDevice(dev, config) != nil:
		expect(t, err, source.ErrInvalid)
	default:
		expect(t, err, nil)
		m.device(name, dev, config)
	}
}

// device replaces a device; nil removes it.
func (m *model) device(name, dev string, config map[string]string) {
	c := m.containers[name]
	c.Devices = maps.Clone(c.Devices)
	if config == nil {
		delete(c.Devices, dev)
	} else {
		c.Devices[dev] = config
	}
	m.containers[name] = c
}

func (m *model) setDevice(t *rapid.T, h *harness) {
	name, dev, set := modelNames.Draw(t, "name"), modelDevs.Draw(t, "device"), modelDev.Draw(t, "set")
	unset := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"type", "path"}), 0, 1, rapid.ID).Draw(t, "unset")
	err := h.SetDevice(name, dev, set, unset)
	c, ok := m.containers[name]
	old, there := c.Devices[dev]
	if !ok || !there {
		expect(t, err, source.ErrNotFound)
		return
	}
	config, both := maps.Clone(old), false
	for _, key := range unset {
		_, both = set[key]
		delete(config, key)
	}
	maps.Copy(config, set)
	if both || source.ValidateDevice(dev, config) != nil {
		expect(t, err, source.ErrInvalid)
		return
	}
	expect(t, err, nil)
	m.device(name, dev, config)
}

func (m *model) removeDevice(t *rapid.T, h *harness) {
	name, dev := modelNames.Draw(t, "name"), modelDevs.Draw(t, "device")
	err := h.RemoveDevice(name, dev)
	if _, ok := m.containers[name].Devices[dev]; !ok {
		expect(t, err, source.ErrNotFound)
		return
	}
	expect(t, err, nil)
	m.device(name, dev, nil)
}

func (m *model) bind(t *rapid.T, h *harness) {
	name, pid := modelNames.Draw(t, "name"), modelPIDs.Draw(t, "pid")
	err := h.Bind(name, source.BindRequest{PID: pid})
	_, ok := m.containers[name]
	switch {
	case !ok:
		expect(t, err, source.ErrNotFound)
	case m.running[name] != 0:
		expect(t, err, source.ErrConflict)
	case !m.alive[pid]:
		expect(t, err, source.ErrNoProcess)
	case m.used(pid):
		expect(t, err, source.ErrConflict)
	default:
		expect(t, err, nil)
		m.running[name] = pid
	}
}

// process lets a process start, or one exit, which its watcher sees at once.
func (m *model) process(t *rapid.T, h *harness) {
	pid := modelPIDs.Draw(t, "pid")
	if !m.alive[pid] {
		h.binder.start(pid)
		m.alive[pid] = true
		return
	}
	h.binder.exit(pid)
	delete(m.alive, pid)
	for name, p := range m.running {
		if p == pid {
			c, _ := h.reg.Container(name)
			h.reg.Stop(c.Binding())
			delete(m.running, name)
		}
	}
}

func (m *model) importImage(t *rapid.T, h *harness) {
	seed := rapid.IntRange(1, 3).Draw(t, "image")
	o := source.ImageOptions{Public: rapid.Bool().Draw(t, "public"), Cached: rapid.Bool().Draw(t, "cached")}
	fp := fingerprint(imageBytes(seed, 500))
	var i registry.Image
	i, err := h.ImportImage(image(seed, 500), nil, o)
	if _, ok := m.images[fp]; ok {
		expect(t, err, source.ErrExists)
		return
	}
	expect(t, err, nil)
	if i.Fingerprint != fp {
		t.Fatalf("fingerprint = %q; want %q", i.Fingerprint, fp)
	}
	m.images[fp] = o
}

func (m *model) removeImage(t *rapid.T, h *harness) {
	fp := fingerprint(imageBytes(rapid.IntRange(1, 3).Draw(t, "image"), 500))
	err := h.RemoveImage(fp)
	if _, ok := m.images[fp]; !ok {
		expect(t, err, source.ErrNotFound)
		return
	}
	expect(t, err, nil)
	delete(m.images, fp)
}
