package registry_test

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"devlxd/registry"
	"devlxd/registry/registrytest"
)

// patience is how long a test waits for what must come; only a failing test waits so long.
const patience = 60 * time.Second

// reader follows one ring by the protocol of the package with several cursors, and checks that the events are a chain: the old value
// of each is the value of the one before, so nothing is lost, doubled or out of order.
type reader struct {
	b       *registry.Binding
	cursors []registry.Cursor
	last    []string // value of the last event of each cursor
	overrun int
	wake    chan struct{}
	watch   *registry.Watch
	seen    atomic.Int64 // events of all cursors
}

func newReader(b *registry.Binding, cursors int) *reader {
	rd := &reader{b: b, wake: make(chan struct{}, 1)}
	for range cursors {
		rd.cursors = append(rd.cursors, b.Ring().Subscribe(bothTypes))
		rd.last = append(rd.last, "start")
	}
	rd.watch = b.Ring().Watch(func() {
		select {
		case rd.wake <- struct{}{}:
		default:
		}
	})
	return rd
}

// run reads until the binding is dead and all is drained.
func (rd *reader) run(t *testing.T) {
	defer rd.watch.Close()
	for {
		rd.watch.Rearm()
		dead := rd.b.Dead() // before the drain: what was published before the stop is in the ring by now
		for i := range rd.cursors {
			rd.drain(t, i)
		}
		if dead {
			return
		}
		select {
		case <-rd.wake:
		case <-time.After(patience):
			t.Error("a reader was never woken")
			return
		}
	}
}

func (rd *reader) drain(t *testing.T, i int) {
	ring := rd.b.Ring()
	for {
		event, err := ring.Next(&rd.cursors[i])
		if err != nil { // told: begin a new chain
			rd.overrun++
			rd.cursors[i], rd.last[i] = ring.Subscribe(bothTypes), ""
			continue
		}
		if event == nil {
			return
		}
		parts := strings.Split(describe(t, event), "|")
		if old, value := parts[1], parts[2]; rd.last[i] != "" && old != rd.last[i] {
			t.Errorf("cursor %d: event from %q to %q after %q", i, old, value, rd.last[i])
		} else {
			rd.last[i] = value
		}
		rd.seen.Add(1)
	}
}

