package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"devlxd/registry"
	"devlxd/source"
)

func TestOpenCreatesPrivateFiles(t *testing.T) {
	h := &harness{t: t, dir: filepath.Join(memDir(t), "a", "state"), binder: newFakeBinder()}
	h.open()
	defer h.Close()
	if _, err := h.ImportImage(image(1, 100), nil, source.ImageOptions{}); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := os.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o; want %o", path, info.Mode().Perm(), want)
		}
		return nil
	})
	h.must(err)
}

func TestOpenTwice(t *testing.T) {
	h := newHarness(t)
	_, err := Open(h.dir, registry.New(registry.Options{}), nil, nil, WithLockTimeout(0))
	h.want(err, source.ErrLocked, fmt.Sprintf("in use by another devlxd (pid %d)", os.Getpid()))
	h.must(h.AddContainer(source.NewContainer{Name: "c"}))

	// The one that waits gets the directory as soon as the first gives it up.
	opened := make(chan error, 1)
	go func() {
		s, err := Open(h.dir, registry.New(registry.Options{}), nil, nil, WithLockTimeout(time.Minute))
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	h.must(h.Close())
	h.must(<-opened)
}

func TestOpenWhileAToolHasTheFile(t *testing.T) {
	h := newHarness(t)
	h.must(h.Close())
	db, err := bbolt.Open(h.path(stateName), 0o600, nil)
	h.must(err)
	defer db.Close()
	h.want(h.tryOpen(registry.Options{}, WithLockTimeout(0)), source.ErrLocked, "another program")
}

func TestClosedStore(t *testing.T) {
	h := newHarness(t)
	h.must(h.AddContainer(source.NewContainer{Name: "c"}))
	h.must(h.Close())
	h.must(h.Close())
	for name, err := range map[string]error{
		"AddContainer":    h.AddContainer(source.NewContainer{Name: "d"}),
		"RemoveContainer": h.RemoveContainer("c"),
		"Bind":            h.Bind("c", source.BindRequest{PID: 1}),
		"UpdateConfig":    h.UpdateConfig("c", map[string]string{"user.a": ""}, nil),
		"AddDevice":       h.AddDevice("c", "d", map[string]string{"type": "none"}),
		"RemoveImage":     h.RemoveImage(strings.Repeat("0", 64)),
		"ImportImage":     func() error { _, err := h.ImportImage(image(1, 100), nil, source.ImageOptions{}); return err }(),
	} {
		if !errors.Is(err, source.ErrClosed) {
			t.Errorf("%s on a closed store: error = %v; want %v", name, err, source.ErrClosed)
		}
	}
	if _, ok := h.reg.Container("c"); !ok {
		t.Error("the registry lost a container when the store was closed")
	}
}

func TestOpenKeepsEverything(t *testing.T) {
	h := newHarness(t)
	fillHarness(h)
	before, ids := stateOf(h.reg), map[string]string{"c1": h.instanceID("c1"), "c2": h.instanceID("c2")}
	h.reopen()
	if got := stateOf(h.reg); !reflect.DeepEqual(got, before) {
		t.Errorf("after a restart: %+v; want %+v", got, before)
	}
	for name, id := range ids {
		if got := h.instanceID(name); got != id {
			t.Errorf("instance id of %s after a restart = %q; want %q", name, got, id)
		}
	}
}

// fillHarness adds what makes a file with all kinds of pages: small and large records, images, free pages.
func fillHarness(h *harness) {
	h.t.Helper()
	uid := uint32(100000)
	h.must(h.AddContainer(source.NewContainer{
		Name: "c1", Config: map[string]string{"user.a": "1", "cloud-init.user-data": strings.Repeat("#cloud-config\n", 1000)},
		Devices: map[string]map[string]string{"eth0": {"type": "nic"}, "root": {"type": "disk", "path": "/"}}, Cgroup: "/c1", RootUID: &uid,
	}))
	for i := range 60 {
		h.must(h.AddContainer(source.NewContainer{
			Name: fmt.Sprintf("c%d", i+2), Config: map[string]string{"user.n": strings.Repeat("x", 10*i)},
		}))
	}
	for i := range 10 {
		h.must(h.RemoveContainer(fmt.Sprintf("c%d", 5*i+7)))
	}
	for i := range 3 {
		_, err := h.ImportImage(image(i, 1000), nil, source.ImageOptions{Public: i == 1, Cached: i == 2})
		h.must(err)
	}
}

// TestOpenDamaged changes a state file in many places. Whatever Open then says, the file stays byte for byte; and if Open
// lets it pass, everything is there and can be changed.
func TestOpenDamaged(t *testing.T) {
	h := newHarness(t)
	fillHarness(h)
	h.must(h.Close())
	want, path := stateOf(h.reg), h.path(stateName)
	good, err := os.ReadFile(path)
	h.must(err)
	found, passed := 0, 0
	try := func(what string, bad []byte) {
		t.Helper()
		h.must(os.WriteFile(path, bad, 0o600))
		err := h.tryOpen(registry.Options{})
		after, readErr := os.ReadFile(path)
		h.must(readErr)
		if !bytes.Equal(after, bad) {
			t.Fatalf("%s: Open changed the file", what)
		}
		if err != nil {
			wantError(t, err, source.ErrDamaged, path)
			found++
			if h.reg.Len() != 0 {
				t.Fatalf("%s: the registry has %d containers after a failed Open", what, h.reg.Len())
			}
			return
		}
		passed++
		if got := stateOf(h.reg); !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: Open lets it pass with another state", what)
		}
		h.must(h.AddContainer(source.NewContainer{Name: "after", Config: map[string]string{"user.a": strings.Repeat("x", 9000)}}))
		h.reopen()
		if got := h.reg.Len(); got != len(want.Containers)+1 {
			t.Fatalf("%s: %d containers after a change; want %d", what, got, len(want.Containers)+1)
		}
		h.must(h.Close())
	}

	rng := rand.New(rand.NewPCG(1, 1))
	for i := range good {
		if i%4096 > 40 && rng.IntN(400) != 0 || i%4096 <= 40 && i%3 != 0 {
			continue
		}
		bad := bytes.Clone(good)
		bad[i] ^= 1 << rng.IntN(8)
		try(fmt.Sprintf("bit flipped in byte %d", i), bad)
	}
	for n := 0; n < len(good); n += 4096 {
		try(fmt.Sprintf("cut at %d", n), good[:n])
		bad := bytes.Clone(good)
		clear(bad[n : n+4096])
		try(fmt.Sprintf("page at %d zeroed", n), bad)
		for i := n; i < n+4096; i++ {
			bad[i] = byte(rng.Uint32())
		}
		try(fmt.Sprintf("page at %d overwritten", n), bad)
		bad = bytes.Clone(good)
		copy(bad[n:n+4096], good[(n+8192)%len(good):])
		try(fmt.Sprintf("page at %d replaced by another", n), bad)
	}
	t.Logf("%d damaged files refused, %d harmless ones opened", found, passed)
	if found == 0 || passed == 0 {
		t.Error("the test needs both kinds of damage to mean something")
	}
}

