package registry_test

import (
	"fmt"
	"slices"
	"testing"

	"devlxd/registry"
	"devlxd/registry/registrytest"

	"pgregory.net/rapid"
)

// The small spaces the model draws from, so that it collides often.
const (
	modelNames   = 4
	modelCgroups = 8
	modelPidNS   = 4
	modelMax     = 3
)

// lifecycle is the registry as plain maps.
type lifecycle struct {
	r          *registry.Registry
	seen       *registrytest.Recorder
	containers map[string]*modelContainer
	stopped    []*registry.Binding
	revoked    []*registry.Container
	released   map[*registry.Binding]int
	lives      []*modelLife // every binding ever
	generation uint64
}

type modelContainer struct {
	c      *registry.Container
	life   *modelLife // nil: stopped
	user   string     // value of user.a
	closed bool       // the guest API is
}

type modelLife struct {
	b      *registry.Binding
	of     *modelContainer
	id     registry.Identity
	leaves []uint64
	modelStream
	ended []modelStream // those that were open when access was closed
}

// modelStream is one reader of one ring.
type modelStream struct {
	ring   *registry.Ring
	start  registry.Position
	cursor *registry.Cursor // nil: nobody asked for the ring
	values []string         // of the events since the cursor was made
}

func newLifecycle() *lifecycle {
	m := &lifecycle{seen: &registrytest.Recorder{}, containers: map[string]*modelContainer{}, released: map[*registry.Binding]int{}}
	m.r = registry.New(registry.Options{MaxContainers: modelMax, Observer: m.seen})
	return m
}

func drawName(t *rapid.T) string {
	return fmt.Sprintf("c%d", rapid.IntRange(1, modelNames).Draw(t, "name"))
}

// owner returns the life that a cgroup id leads to.
func (m *lifecycle) owner(cgroup uint64) *modelLife {
	for _, mc := range m.containers {
		if mc.life != nil && mc.life.id.CgroupID == cgroup && cgroup != 0 {
			return mc.life
		}
	}
	for _, mc := range m.containers {
		if mc.life != nil && slices.Contains(mc.life.leaves, cgroup) {
			return mc.life
		}
	}
	return nil
}

func (m *lifecycle) Put(t *rapid.T) {
	name, value := drawName(t), rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "value")
	closed := rapid.IntRange(0, 3).Draw(t, "closed") == 0
	mc, exists := m.containers[name]
	full := !exists && len(m.containers) >= modelMax
	spec := registry.Spec{Name: name, Config: config{"user.a": value}}
	if closed {
		spec.Config["security.devlxd"] = "false"
	}
	c, err := m.r.Put(spec)
	if full {
		if err != registry.ErrFull {
			t.Fatalf("Put(%s) = %v; want ErrFull", name, err)
		}
		return
	}
	if err != nil || exists && c != mc.c {
		t.Fatalf("Put(%s) = %v, %v", name, c, err)
	}
	if !exists {
		m.containers[name] = &modelContainer{c: c, user: value, closed: closed}
		return
	}
	if closed && !mc.closed {
		m.revoked = append(m.revoked, c)
	}
	if mc.life != nil && mc.life.cursor != nil {
		switch {
		case closed:
			mc.life.ended = append(mc.life.ended, mc.life.modelStream)
			mc.life.modelStream = modelStream{}
		case mc.user != value:
			mc.life.values = append(mc.life.values, "user.a|"+mc.user+"|"+value)
		}
	}
	mc.user, mc.closed = value, closed
}

