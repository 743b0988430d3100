package store

import (
	"errors"
	"log/slog"
	"testing"

	"devlxd/registry"
	"devlxd/source"
)

// TestSuspend: while a store is suspended another one can have the directory, and nothing is changed by the first; then it goes on.
func TestSuspend(t *testing.T) {
	h := newHarness(t)
	if err := h.AddContainer(source.NewContainer{Name: "c1", Config: map[string]string{"user.a": "1"}}); err != nil {
		t.Fatal(err)
	}
	if err := h.Suspend(); err != nil {
		t.Fatal(err)
	}
	if err := h.UpdateConfig("c1", map[string]string{"user.a": "2"}, nil); !errors.Is(err, source.ErrLocked) {
		t.Errorf("a change while suspended = %v", err)
	}
	if err := h.Suspend(); !errors.Is(err, source.ErrLocked) {
		t.Errorf("Suspend again = %v", err)
	}
	if _, ok := h.reg.Container("c1"); !ok {
		t.Error("the registry lost the container")
	}
	other, err := Open(h.dir, registry.New(registry.Options{}), h.binder, slog.New(new(logs)), WithLockTimeout(0))
	if err != nil {
		t.Fatalf("the successor: %v", err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second one finds it open
		if err := h.Resume(); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.UpdateConfig("c1", map[string]string{"user.a": "2"}, nil); err != nil {
		t.Errorf("a change after Resume = %v", err)
	}
	if _, err := Open(h.dir, registry.New(registry.Options{}), nil, nil, WithLockTimeout(0)); !errors.Is(err, source.ErrLocked) {
		t.Errorf("another one after Resume = %v", err)
	}
}

// TestResumeFails: a directory that another one keeps makes the store refuse changes, and say why.
func TestResumeFails(t *testing.T) {
	h := &harness{t: t, dir: memDir(t), binder: newFakeBinder()}
	h.open(WithLockTimeout(0))
	t.Cleanup(func() { _ = h.Close() })
	if err := h.Suspend(); err != nil {
		t.Fatal(err)
	}
	other, err := Open(h.dir, registry.New(registry.Options{}), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := h.Resume(); !errors.Is(err, source.ErrLocked) {
		t.Errorf("Resume = %v", err)
	}
	if err := h.AddContainer(source.NewContainer{Name: "c1"}); !errors.Is(err, source.ErrStorage) || !errors.Is(err, source.ErrLocked) {
		t.Errorf("a change = %v", err)
	}
}

// TestCloseSuspended: a store that was given up for good leaves the directory to its successor.
func TestCloseSuspended(t *testing.T) {
	h := newHarness(t)
	if err := h.Suspend(); err != nil {
		t.Fatal(err)
	}
	other, err := Open(h.dir, registry.New(registry.Options{}), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	if err := other.AddContainer(source.NewContainer{Name: "c1"}); err != nil {
		t.Errorf("the successor: %v", err)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
}