// write lets 8 writers change one key of one container, each change to a value of its own.
func write(t *testing.T, r *registry.Registry, changes int) {
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for n := range changes {
				if _, err := r.Put(registry.Spec{Name: "c1", Config: config{"user.k": fmt.Sprintf("%d-%d", w, n)}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
}

func TestStressEveryReaderGetsEveryEvent(t *testing.T) {
	const changes, readers, cursors = 250, 6, 5
	var host registrytest.Host
	r := registry.New(registry.Options{RingEvents: 8 * changes})
	b := host.Start(t, r, registry.Spec{Name: "c1", Config: config{"user.k": "start"}})
	var all []*reader
	var running sync.WaitGroup
	for range readers {
		rd := newReader(b, cursors)
		all = append(all, rd)
		running.Go(func() { rd.run(t) })
	}
	write(t, r, changes)
	// Nobody is woken by the stop before all have been woken by the events.
	deadline := time.Now().Add(patience)
	for _, rd := range all {
		for rd.seen.Load() < 8*changes*cursors && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
	}
	r.Stop(b)
	running.Wait()
	for i, rd := range all {
		if got := rd.seen.Load(); got != 8*changes*cursors || rd.overrun != 0 {
			t.Errorf("reader %d got %d events and %d overruns; want %d and none", i, got, rd.overrun, 8*changes*cursors)
		}
	}
}

// TestStressSmallRing: readers that are lapped all the time are told each time, and get unbroken chains in between.
func TestStressSmallRing(t *testing.T) {
	var host registrytest.Host
	r := registry.New(registry.Options{RingEvents: 3})
	b := host.Start(t, r, registry.Spec{Name: "c1", Config: config{"user.k": "start"}})
	var running sync.WaitGroup
	for range 6 {
		rd := newReader(b, 5)
		running.Go(func() { rd.run(t) })
	}
	write(t, r, 250)
	final, _ := b.Container().Snapshot().Value("user.k")
	last := newReader(b, 1)
	r.Stop(b)
	running.Wait()
	last.run(t)
	if p := b.Ring().Position(); p.Offset != 8*250 || last.seen.Load() != 0 {
		t.Errorf("head %d after %d changes; the last reader saw %d events", p.Offset, 8*250, last.seen.Load())
	}
	cursor, err := b.Ring().Resume(registry.Position{Epoch: b.Ring().Epoch(), Offset: 8*250 - 1}, bothTypes)
	if err != nil {
		t.Fatal(err)
	}
	if got := describe(t, registrytest.Drain(t, b.Ring(), &cursor)[0]); !strings.HasSuffix(got, "|"+string(final)) {
		t.Errorf("last event is %q; the snapshot says %q", got, final)
	}
}

// TestStressFullSpeed: a writer that laps its readers with every event cannot make one of them skip an event without being told.
func TestStressFullSpeed(t *testing.T) {
	const events = 100_000
	ring, publish := registry.NewTestRing(registry.Options{RingEvents: 2})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			cursor := ring.Subscribe(bothTypes)
			for last := cursor.Offset(); last < events; {
				event, err := ring.Next(&cursor)
				switch {
				case err != nil:
					cursor = ring.Subscribe(bothTypes)
					last = cursor.Offset()
				case event == nil:
					runtime.Gosched()
				case event.Offset() != last+1:
					t.Errorf("event %d after %d", event.Offset(), last)
					return
				default:
					last = event.Offset()
				}
			}
		})
	}
	payload := []byte("{}\n")
	for range events {
		publish(registry.EventConfig, payload)
	}
	readers.Wait()
}

// TestStressSubscribeThenRead: who subscribes and then reads the snapshot knows the final state after the last event.
func TestStressSubscribeThenRead(t *testing.T) {
	var host registrytest.Host
	r := registry.New(registry.Options{})
	var wrong atomic.Int64
	for range 300 {
		b := host.Start(t, r, registry.Spec{Name: "c1", Config: config{"user.k": "0"}})
		var group sync.WaitGroup
		group.Go(func() {
			for n := 1; n <= 3; n++ {
				r.Put(registry.Spec{Name: "c1", Config: config{"user.k": strconv.Itoa(n)}})
			}
		})
		var known int
		cursor := b.Ring().Subscribe(registry.EventConfig)
		value, _ := b.Container().Snapshot().Value("user.k")
		known, _ = strconv.Atoi(string(value))
		group.Wait()
		for _, event := range registrytest.Drain(t, b.Ring(), &cursor) {
			after, _ := strconv.Atoi(strings.Split(describe(t, event), "|")[2])
			known = max(known, after)
		}
		if known != 3 {
			wrong.Add(1)
		}
		r.Stop(b)
		r.Remove("c1")
	}
	if wrong.Load() != 0 {
		t.Errorf("%d of 300 subscribers missed a change", wrong.Load())
	}
}

// TestStressLeafAndStop: a leaf that is cached while its binding stops does not survive.
func TestStressLeafAndStop(t *testing.T) {
	var host registrytest.Host
	r := registry.New(registry.Options{})
	for round := range 300 {
		b := host.Start(t, r, registry.Spec{Name: "c1"})
		var group sync.WaitGroup
		for g := range 3 {
			group.Go(func() {
				for i := range 100 {
					r.CacheLeaf(uint64(1<<40+round<<16+g<<8+i), b)
				}
			})
		}
		group.Go(func() { r.Stop(b) })
		group.Wait()
		for g := range 3 {
			for i := range 100 {
				if _, ok := r.LookupCgroup(uint64(1<<40 + round<<16 + g<<8 + i)); ok {
					t.Fatalf("round %d: a leaf survived the stop", round)
				}
			}
		}
	}
}