func (m *lifecycle) Bind(t *rapid.T) {
	name := drawName(t)
	id := registry.Identity{PidNSDev: 4, PidNSIno: uint64(rapid.IntRange(0, modelPidNS).Draw(t, "pidns"))}
	if n := rapid.IntRange(0, modelCgroups).Draw(t, "cgroup"); n > 0 {
		id.CgroupID = 100 + uint64(n)
	}
	var b *registry.Binding
	id.Release = func() { m.released[b]++ }
	want := m.bindError(name, id)
	b, err := m.r.Bind(name, id)
	if err != want {
		t.Fatalf("Bind(%s, %+v) = %v; want %v", name, id, err, want)
	}
	if err != nil {
		return
	}
	if b.Generation() <= m.generation {
		t.Fatalf("generation %d after %d", b.Generation(), m.generation)
	}
	m.generation = b.Generation()
	// A registration takes a cached leaf over.
	for _, mc := range m.containers {
		if mc.life != nil {
			mc.life.leaves = slices.DeleteFunc(mc.life.leaves, func(leaf uint64) bool { return leaf == id.CgroupID })
		}
	}
	life := &modelLife{b: b, id: id, of: m.containers[name]}
	m.containers[name].life = life
	m.lives = append(m.lives, life)
}

func (m *lifecycle) bindError(name string, id registry.Identity) error {
	mc, exists := m.containers[name]
	switch {
	case id.CgroupID == 0 && id.PidNSIno == 0:
		return registry.ErrIdentity
	case !exists:
		return registry.ErrNotFound
	case mc.life != nil:
		return registry.ErrBound
	}
	for _, other := range m.containers {
		if other.life == nil || id.PidNSIno == 0 || other.life.id.PidNSIno != id.PidNSIno {
			continue
		}
		if id.CgroupID == 0 || other.life.id.CgroupID == 0 {
			return registry.ErrPidNSTaken
		}
	}
	if life := m.owner(id.CgroupID); life != nil && life.id.CgroupID == id.CgroupID && id.CgroupID != 0 {
		return registry.ErrCgroupTaken
	}
	return nil
}

func (m *lifecycle) drawLife(t *rapid.T) *modelLife {
	if len(m.lives) == 0 {
		t.Skip("nothing was ever bound")
	}
	return rapid.SampledFrom(m.lives).Draw(t, "life")
}

func (m *lifecycle) alive(life *modelLife) bool {
	mc := m.containers[life.b.Container().Name()]
	return mc != nil && mc.life == life
}

func (m *lifecycle) Stop(t *rapid.T) {
	life := m.drawLife(t)
	alive := m.alive(life)
	if got := m.r.Stop(life.b); got != alive {
		t.Fatalf("Stop = %v; want %v", got, alive)
	}
	if alive {
		m.containers[life.b.Container().Name()].life = nil
		m.stopped = append(m.stopped, life.b)
	}
}

func (m *lifecycle) Remove(t *rapid.T) {
	name := drawName(t)
	mc, exists := m.containers[name]
	if err := m.r.Remove(name); (err == nil) != exists || err != nil && err != registry.ErrNotFound {
		t.Fatalf("Remove(%s) = %v", name, err)
	}
	if exists && mc.life != nil {
		m.stopped = append(m.stopped, mc.life.b)
	}
	delete(m.containers, name)
}

func (m *lifecycle) CacheLeaf(t *rapid.T) {
	life := m.drawLife(t)
	leaf := uint64(rapid.IntRange(100, 100+2*modelCgroups).Draw(t, "leaf"))
	free := m.owner(leaf) == nil
	m.r.CacheLeaf(leaf, life.b)
	if free && m.alive(life) && life.id.CgroupID != 0 {
		life.leaves = append(life.leaves, leaf)
	}
}

func (m *lifecycle) Subscribe(t *rapid.T) {
	life := m.drawLife(t)
	if life.cursor != nil {
		t.Skip("subscribed already")
	}
	ring := life.b.Ring()
	start := ring.Position()
	cursor := ring.Subscribe(bothTypes)
	if life.of.closed {
		if _, err := ring.Next(&cursor); err != registry.ErrRevoked || life.b.Ring() == ring {
			t.Fatalf("Next without access = %v; want ErrRevoked, of a ring that is nobody else's", err)
		}
		return
	}
	life.modelStream = modelStream{ring: ring, start: start, cursor: &cursor}
	// No position of before opens what happened without access.
	for _, s := range life.ended {
		if _, err := ring.Resume(s.start, bothTypes); err != registry.ErrGone {
			t.Fatalf("Resume of an earlier position = %v; want ErrGone", err)
		}
	}
}

