package lxd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"devlxd/fault"
	"devlxd/internal/lxdapi"
	"devlxd/registry"
)

// TestReconnect: while the daemon is away everything stays, and when it is back guests are sent exactly the differences.
func TestReconnect(t *testing.T) {
	r := newRig(t, func(f *fake) {
		f.create(c1, map[string]string{"user.a": "1", "user.b": "1", "user.gone": "x"})
		f.start(c1)
		f.create(c2, nil)
		f.start(c2)
	})
	v := newView(r.container("c1"))
	r.f.down()
	eventually(t, "the loss is not seen", func() error {
		if s := r.m.Status(); s.Connected || s.Error == nil || s.Lost != 1 || s.Age <= 0 || !r.m.faults.Active(fault.MirrorLost) {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	if c := r.container("c1"); c.Binding() == nil || r.container("c2").Binding() == nil {
		t.Fatal("a container is stopped because the daemon is away")
	}
	r.f.set(c1, map[string]string{"user.a": "2", "user.gone": "", "user.new": "y"})
	r.f.device(c1, "d", map[string]string{"type": "none"})
	r.f.restart(c2, false)
	r.f.create(p1, nil)
	r.f.up()
	r.settled()
	if err := errors.Join(v.follow(), v.matches()); err != nil {
		t.Error(err)
	}
	if v.events != 4 {
		t.Errorf("%d events; want 4", v.events)
	}
	if s := r.m.Status(); s.Age != 0 || s.Error != nil || r.m.faults.Active(fault.MirrorLost) {
		t.Errorf("still lost: %+v", s)
	}
}

// TestHandover: a successor begins with what was published, without the daemon, has the containers bound, and sends guests what has changed since.
func TestHandover(t *testing.T) {
	r := newRig(t, func(f *fake) {
		f.create(c1, map[string]string{"user.a": "1"})
		f.start(c1)
		f.create(p1, nil)
		f.start(p1)
		f.create(c2, nil)
		f.image(fingerprint('a'), "image", true)
	})
	r.settled()
	v := newView(r.container("c1"))
	r.f.down()
	if err := r.m.Suspend(); err != nil {
		t.Fatal(err)
	}
	r.f.set(c1, map[string]string{"user.a": "2"})
	r.f.stop(p1, false)
	var state bytes.Buffer
	if err := r.m.Save(&state); err != nil {
		t.Fatal(err)
	}
	next, reg := r.mirror()
	if err := next.Restore(&state); err != nil {
		t.Fatal(err)
	}
	if s := reg.Stats(); s.Containers != 3 || s.Bound != 1 || s.Images != 1 {
		t.Errorf("restored: %+v", s)
	}
	for _, c := range reg.Containers() {
		if was := r.container(c.Name()); describe(was) != describe(c) {
			t.Errorf("restored %s; was %s", describe(c), describe(was))
		}
	}
	if err := v.handOver(r.reg, reg, "c1", r.f.host); err != nil {
		t.Fatal(err)
	}
	_ = r.m.Close()
	r.m, r.reg = next, reg
	r.f.up()
	r.load()
	r.settled()
	if err := errors.Join(v.follow(), v.matches()); err != nil || v.events != 1 {
		t.Errorf("%d events, %v", v.events, err)
	}
	for _, wrong := range []string{"", "{", `{"version":99}`} {
		m, _ := r.mirror()
		if err := m.Restore(strings.NewReader(wrong)); !errors.Is(err, ErrState) {
			t.Errorf("%q is restored: %v", wrong, err)
		}
	}
}

// TestFeedBreaks: the daemon lives on, only the feed ends, with changes that it did not announce.
func TestFeedBreaks(t *testing.T) {
	r := newRig(t, func(f *fake) { f.create(c1, nil); f.start(c1) })
	for n := range 5 {
		r.f.mu.Lock()
		r.f.mangle = func(*event) []*event { return nil }
		r.f.mu.Unlock()
		r.f.set(c1, map[string]string{"user.n": fmt.Sprint(n)})
		r.f.drop()
		r.settled()
	}
}

// TestCutAnswers: an answer that is cut off changes nothing, wherever it is; the mirror comes up to date nevertheless.
func TestCutAnswers(t *testing.T) {
	r := newRig(t, func(f *fake) {
		for n := range 20 {
			k := key{"default", fmt.Sprint("c", n)}
			f.create(k, map[string]string{"user.a": "1"})
			f.start(k)
		}
	})
	r.settled()
	stopped := 0
	for range 4 {
		r.f.mu.Lock()
		r.f.cut = 2
		r.f.mu.Unlock()
		r.f.drop()
		eventually(t, "not cut", func() error {
			r.f.mu.Lock()
			defer r.f.mu.Unlock()
			if r.f.cut > 0 {
				return errors.New("yet")
			}
			return nil
		})
		if n := r.reg.Stats().Bound; n != 20 {
			t.Fatalf("%d of 20 containers are bound", n)
		}
		r.settled()
		r.f.mu.Lock()
		r.f.cut = 1
		r.f.mu.Unlock()
		r.f.set(c1, map[string]string{"user.a": fmt.Sprint(stopped)})
		stopped++
		r.settled()
	}
	if r.m.counts.lists[readFailed].Load() == 0 || r.m.counts.reads[readFailed].Load() == 0 {
		t.Error("nothing was cut off")
	}
	if n := r.m.counts.errors[lossAnswer].Load() + r.m.counts.errors[lossEnded].Load(); n == 0 {
		t.Errorf("no read error has a reason: %v", &r.m.counts.errors)
	}
}

// TestSilence: a daemon that does not even answer pings is given up, and connected to again.
func TestSilence(t *testing.T) {
	f := newFake(t)
	defer f.close()
	f.create(c1, nil)
	f.mu.Lock()
	f.deaf = true
	f.mu.Unlock()
	reg := registry.New(registry.Options{})
	times := testTimes()
	times.Silence = 50 * time.Millisecond
	m := New(Options{Address: lxdapi.Address{Socket: f.socket}, Registry: reg, Binder: f.host.binder(reg), Times: times, host: f.host})
	defer m.Close()
	m.Start()
	eventually(t, "silence is not noticed", func() error {
		if m.counts.losses[lossSilent].Load() < 2 {
			return errors.New("no loss by silence")
		}
		return nil
	})
}

// TestWaits: a daemon that is not there is waited for, until the context ends.
func TestWaits(t *testing.T) {
	f := newFake(t)
	defer f.close()
	f.down()
	reg := registry.New(registry.Options{})
	m := New(Options{Address: lxdapi.Address{Socket: f.socket}, Registry: reg, Binder: f.host.binder(reg), Times: testTimes(), host: f.host})
	defer m.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := m.Load(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Load: %v", err)
	}
	eventually(t, "no loss is counted", func() error {
		if m.counts.losses[lossAbsent].Load() == 0 {
			return errors.New("none")
		}
		return nil
	})
	f.create(c1, nil)
	f.up()
	ctx, cancel = context.WithTimeout(context.Background(), patient)
	defer cancel()
	if err := m.Load(ctx); err != nil || reg.Len() != 1 {
		t.Errorf("Load: %v, %d containers", err, reg.Len())
	}
}
