package lxd

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"devlxd/registry"
	"devlxd/source"
)

// model is a daemon that anything happens to, a mirror of it, and the guests of the containers that run.
type model struct {
	*rig
	views map[string]*view
	down  bool
	held  []*event // by the disorder of announcements
}

// TestModel: after any sequence of changes, crashes, broken connections, disorder of announcements, cut answers and upgrades of devlxd, the
// registry is what the daemon has, and each guest was sent exactly the differences.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := &rig{t: t, f: newFake(t)}
		defer r.close()
		m := &model{rig: r, views: make(map[string]*view)}
		r.m, r.reg = r.mirror()
		r.f.takesState = rapid.Bool().Draw(rt, "takes state")
		r.f.host.blind = rapid.Bool().Draw(rt, "blind")
		r.load()
		rt.Repeat(map[string]func(*rapid.T){
			"create":   m.create,
			"change":   m.change,
			"life":     m.life,
			"move":     m.move,
			"profile":  m.profile,
			"image":    m.image,
			"guest":    m.guest,
			"disorder": m.disorder,
			"damage":   m.damage,
			"outage":   m.outage,
			"upgrade":  m.upgrade,
			"check":    m.check,
		})
		m.check(rt)
	})
}

// pick draws an instance that fulfils a condition.
func (m *model) pick(t *rapid.T, ok func(*fakeInstance) bool) key {
	var keys []key
	m.f.mu.Lock()
	for k, i := range m.f.instances {
		if ok(i) {
			keys = append(keys, k)
		}
	}
	m.f.mu.Unlock()
	if len(keys) == 0 {
		t.Skip("there is none")
	}
	slices.SortFunc(keys, func(a, b key) int { return bytes.Compare(fmt.Append(nil, a), fmt.Append(nil, b)) })
	return rapid.SampledFrom(keys).Draw(t, "instance")
}

func (m *model) has(k key) bool {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	return m.f.instances[k] != nil
}

func anyone(*fakeInstance) bool      { return true }
func running(i *fakeInstance) bool   { return i.pid != 0 }
func stopped(i *fakeInstance) bool   { return i.pid == 0 }
func startable(i *fakeInstance) bool { return i.pid == 0 && i.Location == "here" }

func drawKey(t *rapid.T) key {
	return key{rapid.SampledFrom([]string{"default", "p1"}).Draw(t, "project"), rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name")}
}

func drawConfig(t *rapid.T) map[string]string {
	return rapid.MapOfN(rapid.SampledFrom([]string{"user.a", "user.b", "security.nesting", "cloud-init.user-data", "security.devlxd"}),
		rapid.SampledFrom([]string{"", "true", "1", "false"}), 1, 3).Draw(t, "config")
}

func (m *model) create(t *rapid.T) {
	k := drawKey(t)
	if m.has(k) {
		t.Skip("there already")
	}
	config := drawConfig(t)
	maps.DeleteFunc(config, func(_, v string) bool { return v == "" })
	m.f.create(k, config)
	if rapid.Bool().Draw(t, "start") {
		m.f.start(k)
	}
}

func (m *model) change(t *rapid.T) {
	k := m.pick(t, anyone)
	if rapid.Bool().Draw(t, "config or device") {
		m.f.set(k, drawConfig(t))
		return
	}
	var d map[string]string
	if typ := rapid.SampledFrom([]string{"", "none", "nic"}).Draw(t, "type"); typ != "" {
		d = map[string]string{"type": typ, "x": rapid.SampledFrom([]string{"1", "2"}).Draw(t, "x")}
	}
	m.f.device(k, rapid.SampledFrom([]string{"d", "eth0"}).Draw(t, "device"), d)
}

func (m *model) life(t *rapid.T) {
	late := rapid.Bool().Draw(t, "late")
	switch rapid.IntRange(0, 3).Draw(t, "what") {
	case 0:
		m.f.start(m.pick(t, startable))
	case 1:
		m.f.stop(m.pick(t, running), false)
	case 2:
		m.f.restart(m.pick(t, running), late)
	case 3:
		m.f.remove(m.pick(t, anyone))
	}
}

func (m *model) move(t *rapid.T) {
	k := m.pick(t, stopped)
	if rapid.Bool().Draw(t, "rename") {
		to := key{k.project, rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "to")}
		if m.has(to) {
			t.Skip("taken")
		}
		m.f.rename(k, to)
		return
	}
	m.f.move(k, rapid.SampledFrom([]string{"here", "there"}).Draw(t, "member"))
}

func (m *model) profile(t *rapid.T) {
	m.f.profile(map[string]string{"user.p": rapid.SampledFrom([]string{"1", "2"}).Draw(t, "value")})
}

func (m *model) image(t *rapid.T) {
	fp := fingerprint("ab"[rapid.IntRange(0, 1).Draw(t, "image")])
	if rapid.Bool().Draw(t, "add") {
		m.f.image(fp, "image", rapid.Bool().Draw(t, "cached"))
	} else {
		m.f.removeImage(fp)
	}
}

