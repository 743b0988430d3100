package registry_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"devlxd/registry"
	"devlxd/registry/registrytest"
)

// running returns a registry with one running container.
func running(t testing.TB, o registry.Options) (*registry.Registry, *registry.Binding) {
	t.Helper()
	var host registrytest.Host
	r := registry.New(o)
	return r, host.Start(t, r, registry.Spec{Name: "c1"})
}

// history publishes one device event, then n config events.
func history(t testing.TB, r *registry.Registry, n int) {
	t.Helper()
	put(t, r, registry.Spec{Name: "c1", Devices: devices{"d": {}}})
	for i := range n {
		put(t, r, registry.Spec{Name: "c1", Config: config{"user.a": strconv.Itoa(i)}, Devices: devices{"d": {}}})
	}
}

// replay returns what a position gives, or the error.
func replay(t testing.TB, ring *registry.Ring, p registry.Position, types registry.EventType) ([]string, error) {
	t.Helper()
	cursor, err := ring.Resume(p, types)
	if err != nil {
		return nil, err
	}
	return registrytest.Payloads(registrytest.Drain(t, ring, &cursor)), nil
}

// TestRingSurvivesHandOver: every position gives in the successor what it gave before, and what was lost stays lost.
func TestRingSurvivesHandOver(t *testing.T) {
	for _, n := range []int{0, 3, 7, 8, 40} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			o := registry.Options{RingEvents: 8}
			r, b := running(t, o)
			b.Ring()
			history(t, r, n)
			state, ok := r.ExportRing(b)
			if !ok {
				t.Fatal("ExportRing found no ring")
			}
			r2, b2 := running(t, o)
			if err := r2.RestoreRing(b2, state); err != nil {
				t.Fatal(err)
			}
			if got, want := b2.Ring().Position(), b.Ring().Position(); got != want {
				t.Fatalf("Position = %v; want %v", got, want)
			}
			for offset := range state.Head + 2 {
				for types := range bothTypes + 1 {
					p := registry.Position{Epoch: state.Epoch, Offset: offset}
					want, wantErr := replay(t, b.Ring(), p, types)
					got, err := replay(t, b2.Ring(), p, types)
					if err != wantErr || !slices.Equal(got, want) {
						t.Errorf("Resume(%v, %b) = %q, %v; want %q, %v", p, types, got, err, want, wantErr)
					}
				}
			}
			if got, want := r2.Stats().RingBytes, r.Stats().RingBytes; got != want || r2.Stats().Rings != 1 {
				t.Errorf("Stats = %+v; want %d bytes in one ring", r2.Stats(), want)
			}
			put(t, r2, registry.Spec{Name: "c1", Config: config{"user.new": "1"}})
			if got, err := replay(t, b2.Ring(), b.Ring().Position(), bothTypes); len(got) != 1 || err != nil {
				t.Errorf("first event of the successor = %q, %v", got, err)
			}
		})
	}
}

func TestRestoreIntoSmallerRing(t *testing.T) {
	r, b := running(t, registry.Options{})
	start := b.Ring().Position()
	history(t, r, 20)
	state, _ := r.ExportRing(b)
	r2, b2 := running(t, registry.Options{RingEvents: 4})
	if err := r2.RestoreRing(b2, state); err != nil {
		t.Fatal(err)
	}
	if _, err := replay(t, b2.Ring(), start, bothTypes); err != registry.ErrGone {
		t.Errorf("Resume from the start = %v; want ErrGone", err)
	}
	if got, err := replay(t, b2.Ring(), registry.Position{Epoch: start.Epoch, Offset: 17}, bothTypes); len(got) != 4 || err != nil {
		t.Errorf("Resume of the last four = %q, %v", got, err)
	}
}

func TestExportWithoutRing(t *testing.T) {
	r, b := running(t, registry.Options{})
	if state, ok := r.ExportRing(b); ok {
		t.Errorf("ExportRing = %+v; nobody subscribed", state)
	}
}

