package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"go.etcd.io/bbolt"

	"devlxd/registry"
	"devlxd/source"
)

// imageBytes returns size bytes that begin like a gzip file and depend on seed.
func imageBytes(seed, size int) []byte {
	b := []byte("\x1f\x8b")
	for n := seed; len(b) < size; n = n*1103515245 + 12345 {
		b = append(b, byte(n>>16))
	}
	return b[:size]
}

func image(seed, size int) io.Reader { return bytes.NewReader(imageBytes(seed, size)) }

func fingerprint(parts ...[]byte) string {
	sum := sha256.Sum256(slices.Concat(parts...))
	return hex.EncodeToString(sum[:])
}

// files lists the image directory.
func (h *harness) files() []string {
	h.t.Helper()
	entries, err := os.ReadDir(h.path(imagesName))
	h.must(err)
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (h *harness) wantFiles(want ...string) {
	h.t.Helper()
	slices.Sort(want)
	if got := h.files(); !slices.Equal(got, want) {
		h.t.Fatalf("image directory holds %q; want %q", got, want)
	}
}

func TestImportUnified(t *testing.T) {
	h := newHarness(t)
	data := imageBytes(1, 300_000)
	fp := fingerprint(data)
	got, err := h.ImportImage(iotest.HalfReader(bytes.NewReader(data)), nil, source.ImageOptions{Public: true})
	h.must(err)
	want := registry.Image{
		Fingerprint: fp, Public: true, Type: "container", Path: h.path(imagesName, fp), Ext: ".tar.gz", Size: 300_000, ModTime: got.ModTime,
	}
	for range 2 {
		listed, ok := h.reg.Image(fp)
		if !ok || !reflect.DeepEqual(*listed, want) || !reflect.DeepEqual(got, want) {
			t.Fatalf("image is %+v, listed as %+v; want %+v", got, listed, want)
		}
		if readAll(t, want.Path) != string(data) {
			t.Fatal("the file has other bytes than were imported")
		}
		h.wantFiles(fp)
		h.reopen()
	}
	if got.ModTime.IsZero() || got.ModTime.Nanosecond() != 0 {
		t.Errorf("modification time = %v; want whole seconds, as in Last-Modified", got.ModTime)
	}
}

func TestImportSplit(t *testing.T) {
	h := newHarness(t)
	meta, rootfs := imageBytes(1, 1000), append([]byte("hsqs"), imageBytes(2, 50_000)...)
	fp := fingerprint(meta, rootfs)
	got, err := h.ImportImage(bytes.NewReader(meta), bytes.NewReader(rootfs), source.ImageOptions{Cached: true})
	h.must(err)
	want := registry.Image{
		Fingerprint: fp, Cached: true, Type: "container", Path: h.path(imagesName, fp), Ext: ".tar.gz", Size: 1000, ModTime: got.ModTime,
		RootfsPath: h.path(imagesName, fp+".rootfs"), RootfsExt: ".squashfs", RootfsSize: int64(len(rootfs)),
	}
	for range 2 {
		listed, ok := h.reg.Image(fp)
		if !ok || !reflect.DeepEqual(*listed, want) || !reflect.DeepEqual(got, want) {
			t.Fatalf("image is %+v, listed as %+v; want %+v", got, listed, want)
		}
		if readAll(t, want.Path) != string(meta) || readAll(t, want.RootfsPath) != string(rootfs) {
			t.Fatal("the files have other bytes than were imported")
		}
		h.wantFiles(fp, fp+".rootfs")
		h.reopen()
	}
}

func TestImportFormats(t *testing.T) {
	tar := make([]byte, 1024)
	copy(tar[257:], "ustar")
	for _, c := range []struct{ head, ext string }{
		{"\x1f\x8b\x08", ".tar.gz"}, {"BZh9", ".tar.bz2"}, {"\xfd7zXZ\x00", ".tar.xz"}, {"\x5d\x00\x00\x80", ".tar.lzma"},
		{"\x007zXZ", ".tar.lzma"}, {"\x28\xb5\x2f\xfd", ".tar.zst"}, {"hsqs", ".squashfs"}, {"QFI\xfb", ".qcow2"}, {string(tar), ".tar"},
		{"", ""}, {"PK\x03\x04", ""}, {strings.Repeat("\x00", 300), ""}, {"\x1f", ""},
	} {
		head := make([]byte, source.ImageHeadLen)
		copy(head, c.head)
		if got := source.ImageExt(head); got != c.ext {
			t.Errorf("ImageExt(%.8q) = %q; want %q", c.head, got, c.ext)
		}
	}
}

func TestImportRefused(t *testing.T) {
	h := newHarness(t)
	first, err := h.ImportImage(image(1, 100), nil, source.ImageOptions{Public: true})
	h.must(err)
	h.must(h.Close())
	h.open(WithMaxImage(1000))
	boom := errors.New("connection reset by peer")
	broken := func() io.Reader { return io.MultiReader(image(5, 200), iotest.ErrReader(boom)) }
	raw := func() io.Reader { return strings.NewReader("raw disk") }
	type options = source.ImageOptions
	for _, c := range []struct {
		name         string
		meta, rootfs io.Reader
		o            options
		kind         error
		text         string
	}{
		{"again", image(1, 100), nil, options{Cached: true}, source.ErrExists, first.Fingerprint},
		{"empty", strings.NewReader(""), nil, options{}, source.ErrInvalid, "empty"},
		{"no image", strings.NewReader("hello"), nil, options{}, source.ErrInvalid, "no known format"},
		{"empty rootfs", image(2, 100), strings.NewReader(""), options{}, source.ErrInvalid, "empty"},
		{"raw rootfs of a container", image(2, 100), raw(), options{}, source.ErrInvalid, "no known format"},
		{"raw metadata", raw(), image(2, 100), options{Type: "virtual-machine"}, source.ErrInvalid, "no known format"},
		{"type", image(2, 100), nil, options{Type: "vm"}, source.ErrInvalid, "image type"},
		{"too large", image(2, 1001), nil, options{}, source.ErrTooLarge, "1000 bytes"},
		{"too large together", image(2, 600), image(3, 401), options{}, source.ErrTooLarge, "1000 bytes"},
		{"reader fails", broken(), nil, options{}, boom, "after 200 bytes"},
		{"second reader fails", image(2, 100), broken(), options{}, boom, "after 200 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := h.ImportImage(c.meta, c.rootfs, c.o)
			wantError(t, err, c.kind, c.text)
		})
	}
	h.wantFiles(first.Fingerprint)
	if got := stateOf(h.reg).Images; len(got) != 1 || !reflect.DeepEqual(got[first.Fingerprint], first) {
		t.Errorf("images = %+v; want only %+v", got, first)
	}
	if _, err := h.ImportImage(image(2, 600), image(3, 400), source.ImageOptions{}); err != nil {
		t.Errorf("image as large as the limit: %v", err)
	}
	i, err := h.ImportImage(image(4, 10), raw(), source.ImageOptions{Type: "virtual-machine"})
	if err != nil || i.RootfsExt != ".img" || i.Type != "virtual-machine" {
		t.Errorf("virtual machine with a raw disk: %+v, %v; want it with .img", i, err)
	}
}