// guest sets its state.
func (m *model) guest(t *rapid.T) {
	name := m.pick(t, running).registryName()
	if c, ok := m.reg.Container(name); ok && c.Binding() != nil {
		c.Binding().SetReady(rapid.Bool().Draw(t, "ready"))
		m.m.StateSet(c.Binding())
	}
}

// disorder has announcements come twice, late, the other way round or in order again.
func (m *model) disorder(t *rapid.T) {
	n := rapid.IntRange(0, 3).Draw(t, "held back")
	seed := rapid.Uint64().Draw(t, "seed")
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	rnd := rand.New(rand.NewPCG(seed, seed))
	m.f.mangle = func(e *event) []*event {
		m.held = append(m.held, e)
		if rnd.IntN(4) == 0 {
			m.held = append(m.held, e)
		}
		if len(m.held) <= n {
			return nil
		}
		out := m.held
		m.held = nil
		rnd.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
		return out
	}
}

// flush lets the announcements out that are held back.
func (m *model) flush() {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	for feed := range m.f.feeds {
		for _, e := range m.held {
			feed.send(e)
		}
	}
	m.held = nil
}

func (m *model) damage(t *rapid.T) {
	n := rapid.IntRange(1, 3).Draw(t, "n")
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	switch rapid.IntRange(0, 3).Draw(t, "what") {
	case 3:
		m.f.slow = time.Duration(n) * time.Millisecond
	case 0:
		m.f.cut = n
	case 1:
		m.f.broken = n
	case 2:
		m.f.host.mu.Lock()
		m.f.host.refuse = n
		m.f.host.mu.Unlock()
	}
}

// outage breaks the feed, or ends or starts the daemon. An announcement that was held back is lost then.
func (m *model) outage(t *rapid.T) {
	switch {
	case m.down:
		m.f.up()
	case rapid.Bool().Draw(t, "feed only"):
		m.f.drop()
		m.f.mu.Lock()
		m.held = nil
		m.f.mu.Unlock()
		return
	default:
		m.f.down()
	}
	m.down = !m.down
	m.f.mu.Lock()
	m.held = nil
	m.f.mu.Unlock()
}

// upgrade replaces the mirror by another one, with the rings of the containers, or gives up to do so.
func (m *model) upgrade(t *rapid.T) {
	if err := m.m.Suspend(); err != nil {
		t.Fatal(err)
	}
	change := func() {
		if rapid.Bool().Draw(t, "change meanwhile") {
			m.profile(t)
		}
	}
	change()
	if rapid.Bool().Draw(t, "give up") {
		if err := m.m.Resume(); err != nil {
			t.Fatal(err)
		}
		return
	}
	m.f.host.mu.Lock()
	m.f.host.refuse = 0 // of the binds of Restore, which nobody tries again before Start
	m.f.host.mu.Unlock()
	var state bytes.Buffer
	if err := m.m.Save(&state); err != nil {
		t.Fatal(err)
	}
	next, reg := m.mirror()
	if err := next.Restore(&state); err != nil {
		t.Fatal(err)
	}
	for name, v := range m.views {
		if err := v.handOver(m.reg, reg, name, m.f.host); err != nil {
			t.Fatal(err)
		}
		if v.binding.Dead() {
			delete(m.views, name)
		}
	}
	if err := m.m.Close(); err != nil {
		t.Fatal(err)
	}
	m.m, m.reg = next, reg
	change()
	next.Start()
}

// handOver moves what a guest follows to another registry, as the server does. The binding is left dead where it is there no longer.
func (v *view) handOver(from, to *registry.Registry, name string, h *fakeHost) error {
	was := v.cursor
	state, ok := from.ExportRing(v.binding)
	c, found := to.Container(name)
	lives := !v.binding.Dead() && !h.ended(source.Facts{PID: v.binding.InitPID()})
	if there := found && c.Binding() != nil && c.Binding().InitPID() == v.binding.InitPID(); there != lives {
		return fmt.Errorf("container %s runs: %v; in the successor: %v", name, lives, there)
	}
	if !lives {
		from.Stop(v.binding)
		return nil
	}
	cursor := v.ring.ExportCursor(&was)
	old := v.binding
	v.binding = c.Binding()
	defer from.Stop(old)
	if !ok || state.Epoch != v.ring.Epoch() {
		v.ring = nil // revoked
		return nil
	}
	if err := to.RestoreRing(v.binding, state); err != nil {
		return err
	}
	v.ring = v.binding.Ring()
	var err error
	v.cursor, err = v.ring.RestoreCursor(cursor)
	return err
}

// check brings everything to rest and compares.
func (m *model) check(t *rapid.T) {
	m.flush()
	if m.down {
		m.f.up()
		m.down = false
	}
	eventually(t, "registry and daemon differ", m.compare)
	for name, v := range m.views {
		if v.binding.Dead() || v.ring == nil || v.ring.Revoked() {
			delete(m.views, name) // another life, or access was closed
			continue
		}
		if err := errors.Join(v.follow(), v.matches()); err != nil {
			t.Fatalf("container %s: %v", name, err)
		}
	}
	for _, c := range m.reg.Containers() {
		if m.views[c.Name()] == nil && c.Binding() != nil && c.Snapshot().Allowed() {
			m.views[c.Name()] = newView(c)
		}
	}
}