func TestRestoreRefuses(t *testing.T) {
	event := registry.RingEvent{Type: registry.EventConfig, Payload: []byte("{}\n")}
	for _, tt := range []struct {
		name  string
		state registry.RingState
		want  error
	}{
		{"empty", registry.RingState{Epoch: 1}, nil},
		{"one event", registry.RingState{Epoch: 1, Head: 1, Events: []registry.RingEvent{event}}, nil},
		{"all evicted but one", registry.RingState{Epoch: 1, Head: 9, Evicted: registry.EvictedOffsets{Device: 8}, Events: []registry.RingEvent{event}}, nil},
		{"no epoch", registry.RingState{}, registry.ErrRingState},
		{"more events than offsets", registry.RingState{Epoch: 1, Events: []registry.RingEvent{event}}, registry.ErrRingState},
		{"gap nobody evicted", registry.RingState{Epoch: 1, Head: 9, Events: []registry.RingEvent{event}}, registry.ErrRingState},
		{"evicted and held", registry.RingState{Epoch: 1, Head: 1, Evicted: registry.EvictedOffsets{Config: 1}, Events: []registry.RingEvent{event}}, registry.ErrRingState},
		{"no offset left", registry.RingState{Epoch: 1, Head: 1<<64 - 1, Evicted: registry.EvictedOffsets{Config: 1<<64 - 1}}, registry.ErrRingState},
		{"two types", registry.RingState{Epoch: 1, Head: 1, Events: []registry.RingEvent{{Type: bothTypes, Payload: event.Payload}}}, registry.ErrRingState},
		{"no payload", registry.RingState{Epoch: 1, Head: 1, Events: []registry.RingEvent{{Type: registry.EventConfig}}}, registry.ErrRingState},
		{"payload without its end", registry.RingState{Epoch: 1, Head: 1, Events: []registry.RingEvent{{Type: registry.EventConfig, Payload: []byte("{}")}}}, registry.ErrRingState},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, b := running(t, registry.Options{})
			if err := r.RestoreRing(b, tt.state); err != tt.want {
				t.Errorf("RestoreRing = %v; want %v", err, tt.want)
			}
		})
	}
	r, b := running(t, registry.Options{})
	b.Ring()
	if err := r.RestoreRing(b, registry.RingState{Epoch: 1}); err != registry.ErrRingExists {
		t.Errorf("RestoreRing over a ring = %v; want ErrRingExists", err)
	}
	r.Stop(b)
	if err := r.RestoreRing(b, registry.RingState{Epoch: 1}); err != registry.ErrStopped {
		t.Errorf("RestoreRing after the stop = %v; want ErrStopped", err)
	}
}

// TestCursorSurvivesHandOver: a cursor at any place, of any types, gets in the successor what it would have got, is told what it would have
// been told, and misses as many events.
func TestCursorSurvivesHandOver(t *testing.T) {
	for _, n := range []int{0, 3, 7, 8, 40} {
		o := registry.Options{RingEvents: 8}
		r, b := running(t, o)
		ring := b.Ring()
		var cursors []registry.Cursor
		subscribe := func() {
			for types := range bothTypes + 1 {
				cursors = append(cursors, ring.Subscribe(types))
			}
		}
		subscribe()
		history(t, r, 0)
		subscribe()
		for i := range n {
			put(t, r, registry.Spec{Name: "c1", Config: config{"user.a": strconv.Itoa(i)}, Devices: devices{"d": {}}})
			subscribe()
		}
		state, _ := r.ExportRing(b)
		r2, b2 := running(t, o)
		if err := r2.RestoreRing(b2, state); err != nil {
			t.Fatal(err)
		}
		for i := range cursors {
			c := &cursors[i]
			exported := ring.ExportCursor(c)
			c2, err := b2.Ring().RestoreCursor(exported)
			if err != nil {
				t.Fatalf("%d events, cursor %d: %v", n, i, err)
			}
			config1, device1 := ring.Missed(c)
			if config2, device2 := b2.Ring().Missed(&c2); config1 != config2 || device1 != device2 {
				t.Errorf("%d events, %+v misses %d and %d; want %d and %d", n, exported, config2, device2, config1, device1)
			}
			for done := false; !done; {
				e1, err1 := ring.Next(c)
				e2, err2 := b2.Ring().Next(&c2)
				if err1 != err2 || (e1 == nil) != (e2 == nil) || e1 != nil && string(e1.Payload(true)) != string(e2.Payload(true)) {
					t.Fatalf("%d events, %+v: %v, %v; want %v, %v", n, exported, e2, err2, e1, err1)
				}
				done = e1 == nil
			}
		}
	}
}

func TestRestoreCursorRefuses(t *testing.T) {
	_, b := running(t, registry.Options{})
	for _, s := range []registry.CursorState{{Offset: 1, Types: bothTypes}, {Types: 1 << 7}} {
		if _, err := b.Ring().RestoreCursor(s); err != registry.ErrGone {
			t.Errorf("RestoreCursor(%+v) = %v; want ErrGone", s, err)
		}
	}
}