// TestStressLives: 8 writers run lives of their own while readers look up what may be going away.
func TestStressLives(t *testing.T) {
	const writers, lives = 8, 150
	var host registrytest.Host
	var seen registrytest.Recorder
	r := registry.New(registry.Options{Observer: &seen})
	var newest [writers]atomic.Pointer[registry.Binding]
	var done atomic.Bool
	var work, readers sync.WaitGroup
	for w := range writers {
		work.Go(func() {
			name := "c" + strconv.Itoa(w)
			for n := range lives {
				r.Put(registry.Spec{Name: name, Config: config{"user.a": strconv.Itoa(n), "user.b": strconv.Itoa(n)}})
				b, err := r.Bind(name, host.Identity())
				if err != nil {
					t.Error(err)
					return
				}
				newest[w].Store(b)
				r.Put(registry.Spec{Name: name, Config: config{"user.a": "x" + strconv.Itoa(n), "user.b": "x" + strconv.Itoa(n)}})
				r.CacheLeaf(b.CgroupID()<<20, b)
				if n%2 == 0 {
					r.Remove(name)
				} else {
					r.Stop(b)
				}
			}
		})
	}
	for range 3 {
		readers.Go(func() {
			for !done.Load() {
				for w := range newest {
					lookAt(t, r, newest[w].Load())
				}
			}
		})
	}
	work.Wait()
	done.Store(true)
	readers.Wait()
	if s := r.Stats(); s.Bound != 0 || s.Rings != 0 || s.RingBytes != 0 || host.Open() != 0 || len(seen.AllStopped()) != writers*lives {
		t.Errorf("at the end: %+v, %d identities open, %d stops", s, host.Open(), len(seen.AllStopped()))
	}
}

// lookAt checks that every lookup gives the right container or none, and that a snapshot is of one piece.
func lookAt(t *testing.T, r *registry.Registry, b *registry.Binding) {
	if b == nil {
		return
	}
	for _, id := range []uint64{b.CgroupID(), b.CgroupID() << 20} {
		dead := b.Dead() // before the lookup
		if got, ok := r.LookupCgroup(id); ok && got != b {
			t.Errorf("LookupCgroup(%d) gave another container", id)
		} else if ok && dead && !got.Dead() {
			t.Errorf("a dead binding came back to life")
		}
	}
	s := b.Container().Snapshot()
	one, _ := s.Value("user.a")
	two, _ := s.Value("user.b")
	if string(one) != string(two) {
		t.Errorf("snapshot with user.a=%s and user.b=%s", one, two)
	}
	b.Ring().Subscribe(bothTypes)
}

// TestStressSharedOnce: what is made on demand is made the same for everybody.
func TestStressSharedOnce(t *testing.T) {
	var host registrytest.Host
	r := registry.New(registry.Options{})
	for range 200 {
		b := host.Start(t, r, registry.Spec{Name: "c1", Config: config{"user.k": "1"}})
		const n = 4
		var rings [n]*registry.Ring
		var frames, bodies [n][]byte
		meet := make(chan struct{})
		var first, second sync.WaitGroup
		for i := range n {
			first.Go(func() { <-meet; rings[i] = b.Ring() })
		}
		close(meet)
		first.Wait()
		cursor := rings[0].Subscribe(bothTypes)
		r.Put(registry.Spec{Name: "c1", Config: config{"user.k": "2"}})
		event := registrytest.Drain(t, rings[0], &cursor)[0]
		s := b.Container().Snapshot()
		for i := range n {
			second.Go(func() {
				frames[i] = event.Frame(true)
				bodies[i] = s.Rendered(registry.RenderDevices, func(*registry.Snapshot) []byte { return []byte{'x'} })
			})
		}
		second.Wait()
		for i := range n {
			if rings[i] != rings[0] || &frames[i][0] != &frames[0][0] || &bodies[i][0] != &bodies[0][0] {
				t.Fatal("two callers got different rings, frames or bodies")
			}
		}
		r.Remove("c1")
	}
}
