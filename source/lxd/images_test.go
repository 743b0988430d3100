package lxd

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestLocate: the files of unified and split images, and what is none.
func TestLocate(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		path := filepath.Join(dir, imagesDir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	unified, split, disk, missing, link := fingerprint('a'), fingerprint('b'), fingerprint('c'), fingerprint('d'), fingerprint('e')
	write(unified, "\x1f\x8bx")
	write(split, "\xfd7zXZ")
	write(split+".rootfs", "hsqs--")
	write(disk, "\xfd7zXZ")
	write(disk+".rootfs", "raw")
	later := time.Now().Add(time.Hour).Truncate(time.Second)
	if err := os.Chtimes(filepath.Join(dir, imagesDir, split+".rootfs"), later, later); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, imagesDir, unified), filepath.Join(dir, imagesDir, link)); err != nil {
		t.Fatal(err)
	}
	dirs := []string{"/nonexistent", dir}
	i, err := (&image{Fingerprint: unified, Cached: true, Type: "container"}).locate(dirs)
	if err != nil || !i.Unified() || i.Size != 3 || i.Ext != ".tar.gz" || !i.Cached || i.Public || i.Path != filepath.Join(dir, "images", unified) {
		t.Errorf("unified: %+v, %v", i, err)
	}
	i, err = (&image{Fingerprint: split, Public: true, Type: "container"}).locate(dirs)
	if err != nil || i.Unified() || i.Size != 5 || i.RootfsSize != 6 || i.Ext != ".tar.xz" || i.RootfsExt != ".squashfs" || !i.ModTime.Equal(later) {
		t.Errorf("split: %+v, %v", i, err)
	}
	i, err = (&image{Fingerprint: disk, Type: "virtual-machine"}).locate(dirs)
	if err != nil || i.RootfsExt != ".img" {
		t.Errorf("disk: %+v, %v", i, err)
	}
	if _, err = (&image{Fingerprint: missing}).locate(dirs); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	for _, fp := range []string{link, "../" + imagesDir + "/" + unified, "", "A"} {
		if i, err := (&image{Fingerprint: fp}).locate(dirs); err == nil {
			t.Errorf("%q: %+v", fp, i)
		}
	}
}