func TestRemoveImage(t *testing.T) {
	h := newHarness(t)
	i, err := h.ImportImage(image(1, 100_000), image(2, 10), source.ImageOptions{})
	h.must(err)
	download, err := os.Open(i.Path)
	h.must(err)
	defer download.Close()
	h.must(h.RemoveImage(i.Fingerprint))
	h.wantFiles()
	if b, err := io.ReadAll(download); err != nil || len(b) != 100_000 {
		t.Errorf("a download under way got %d bytes (%v); want all 100000", len(b), err)
	}
	h.want(h.RemoveImage(i.Fingerprint), source.ErrNotFound, i.Fingerprint)
	h.want(h.RemoveImage("../state.db"), source.ErrInvalid, "fingerprint")
	h.reopen()
	if n := len(h.reg.Images()); n != 0 {
		t.Errorf("%d images after a restart; want none", n)
	}
	if _, err := h.ImportImage(image(1, 100_000), image(2, 10), source.ImageOptions{}); err != nil {
		t.Errorf("import after a removal: %v", err)
	}
}

// TestInterruptedImages puts the directory and the file into each state that a crash can leave.
func TestInterruptedImages(t *testing.T) {
	h := newHarness(t)
	kept, err := h.ImportImage(image(1, 100), nil, source.ImageOptions{})
	h.must(err)
	split, err := h.ImportImage(image(2, 100), image(3, 100), source.ImageOptions{})
	h.must(err)
	lost := fingerprint(imageBytes(9, 100))
	unknown := fingerprint([]byte("not ours"))
	h.edited(func(tx *bbolt.Tx) error {
		return errors.Join(
			put(tx, bucketUnfinished, []byte(lost), nil),             // renamed, not recorded
			put(tx, bucketUnfinished, []byte(kept.Fingerprint), nil), // recorded, a removal of older files not noted
		)
	})
	for _, name := range []string{lost, lost + ".rootfs", ".import-123", unknown, "notes.txt"} {
		h.must(os.WriteFile(h.path(imagesName, name), []byte("x"), 0o600))
	}
	for range 2 {
		h.open()
		h.wantFiles(kept.Fingerprint, split.Fingerprint, split.Fingerprint+".rootfs", unknown, "notes.txt")
		if n := len(h.reg.Images()); n != 2 {
			t.Errorf("%d images; want 2", n)
		}
		for _, name := range []string{unknown, "notes.txt"} {
			if !strings.Contains(h.logs.String(), name) {
				t.Errorf("the log says nothing of %s:\n%s", name, h.logs)
			}
		}
		h.must(h.Close())
	}
}

