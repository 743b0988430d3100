package registry_test

import (
	"testing"

	"devlxd/registry"
)

// TestDerive: a derived answer hides the value in Lookup and nowhere else, and is kept while Derive says that it is the same.
func TestDerive(t *testing.T) {
	renders := 0
	r := registry.New(registry.Options{
		RenderValue: func(v string) ([]byte, int) {
			renders++
			return []byte("HEAD " + v), 5
		},
		Derive: func(s, old *registry.Snapshot) ([]registry.KV, bool) {
			suffix, ok := s.Value("suffix")
			if !ok {
				return nil, false
			}
			if before, _ := old.Value("suffix"); string(before) == string(suffix) {
				return nil, true
			}
			return []registry.KV{{Key: "user.z", Value: "z" + string(suffix)}, {Key: "user.a", Value: "a" + string(suffix)}}, false
		},
	})
	expect := func(s *registry.Snapshot, key, want string) {
		t.Helper()
		if v, ok := s.Lookup([]byte(key)); ok != (want != "") || string(v) != want {
			t.Errorf("Lookup(%q) = %q, %v; want %q", key, v, ok, want)
		}
	}
	s := put(t, r, registry.Spec{Name: "c1", Config: config{"user.a": "1"}}).Snapshot()
	expect(s, "user.a", "HEAD 1")
	expect(s, "user.z", "")

	s = put(t, r, registry.Spec{Name: "c1", Config: config{"user.a": "1", "suffix": "+"}}).Snapshot()
	expect(s, "user.a", "HEAD a+")
	expect(s, "user.z", "HEAD z+")
	if v, _ := s.Value("user.a"); string(v) != "1" {
		t.Errorf("Value(user.a) = %q; want what was put", v)
	}
	if _, ok := s.Value("user.z"); ok || len(s.Config()) != 2 {
		t.Errorf("the config has the derived key: %v", s.Config())
	}

	renders = 0
	s = put(t, r, registry.Spec{Name: "c1", Config: config{"user.a": "2", "suffix": "+"}}).Snapshot()
	expect(s, "user.z", "HEAD z+")
	if renders != 1 {
		t.Errorf("%d values were rendered; want only the one that changed", renders)
	}

	s = put(t, r, registry.Spec{Name: "c1", Config: config{"user.a": "2"}}).Snapshot()
	expect(s, "user.a", "HEAD 2")
	expect(s, "user.z", "")
}

// TestDeriveNotRendered: nothing changes when a derived value cannot be rendered.
func TestDeriveNotRendered(t *testing.T) {
	r := registry.New(registry.Options{
		RenderValue: func(v string) ([]byte, int) {
			if v == "bad" {
				return nil, 0
			}
			return []byte(v), 0
		},
		Derive: func(s, _ *registry.Snapshot) ([]registry.KV, bool) {
			if _, ok := s.Value("break"); ok {
				return []registry.KV{{Key: "x", Value: "bad"}}, false
			}
			return nil, false
		},
	})
	put(t, r, registry.Spec{Name: "c1", Config: config{"user.a": "1"}})
	if _, err := r.Put(registry.Spec{Name: "c1", Config: config{"break": "1"}}); err != registry.ErrRender {
		t.Errorf("Put = %v; want %v", err, registry.ErrRender)
	}
	c, _ := r.Container("c1")
	if v, _ := c.Snapshot().Value("user.a"); string(v) != "1" {
		t.Errorf("user.a = %q after a failed change", v)
	}
}