// edited changes the closed state file by bbolt itself, so that its structure is sound.
func (h *harness) edited(fn func(tx *bbolt.Tx) error) {
	h.t.Helper()
	_ = h.Close()
	db, err := bbolt.Open(h.path(stateName), 0o600, nil)
	h.must(err)
	h.must(db.Update(fn))
	h.must(db.Close())
}

func TestOpenRefusesContents(t *testing.T) {
	raw := func(bucket []byte, key string, change func(v []byte) []byte) func(tx *bbolt.Tx) error {
		return func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucket)
			return b.Put([]byte(key), change(bytes.Clone(b.Get([]byte(key)))))
		}
	}
	flip := func(v []byte) []byte { v[len(v)/2] ^= 1; return v }
	for _, c := range []struct {
		name   string
		change func(tx *bbolt.Tx) error
		kind   error
		text   string
	}{
		{"container record", raw(bucketContainers, "c1", flip), source.ErrDamaged, `container "c1": checksum mismatch`},
		{"container under another name", func(tx *bbolt.Tx) error {
			v := bytes.Clone(tx.Bucket(bucketContainers).Get([]byte("c1")))
			return put(tx, bucketContainers, []byte("zz"), v)
		}, source.ErrDamaged, `container "zz": it is the record of "c1"`},
		{"container gone", func(tx *bbolt.Tx) error { return tx.Bucket(bucketContainers).Delete([]byte("c1")) },
			source.ErrDamaged, `bucket "containers" has 50 records instead of 51`},
		{"all containers gone", func(tx *bbolt.Tx) error { return tx.DeleteBucket(bucketContainers) },
			source.ErrDamaged, `bucket "containers"`},
		{"newer schema", raw(bucketMeta, string(keySchema), func([]byte) []byte { return encodeSchema(2) }), source.ErrNewer, "schema 2"},
		{"newer schema and records", func(tx *bbolt.Tx) error {
			if err := raw(bucketContainers, "c1", flip)(tx); err != nil {
				return err
			}
			return raw(bucketMeta, string(keySchema), func([]byte) []byte { return encodeSchema(1000) })(tx)
		}, source.ErrNewer, "schema 1000"},
		{"damaged schema", raw(bucketMeta, string(keySchema), flip), source.ErrDamaged, "schema"},
		{"no schema", func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Delete(keySchema) }, source.ErrDamaged, "schema"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHarness(t)
			fillHarness(h)
			h.edited(c.change)
			before, err := os.ReadFile(h.path(stateName))
			h.must(err)
			h.want(h.tryOpen(registry.Options{}), c.kind, c.text)
			after, err := os.ReadFile(h.path(stateName))
			h.must(err)
			if !bytes.Equal(before, after) {
				t.Error("Open changed the file")
			}
		})
	}
}