// TestImportCannotBePlaced: the first file has its name already when the second cannot get its own. What cannot be cleared away at once
// is noted, and cleared away by the next Open.
func TestImportCannotBePlaced(t *testing.T) {
	h := newHarness(t)
	fp := fingerprint(imageBytes(1, 100), imageBytes(2, 100))
	obstacle := h.path(imagesName, fp+rootfsName)
	h.must(os.MkdirAll(filepath.Join(obstacle, "x"), 0o700))
	_, err := h.ImportImage(image(1, 100), image(2, 100), source.ImageOptions{})
	h.want(err, source.ErrStorage, fp)
	h.wantFiles(fp + rootfsName)
	if _, ok := h.reg.Image(fp); ok {
		t.Error("the image is in the registry")
	}
	if got := h.unfinished(); !slices.Equal(got, []string{fp}) {
		t.Errorf("noted as unfinished: %q; want the image", got)
	}
	h.must(os.Remove(filepath.Join(obstacle, "x")))
	h.reopen()
	h.wantFiles()
	if got := h.unfinished(); len(got) != 0 {
		t.Errorf("noted as unfinished: %q; want nothing", got)
	}
	_, err = h.ImportImage(image(1, 100), image(2, 100), source.ImageOptions{})
	h.must(err)
}

// TestRemoveImageLater: files that cannot be removed with their record are removed by the next Open.
func TestRemoveImageLater(t *testing.T) {
	h := newHarness(t)
	i, err := h.ImportImage(image(1, 100), nil, source.ImageOptions{})
	h.must(err)
	h.must(os.Remove(i.Path))
	h.must(os.MkdirAll(filepath.Join(i.Path, "x"), 0o700))
	h.must(h.RemoveImage(i.Fingerprint))
	if _, ok := h.reg.Image(i.Fingerprint); ok {
		t.Error("the image is still in the registry")
	}
	if got := h.unfinished(); !slices.Equal(got, []string{i.Fingerprint}) || !strings.Contains(h.logs.String(), i.Fingerprint) {
		t.Errorf("noted as unfinished: %q; want the image, here and in the log:\n%s", got, h.logs)
	}
	h.must(os.Remove(filepath.Join(i.Path, "x")))
	h.reopen()
	h.wantFiles()
}