// Check compares everything that can be asked for with the model.
func (m *lifecycle) Check(t *rapid.T) {
	if m.r.Len() != len(m.containers) || len(m.r.Containers()) != len(m.containers) {
		t.Fatalf("Len = %d; want %d", m.r.Len(), len(m.containers))
	}
	bound := 0
	for n := 1; n <= modelNames; n++ {
		name := fmt.Sprintf("c%d", n)
		c, found := m.r.Container(name)
		mc, want := m.containers[name]
		if found != want || found && c != mc.c {
			t.Fatalf("Container(%s) = %v, %v", name, c, found)
		}
		if !found {
			continue
		}
		var b *registry.Binding
		if mc.life != nil {
			b = mc.life.b
			bound++
		}
		if v, _ := c.Snapshot().Value("user.a"); c.Binding() != b || string(v) != mc.user {
			t.Fatalf("%s: binding %v, user.a %q; want %v, %q", name, c.Binding(), v, b, mc.user)
		}
	}
	if got := m.r.Stats().Bound; got != bound {
		t.Fatalf("%d bound; want %d", got, bound)
	}
	m.checkLookups(t)
	m.checkLives(t)
}

func (m *lifecycle) checkLookups(t *rapid.T) {
	for id := uint64(0); id <= 100+2*modelCgroups; id++ {
		var want *registry.Binding
		if life := m.owner(id); life != nil {
			want = life.b
		}
		if got, ok := m.r.LookupCgroup(id); got != want || ok != (want != nil) {
			t.Fatalf("LookupCgroup(%d) = %v; want %v", id, got, want)
		}
	}
	for ino := uint64(0); ino <= modelPidNS; ino++ {
		var want *registry.Binding
		for _, mc := range m.containers {
			if mc.life != nil && mc.life.id.CgroupID == 0 && mc.life.id.PidNSIno == ino {
				want = mc.life.b
			}
		}
		if got, ok := m.r.LookupPidNS(4, ino); got != want || ok != (want != nil) {
			t.Fatalf("LookupPidNS(%d) = %v; want %v", ino, got, want)
		}
	}
}

func (m *lifecycle) checkLives(t *rapid.T) {
	if got := m.seen.AllStopped(); !slices.Equal(got, m.stopped) {
		t.Fatalf("Stopped was called for %v; want %v", got, m.stopped)
	}
	if got := m.seen.AllRevoked(); !slices.Equal(got, m.revoked) {
		t.Fatalf("Revoked was called for %v; want %v", got, m.revoked)
	}
	for _, life := range m.lives {
		alive := m.alive(life)
		if life.b.Dead() == alive || (m.released[life.b] == 1) == alive || m.released[life.b] > 1 {
			t.Fatalf("alive %v: Dead = %v, released %d times", alive, life.b.Dead(), m.released[life.b])
		}
		for _, s := range life.ended {
			cursor := *s.cursor
			event, err := s.ring.Next(&cursor)
			if _, gone := s.ring.Resume(s.start, bothTypes); event != nil || err != registry.ErrRevoked || gone != registry.ErrRevoked {
				t.Fatalf("of a revoked ring: Next = %v, %v, Resume = %v; want ErrRevoked", event, err, gone)
			}
		}
		if life.cursor == nil {
			continue
		}
		cursor := *life.cursor
		for _, want := range life.values {
			event, err := life.ring.Next(&cursor)
			if err != nil || event == nil || describe(t, event) != want {
				t.Fatalf("Next = %v, %v; want %s", event, err, want)
			}
		}
		if event, err := life.ring.Next(&cursor); event != nil || err != nil {
			t.Fatalf("Next = %v, %v; want nothing more", event, err)
		}
	}
}

func TestLifecycleAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newLifecycle()
		t.Repeat(map[string]func(*rapid.T){
			"put": m.Put, "bind": m.Bind, "stop": m.Stop, "remove": m.Remove, "leaf": m.CacheLeaf, "subscribe": m.Subscribe, "": m.Check,
		})
	})
}
