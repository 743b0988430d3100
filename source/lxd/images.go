package lxd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/registry"
	"devlxd/source"
)

// The files of an image below the data directory of the daemon (lxd/images.go: imageExport).
const (
	imagesDir    = "images"
	rootfsSuffix = ".rootfs"
)

// readImages reads the list of images and publishes the differences.
func (s *session) readImages(ctx context.Context) error {
	list, err := s.client.images(ctx)
	if err != nil {
		s.m.counts.failed(&s.m.counts.lists, err)
		return err
	}
	s.m.counts.lists[readDone].Add(1)
	found := make(map[string]registry.Image, len(list))
	for i := range list {
		img, err := list[i].locate(s.dirs)
		switch {
		case err == nil:
			found[img.Fingerprint] = img
		case errors.Is(err, os.ErrNotExist):
			// Another member of the cluster has the files, or they are being downloaded.
			s.m.log.Debug("image left out", "image", list[i].Fingerprint, "error", err)
		default:
			s.m.log.Warn("image left out", "image", list[i].Fingerprint, "error", err)
		}
	}
	s.m.putImages(found)
	return nil
}

// putImages publishes the differences.
func (m *Mirror) putImages(found map[string]registry.Image) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for fp := range m.images {
		if _, ok := found[fp]; !ok {
			_ = m.reg.RemoveImage(fp)
		}
	}
	for _, img := range found {
		_ = m.reg.PutImage(img) // it has a fingerprint
	}
	m.images = found
}

// locate finds the files of an image.
func (i *image) locate(dirs []string) (registry.Image, error) {
	img := registry.Image{
		Fingerprint: i.Fingerprint, Public: i.Public, Cached: i.Cached, Type: i.Type, Properties: i.Properties,
	}
	if err := source.ValidateFingerprint(i.Fingerprint); err != nil {
		return img, err
	}
	err := os.ErrNotExist
	for _, dir := range dirs {
		path := filepath.Join(dir, imagesDir, i.Fingerprint)
		var modified time.Time
		img.Path = path
		if img.Size, img.Ext, img.ModTime, err = inspect(path); errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return img, err
		}
		img.RootfsSize, img.RootfsExt, modified, err = inspect(path + rootfsSuffix)
		if errors.Is(err, os.ErrNotExist) {
			return img, nil
		}
		if img.RootfsPath = path + rootfsSuffix; modified.After(img.ModTime) {
			img.ModTime = modified
		}
		if img.RootfsExt == "" && img.Type == source.TypeVirtualMachine {
			img.RootfsExt = ".img" // a raw disk has no magic bytes
		}
		return img, err
	}
	return img, err
}

// inspect looks at an image file.
func inspect(path string) (size int64, ext string, modified time.Time, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, "", modified, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		return 0, "", modified, err
	}
	head := make([]byte, source.ImageHeadLen)
	if _, err := f.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return 0, "", modified, err
	}
	return info.Size(), source.ImageExt(head), info.ModTime(), nil
}
