package registry_test

import (
	"testing"

	"devlxd/registry"
)

const firstLeaf = 10_000

// cached returns how many of the leaves firstLeaf..firstLeaf+n lead to b.
func cached(r *registry.Registry, b *registry.Binding, n uint64) (count int) {
	for leaf := uint64(firstLeaf); leaf < firstLeaf+n; leaf++ {
		if got, ok := r.LookupCgroup(leaf); ok && got == b {
			count++
		}
	}
	return count
}

func TestCacheLeafIsBounded(t *testing.T) {
	r := registry.New(registry.Options{})
	put(t, r, registry.Spec{Name: "c1"})
	put(t, r, registry.Spec{Name: "c2"})
	noisy, _ := r.Bind("c1", registry.Identity{CgroupID: 50})
	quiet, _ := r.Bind("c2", registry.Identity{CgroupID: 60})
	r.CacheLeaf(600, quiet)
	const n = 1000
	for leaf := uint64(firstLeaf); leaf < firstLeaf+n; leaf++ {
		r.CacheLeaf(leaf, noisy)
		r.CacheLeaf(leaf, noisy)
		if b, ok := r.LookupCgroup(leaf); !ok || b != noisy {
			t.Fatalf("LookupCgroup(%d) = %v, %v just after it was cached", leaf, b, ok)
		}
	}
	if got := cached(r, noisy, n); got != registry.MaxLeaves {
		t.Errorf("%d leaves cached; want %d", got, registry.MaxLeaves)
	}
	if b, ok := r.LookupCgroup(600); !ok || b != quiet {
		t.Error("one container's leaves pushed out another's")
	}
	r.Stop(noisy)
	if got := cached(r, noisy, n); got != 0 {
		t.Errorf("%d leaves cached after the stop", got)
	}
	if b, ok := r.LookupCgroup(600); !ok || b != quiet {
		t.Error("stopping one container dropped another's leaf")
	}
}

func TestCacheLeafRefuses(t *testing.T) {
	r := registry.New(registry.Options{})
	for _, name := range []string{"c1", "c2", "alone", "dead"} {
		put(t, r, registry.Spec{Name: name})
	}
	c1, _ := r.Bind("c1", registry.Identity{CgroupID: 50})
	c2, _ := r.Bind("c2", registry.Identity{CgroupID: 60})
	alone, _ := r.Bind("alone", registry.Identity{PidNSIno: 7})
	dead, _ := r.Bind("dead", registry.Identity{CgroupID: 70})
	r.Stop(dead)
	r.CacheLeaf(500, c1)
	for _, tt := range []struct {
		name string
		leaf uint64
		b    *registry.Binding
		want *registry.Binding
	}{
		{"payload of another", 60, c1, c2},
		{"own payload", 50, c1, c1},
		{"leaf of another", 500, c2, c1},
		{"dead binding", 700, dead, nil},
		{"payload of the dead binding", 70, dead, nil},
		{"binding without a cgroup of its own", 800, alone, nil},
		{"root cgroup", 1, c1, nil},
		{"no cgroup", 0, c1, nil},
		{"no binding", 900, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.CacheLeaf(tt.leaf, tt.b)
			if got, _ := r.LookupCgroup(tt.leaf); got != tt.want {
				t.Errorf("LookupCgroup(%d) = %v; want %v", tt.leaf, got, tt.want)
			}
		})
	}
	r.Stop(c1)
	if got, ok := r.LookupCgroup(60); !ok || got != c2 {
		t.Error("stopping a container that tried to cache a payload dropped it")
	}
}

// TestBindTakesLeaf: registration wins over what was cached, and the former owner of the leaf cannot take the id away any more.
func TestBindTakesLeaf(t *testing.T) {
	r := registry.New(registry.Options{})
	put(t, r, registry.Spec{Name: "outer"})
	put(t, r, registry.Spec{Name: "inner"})
	outer, _ := r.Bind("outer", registry.Identity{CgroupID: 50})
	r.CacheLeaf(60, outer)
	inner, err := r.Bind("inner", registry.Identity{CgroupID: 60})
	if err != nil {
		t.Fatalf("Bind of a cached leaf = %v", err)
	}
	for leaf := uint64(firstLeaf); leaf < firstLeaf+registry.MaxLeaves; leaf++ {
		r.CacheLeaf(leaf, outer) // the last one evicts 60
	}
	if got, _ := r.LookupCgroup(60); got != inner {
		t.Errorf("LookupCgroup(60) = %v after eviction; want the registered container", got)
	}
	r.Stop(outer)
	if got, _ := r.LookupCgroup(60); got != inner {
		t.Errorf("LookupCgroup(60) = %v after the stop; want the registered container", got)
	}
	r.Stop(inner)
	if got, ok := r.LookupCgroup(60); ok {
		t.Errorf("LookupCgroup(60) = %v after both stopped", got)
	}
}
