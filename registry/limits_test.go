package registry

import (
	"errors"
	"strings"
	"testing"
)

func TestParseLimits(t *testing.T) {
	for text, want := range map[string]Limits{
		"":                            {},
		"connections=1":               {LimitConnections: 1},
		"bytes=1000000000,images=2":   {LimitBytes: MaxLimit, LimitImages: 2},
		"requests=unlimited":          {LimitRequests: Unlimited},
		"subscribers=7,connections=8": {LimitSubscribers: 7, LimitConnections: 8},
	} {
		if got, err := ParseLimits(text); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]error{
		"connections": ErrLimit, "connections=": ErrLimit, "connections=0": ErrLimit, "connections=-1": ErrLimit, "bytes=1000000001": ErrLimit,
		"bytes=+5": ErrLimit, "bytes=5 ": ErrLimit, "bytes=1e3": ErrLimit, "requests=UNLIMITED": ErrLimit,
		"nothing=1": ErrLimitName, ",": ErrLimitName, "images=1,": ErrLimitName, "images=1,images=2": ErrLimitTwice,
	} {
		if _, err := ParseLimits(text); !errors.Is(err, want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v; want %v", text, err, want)
		}
	}
	for _, l := range AllLimits() {
		if got, ok := LimitOfKey(LimitKeyPrefix + l.String()); !ok || got != l {
			t.Errorf("%s: %v, %v", l, got, ok)
		}
	}
	for _, n := range []int64{1, MaxLimit, Unlimited} {
		if got, err := ParseLimit(FormatLimit(n)); err != nil || got != n {
			t.Errorf("%d: %d, %v", n, got, err)
		}
	}
	if Limit(NumLimits).String() != "unknown" || len(AllLimits()) != NumLimits {
		t.Error("the set is not closed")
	}
}

// TestSnapshotLimits: a container has the quotas of its config; what cannot be read is not set.
func TestSnapshotLimits(t *testing.T) {
	r := New(Options{})
	put := func(config map[string]string) *Limits {
		c, err := r.Put(Spec{Name: "c1", Config: config})
		if err != nil {
			t.Fatal(err)
		}
		return c.Snapshot().Limits()
	}
	if l := put(map[string]string{"user.a": "1", "limits.devlxd": "1", "limits.devlxe.images": "1", "limits.cpu": "2"}); l != nil {
		t.Errorf("limits %v; want none", l)
	}
	l := put(map[string]string{"limits.devlxd.images": "2", "limits.devlxd.bytes": "many", "limits.devlxd.other": "3", "limits.devlxd.requests": "unlimited"})
	if l == nil || *l != (Limits{LimitImages: 2, LimitRequests: Unlimited}) {
		t.Errorf("limits %v", l)
	}
	if l := put(nil); l != nil {
		t.Errorf("limits %v after they were unset", l)
	}
}

// TestAttachment: a life keeps one thing, the next one another.
func TestAttachment(t *testing.T) {
	r := New(Options{})
	if _, err := r.Put(Spec{Name: "c1"}); err != nil {
		t.Fatal(err)
	}
	b, err := r.Bind("c1", Identity{CgroupID: 7})
	if err != nil {
		t.Fatal(err)
	}
	made := 0
	attach := func(b *Binding) any {
		return b.Attachment(func() any { made++; return new(int) })
	}
	if attach(b) != attach(b) || made != 1 {
		t.Errorf("made %d times", made)
	}
	first := attach(b)
	r.Stop(b)
	next, err := r.Bind("c1", Identity{CgroupID: 8})
	if err != nil {
		t.Fatal(err)
	}
	if attach(next) == first || made != 2 {
		t.Error("the next life has what the one before had")
	}
}
