package lxd

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

// daemonState is what the daemon has of a guest's state.
func (f *fake) daemonState(k key) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.instances[k].config[keyReady]
}

func (r *rig) stateReaches(k key, want string) {
	r.t.Helper()
	eventually(r.t, "state is not forwarded", func() error {
		if got := r.f.daemonState(k); got != want {
			return fmt.Errorf("the daemon has %q; want %q", got, want)
		}
		return nil
	})
}

// TestStateForwarded: the state that a guest sets reaches a daemon that takes it, also when that was away, and a container begins with what
// the daemon has.
func TestStateForwarded(t *testing.T) {
	r := newRig(t, func(f *fake) { f.takesState = true; f.create(c1, nil); f.start(c1) })
	b := r.container("c1").Binding()
	for _, ready := range []bool{true, false, true} {
		b.SetReady(ready)
		r.m.StateSet(b)
		r.stateReaches(c1, fmt.Sprint(ready))
	}
	r.settled()
	r.f.down()
	b.SetReady(false)
	for range 1000 {
		r.m.StateSet(b)
	}
	r.f.up()
	r.stateReaches(c1, "false")
	b.SetReady(true)
	r.m.StateSet(b)
	r.stateReaches(c1, "true")
	if n := r.f.count("PATCH instances/x"); n > 10 {
		t.Errorf("set %d times", n)
	}

	// What is yet to be forwarded goes over to a successor.
	r.f.down()
	b.SetReady(false)
	r.m.StateSet(b)
	var saved bytes.Buffer
	if err := errors.Join(r.m.Suspend(), r.m.Save(&saved)); err != nil {
		t.Fatal(err)
	}
	next, nextReg := r.mirror()
	if err := next.Restore(&saved); err != nil {
		t.Fatal(err)
	}
	_ = r.m.Close()
	r.m, r.reg = next, nextReg
	b = r.container("c1").Binding()
	b.SetReady(false) // as the server hands it over
	r.f.up()
	r.load()
	r.stateReaches(c1, "false")
	b.SetReady(true)
	r.m.StateSet(b)
	r.stateReaches(c1, "true")

	m, reg := r.mirror()
	defer m.Close()
	other := &rig{t: t, f: r.f, m: m, reg: reg}
	other.load()
	if !other.container("c1").Binding().Ready() {
		t.Error("the state that the daemon has is not taken over")
	}
}

// TestStateReadLate: what is read of the daemon after it was told of a state, and is of before that, keeps nothing back.
func TestStateReadLate(t *testing.T) {
	r := newRig(t, func(f *fake) { f.takesState = true; f.create(c1, nil); f.start(c1) })
	b := r.container("c1").Binding()
	for n, ready := range []bool{true, false} {
		b.SetReady(ready)
		r.m.StateSet(b)
		eventually(t, "not forwarded", func() error {
			if got := r.m.counts.states[stateForwarded].Load(); got != uint64(n+1) {
				return fmt.Errorf("%d forwarded", got)
			}
			return nil
		})
	}
	r.settled()
	r.f.mu.Lock()
	late := r.f.show(r.f.instances[c1])
	r.f.mu.Unlock()
	late.ExpandedConfig[keyReady] = "true"
	if _, err := r.m.put(&late); err != nil {
		t.Fatal(err)
	}
	b.SetReady(true)
	r.m.StateSet(b)
	r.stateReaches(c1, "true")
}

// TestStateRefused: a daemon that lets nobody set the state is asked once in a session.
func TestStateRefused(t *testing.T) {
	r := newRig(t, func(f *fake) { f.create(c1, nil); f.start(c1) })
	b := r.container("c1").Binding()
	b.SetReady(true)
	for n := range 3 {
		r.m.StateSet(b)
		eventually(t, "not tried", func() error {
			if got := r.m.counts.states[stateRefused].Load(); got != uint64(n+1) {
				return fmt.Errorf("%d refused", got)
			}
			return nil
		})
	}
	if n := r.f.count("PATCH instances/x"); n != 1 {
		t.Errorf("the daemon was asked %d times", n)
	}
	if !b.Ready() {
		t.Error("the state is not kept")
	}
	r.f.drop()
	eventually(t, "the loss is not seen", func() error {
		if r.m.Status().Lost == 0 {
			return errors.New("yet")
		}
		return nil
	})
	r.settled()
	r.m.StateSet(b)
	eventually(t, "not tried in the next session", func() error {
		if n := r.f.count("PATCH instances/x"); n != 2 {
			return fmt.Errorf("asked %d times", n)
		}
		return nil
	})
}

// TestStateOfStopped: a container that has stopped is forgotten.
func TestStateOfStopped(t *testing.T) {
	r := newRig(t, func(f *fake) { f.takesState = true; f.create(c1, nil); f.start(c1) })
	b := r.container("c1").Binding()
	b.SetReady(true)
	r.f.stop(c1, false)
	r.m.StateSet(b)
	eventually(t, "still pending", func() error {
		if n := len(r.m.states.peek()); n != 0 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	if got := r.f.daemonState(c1); got != "" {
		t.Errorf("the daemon has %q", got)
	}
}