// unfinished lists the images whose files the next Open removes, unless they are recorded.
func (h *harness) unfinished() []string {
	h.t.Helper()
	fps := []string{}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.must(h.read(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketUnfinished).ForEach(func(fp, _ []byte) error {
			fps = append(fps, string(fp))
			return nil
		})
	}))
	return fps
}

func TestImageFileDamaged(t *testing.T) {
	for name, hurt := range map[string]func(path string) error{
		"gone":        os.Remove,
		"cut":         func(path string) error { return os.Truncate(path, 10) },
		"longer":      func(path string) error { return os.Truncate(path, 1000) },
		"a directory": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	} {
		for _, part := range []string{"", ".rootfs"} {
			t.Run(name+part, func(t *testing.T) {
				h := newHarness(t)
				i, err := h.ImportImage(image(1, 100), image(2, 100), source.ImageOptions{})
				h.must(err)
				good, err := h.ImportImage(image(3, 100), nil, source.ImageOptions{})
				h.must(err)
				h.must(h.Close())
				h.must(hurt(h.path(imagesName, i.Fingerprint+part)))
				h.open()
				if got := stateOf(h.reg).Images; len(got) != 1 || got[good.Fingerprint].Size != 100 {
					t.Fatalf("images = %+v; want only the good one", got)
				}
				if !strings.Contains(h.logs.String(), i.Fingerprint) {
					t.Errorf("the log says nothing of the image:\n%s", h.logs)
				}
				if name == "a directory" {
					return // for the operator to look at
				}
				again, err := h.ImportImage(image(1, 100), image(2, 100), source.ImageOptions{})
				if err != nil || again.Fingerprint != i.Fingerprint {
					t.Fatalf("import again: %v", err)
				}
				h.reopen()
				if got := len(h.reg.Images()); got != 2 {
					t.Errorf("%d images after the repair; want 2", got)
				}
			})
		}
	}
	t.Run("removed", func(t *testing.T) {
		h := newHarness(t)
		i, err := h.ImportImage(image(1, 100), nil, source.ImageOptions{})
		h.must(err)
		h.must(os.Remove(i.Path))
		h.reopen()
		h.must(h.RemoveImage(i.Fingerprint))
		h.want(h.RemoveImage(i.Fingerprint), source.ErrNotFound, "image")
	})
}

// TestImportWhileChanging: a slow upload holds up nobody, and a store closed meanwhile leaves no file.
func TestImportWhileChanging(t *testing.T) {
	h := newHarness(t)
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := h.ImportImage(r, nil, source.ImageOptions{})
		done <- err
	}()
	_, err := w.Write(imageBytes(1, 50_000))
	h.must(err)
	for n := range 3 {
		h.must(h.AddContainer(source.NewContainer{Name: fmt.Sprint("c", n)}))
	}
	if n := len(h.files()); n != 1 {
		t.Errorf("%d files while an image is received; want 1", n)
	}
	h.must(h.Close())
	h.must(w.Close())
	if err := <-done; !errors.Is(err, source.ErrClosed) {
		t.Errorf("import into a closed store: %v; want %v", err, source.ErrClosed)
	}
	h.wantFiles()
}

// TestImportTwiceAtOnce: one of two imports of the same bytes wins, the other gets ErrExists.
func TestImportTwiceAtOnce(t *testing.T) {
	h := newHarness(t)
	errs := make(chan error, 4)
	for range cap(errs) {
		go func() {
			_, err := h.ImportImage(image(1, 100_000), nil, source.ImageOptions{})
			errs <- err
		}()
	}
	won := 0
	for range cap(errs) {
		if err := <-errs; err == nil {
			won++
		} else {
			h.want(err, source.ErrExists, "image")
		}
	}
	if won != 1 {
		t.Errorf("%d imports of the same image succeeded; want 1", won)
	}
	h.wantFiles(fingerprint(imageBytes(1, 100_000)))
	if m, _ := filepath.Glob(h.path(imagesName, tempPrefix+"*")); len(m) != 0 {
		t.Errorf("temporary files left: %q", m)
	}
}
