package store

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devlxd/registry"
	"devlxd/source"
)

// mount puts a tmpfs of size bytes on a new directory.
func mountTmpfs(t *testing.T, size int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a small tmpfs to fill it up")
	}
	dir := t.TempDir()
	if err := unix.Mount("devlxd-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("needs a mount: tmpfs on %s: %v", dir, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

func resize(t *testing.T, dir string, size int) {
	t.Helper()
	if err := unix.Mount("devlxd-test", dir, "tmpfs", unix.MS_REMOUNT, fmt.Sprintf("size=%d", size)); err != nil {
		t.Fatal(err)
	}
}

// TestDiskFull fills the disk at every kind of change: nothing changes, and everything goes on once there is space.
func TestDiskFull(t *testing.T) {
	h := &harness{t: t, dir: mountTmpfs(t, 512<<10), binder: newFakeBinder()}
	h.open()
	t.Cleanup(func() { _ = h.Close() })
	h.must(h.AddContainer(source.NewContainer{Name: "c", Devices: map[string]map[string]string{"d": {"type": "none"}}}))
	h.binder.start(70)

	var full error
	value := strings.Repeat("v", 10_000)
	for n := 0; full == nil; n++ {
		full = h.AddContainer(source.NewContainer{Name: fmt.Sprint("fill", n), Config: map[string]string{"user.v": value}})
	}
	h.want(full, source.ErrStorage, "free some space and try again")
	if !errors.Is(full, unix.ENOSPC) {
		t.Errorf("error = %v; want it to wrap ENOSPC", full)
	}
	before := stateOf(h.reg)
	big := map[string]string{"user.big": strings.Repeat("b", 300_000)}
	for name, change := range map[string]func() error{
		"add":         func() error { return h.AddContainer(source.NewContainer{Name: "n", Config: big}) },
		"add running": func() error { return h.AddContainer(source.NewContainer{Name: "n", Config: big, PID: 70}) },
		"config":      func() error { return h.UpdateConfig("c", big, nil) },
		"image": func() error {
			_, err := h.ImportImage(image(1, 1<<20), nil, source.ImageOptions{})
			return err
		},
		"split image": func() error {
			_, err := h.ImportImage(image(1, 100), image(1, 1<<20), source.ImageOptions{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) { wantError(t, change(), source.ErrStorage, "no space left on device") })
	}
	if got := stateOf(h.reg); !reflect.DeepEqual(got, before) || h.binder.opened() != 0 {
		t.Errorf("a full disk changed the registry, or %d processes are held", h.binder.opened())
	}
	h.wantFiles()

	resize(t, h.dir, 16<<20)
	h.must(h.UpdateConfig("c", big, nil))
	h.must(h.Bind("c", source.BindRequest{PID: 70}))
	_, err := h.ImportImage(image(1, 1<<20), image(2, 100), source.ImageOptions{})
	h.must(err)
	before = stateOf(h.reg)
	h.reopen()
	if got := stateOf(h.reg); !reflect.DeepEqual(got, before) || h.running("c") != 70 {
		t.Error("state differs after a restart")
	}
	if strings.Contains(h.logs.String(), "WARN") {
		t.Errorf("the file is not as it should be after failed commits:\n%s", h.logs)
	}
}

// TestDiskFullRemoval: on a full disk the way out is to remove something. Removing needs a few pages, which earlier changes have freed.
func TestDiskFullRemoval(t *testing.T) {
	h := &harness{t: t, dir: mountTmpfs(t, 512<<10), binder: newFakeBinder()}
	h.open()
	t.Cleanup(func() { _ = h.Close() })
	_, err := h.ImportImage(image(1, 100_000), nil, source.ImageOptions{})
	h.must(err)
	for n := 0; err == nil; n++ {
		err = h.AddContainer(source.NewContainer{Name: fmt.Sprint("fill", n), Config: map[string]string{"user.v": strings.Repeat("v", 5000)}})
	}
	h.want(err, source.ErrStorage, "no space")
	h.must(h.RemoveImage(fingerprint(imageBytes(1, 100_000))))
	h.must(h.RemoveContainer("fill0"))
	h.must(h.AddContainer(source.NewContainer{Name: "n"}))
	h.reopen()
	if _, ok := h.reg.Container("fill0"); ok || len(h.reg.Images()) != 0 {
		t.Error("what was removed is back after a restart")
	}
}

func TestReadOnlyFileSystem(t *testing.T) {
	dir := mountTmpfs(t, 1<<20)
	h := &harness{t: t, dir: dir, binder: newFakeBinder()}
	h.open()
	h.must(h.Close())
	if err := unix.Mount("devlxd-test", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	h.want(h.tryOpen(registry.Options{}), source.ErrStorage, "remount the file system writable")
}

// TestFileCutWhileOpen takes the pages of the file away under the map of bbolt: the store stops, the process lives.
func TestFileCutWhileOpen(t *testing.T) {
	h := newHarness(t)
	h.must(h.AddContainer(source.NewContainer{Name: "c", Config: map[string]string{"user.a": "1"}}))
	h.must(os.Truncate(h.path(stateName), 0))
	h.want(h.UpdateConfig("c", map[string]string{"user.a": "2"}, nil), source.ErrStorage, "cannot be read")
	h.want(h.AddContainer(source.NewContainer{Name: "d"}), source.ErrStorage, "restart devlxd")
	h.wantConfig("c", map[string]string{"user.a": "1"})
	h.must(h.Close())
	h.want(h.tryOpen(registry.Options{}), source.ErrDamaged, stateName)
}

// TestCommitNotConfirmed: the meta page was written and its sync failed, as a transaction that readers see.
func TestCommitNotConfirmed(t *testing.T) {
	h := newHarness(t)
	h.must(h.AddContainer(source.NewContainer{Name: "c"}))
	boom := errors.New("input/output error")
	h.mu.Lock()
	err := h.settle("save it", 0, boom)
	h.mu.Unlock()
	h.want(err, source.ErrStorage, "failed to confirm")
	if !errors.Is(err, boom) {
		t.Errorf("error = %v; want it to wrap %v", err, boom)
	}
	h.want(h.UpdateConfig("c", map[string]string{"user.a": "1"}, nil), source.ErrStorage, "restart devlxd")
	h.want(h.RemoveContainer("c"), source.ErrStorage, "restart devlxd")
	if !strings.Contains(h.logs.String(), "ERROR changes are refused for good") {
		t.Errorf("the log does not say that the store has stopped:\n%s", h.logs)
	}
	h.reopen()
	h.must(h.UpdateConfig("c", map[string]string{"user.a": "1"}, nil))
}