func TestOpenOddFiles(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(path string) error
		kind error
		text string
	}{
		{"empty file", func(path string) error { return os.WriteFile(path, nil, 0o600) }, source.ErrDamaged, stateName},
		{"text", func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte("hello\n"), 5000), 0o600) }, source.ErrDamaged, stateName},
		{"directory", func(path string) error { return os.Mkdir(path, 0o700) }, source.ErrInvalid, "not a regular file"},
		{"link", func(path string) error { return os.Symlink("/dev/zero", path) }, source.ErrInvalid, "not a regular file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &harness{t: t, dir: memDir(t), binder: newFakeBinder()}
			h.must(c.make(h.path(stateName)))
			h.want(h.tryOpen(registry.Options{}), c.kind, c.text)
		})
	}
	t.Run("directory is a file", func(t *testing.T) {
		h := &harness{t: t, dir: filepath.Join(memDir(t), "f"), binder: newFakeBinder()}
		h.must(os.WriteFile(h.dir, nil, 0o600))
		h.want(h.tryOpen(registry.Options{}), source.ErrStorage, "cannot create the state directory")
	})
	t.Run("rest of an interrupted creation", func(t *testing.T) {
		h := &harness{t: t, dir: memDir(t), binder: newFakeBinder()}
		h.must(os.WriteFile(h.path(stateName+".new"), []byte("half"), 0o600))
		h.open()
		h.must(h.Close())
		if _, err := os.Lstat(h.path(stateName + ".new")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("rest of an interrupted creation: %v; want it gone", err)
		}
	})
}

func TestOpenRegistryTooSmall(t *testing.T) {
	h := newHarness(t)
	h.must(h.AddContainer(source.NewContainer{Name: "a"}))
	h.must(h.AddContainer(source.NewContainer{Name: "b"}))
	h.must(h.Close())
	h.want(h.tryOpen(registry.Options{MaxContainers: 1}), source.ErrFull, `container "b"`)
	h.open()
	if h.reg.Len() != 2 {
		t.Errorf("%d containers; want 2", h.reg.Len())
	}
}
