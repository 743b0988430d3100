package bench

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"devlxd/registry"
)

// firstCgroup is above every id that a kernel of today gives, so that made-up containers and real ones never meet.
const firstCgroup = 1 << 40

var errLost = errors.New("a container is not found although it runs")

// fill registers and binds n made-up containers.
func fill(tb testing.TB, r *registry.Registry, n int) {
	tb.Helper()
	for i := range n {
		name := madeUp(i)
		if _, err := r.Put(registry.Spec{Name: name, Config: map[string]string{"user.a": "1"}}); err != nil {
			tb.Fatal(err)
		}
		if _, err := r.Bind(name, madeUpIdentity(i)); err != nil {
			tb.Fatal(err)
		}
	}
}

func madeUp(i int) string { return "made-up-" + strconv.Itoa(i) }

func madeUpIdentity(i int) registry.Identity {
	return registry.Identity{CgroupID: cgroupOf(i), PidNSIno: uint64(i + 1), RootUID: 100000}
}

// cgroupOf leaves gaps between the ids, as cgroups that are no containers do.
func cgroupOf(i int) uint64 { return firstCgroup + uint64(i)*7 }

// stores are the registry and the two maps that a Go program would otherwise have, with the same bindings in them.
type stores struct {
	registry *registry.Registry
	mu       sync.RWMutex
	locked   map[uint64]*registry.Binding // guarded by mu
	synced   sync.Map
	size     int
	running  int // the first that many containers never restart: readers look for these
}

func newStores(tb testing.TB, size int) *stores {
	s := &stores{registry: registry.New(registry.Options{}), locked: make(map[uint64]*registry.Binding), size: size, running: size / 2}
	fill(tb, s.registry, size)
	for _, c := range s.registry.Containers() {
		b := c.Binding()
		s.locked[b.CgroupID()] = b
		s.synced.Store(b.CgroupID(), b)
	}
	return s
}

func (s *stores) inRegistry(id uint64) (*registry.Binding, bool) { return s.registry.LookupCgroup(id) }

func (s *stores) inLocked(id uint64) (*registry.Binding, bool) {
	s.mu.RLock()
	b, ok := s.locked[id]
	s.mu.RUnlock()
	return b, ok
}

func (s *stores) inSynced(id uint64) (*registry.Binding, bool) {
	v, ok := s.synced.Load(id)
	if !ok {
		return nil, false
	}
	b, ok := v.(*registry.Binding)
	return b, ok
}

// churn restarts about a thousand containers a second in every store until stop is called.
func (s *stores) churn() (stop func()) {
	done := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		pace := time.NewTicker(time.Millisecond)
		defer pace.Stop()
		for i := s.running; ; i++ {
			select {
			case <-done:
				return
			case <-pace.C:
			}
			if i == s.size {
				i = s.running
			}
			s.restart(i)
		}
	})
	return func() {
		close(done)
		writer.Wait()
	}
}

func (s *stores) restart(i int) {
	id := cgroupOf(i)
	c, ok := s.registry.Container(madeUp(i))
	if !ok {
		return
	}
	s.registry.Stop(c.Binding())
	s.mu.Lock()
	delete(s.locked, id)
	s.mu.Unlock()
	s.synced.Delete(id)

	b, err := s.registry.Bind(madeUp(i), madeUpIdentity(i))
	if err != nil {
		return
	}
	s.mu.Lock()
	s.locked[id] = b
	s.mu.Unlock()
	s.synced.Store(id, b)
}

// lookupContests finds bindings by cgroup id while a writer restarts other containers; the same restarts go to all stores.
// With readers, each operation is one lookup of one of them.
func lookupContests(tb testing.TB, sizes []int) (contests []contest) {
	for _, size := range sizes {
		s := newStores(tb, size)
		order := make([]uint64, s.running)
		for i, n := range rand.Perm(s.running) {
			order[i] = cgroupOf(n)
		}
		for _, readers := range []int{1, runtime.GOMAXPROCS(0)} {
			c := contest{name: fmt.Sprintf("%d-readers-%d", size, readers), during: s.churn}
			for _, store := range []struct {
				name string
				find func(uint64) (*registry.Binding, bool)
			}{{"devlxd", s.inRegistry}, {"rwmutex-map", s.inLocked}, {"sync.Map", s.inSynced}} {
				c.ways = append(c.ways, way{name: store.name, free: readers == 1, run: lookUp(order, store.find, readers)})
			}
			contests = append(contests, c)
			if runtime.GOMAXPROCS(0) == 1 {
				break
			}
		}
	}
	return contests
}

// lookUp shares the lookups among the readers.
func lookUp(order []uint64, find func(uint64) (*registry.Binding, bool), readers int) func(int) error {
	at := 0
	read := func(from, n int) error {
		for i := from; n > 0; n-- {
			if i++; i >= len(order) {
				i = 0
			}
			if b, ok := find(order[i]); !ok || b.Dead() {
				return errLost
			}
		}
		return nil
	}
	return func(n int) error {
		from := at
		at = (at + n) % len(order)
		if readers == 1 {
			return read(from, n)
		}
		var all sync.WaitGroup
		errs := make([]error, readers)
		for k := range readers {
			share := n / readers
			if k < n%readers {
				share++
			}
			all.Go(func() { errs[k] = read((from+k*len(order)/readers)%len(order), share) })
		}
		all.Wait()
		return errors.Join(errs...)
	}
}
