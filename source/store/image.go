package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"devlxd/registry"
	"devlxd/source"
)

// tempPattern names files that are being received.
const (
	tempPrefix = ".import-"
	rootfsName = ".rootfs" // suffix of the second file of a split image
)

// ImportImage implements [source.Writer]. Other changes go on while the image is received; only its last step waits for
// them.
func (s *Store) ImportImage(meta, rootfs io.Reader, o source.ImageOptions) (registry.Image, error) {
	if err := o.Validate(); err != nil {
		return registry.Image{}, err
	}
	if err := s.ready(); err != nil {
		return registry.Image{}, err
	}
	rec := &imageRecord{typ: o.Type, public: o.Public, cached: o.Cached, modTime: time.Now().Unix()}
	if rec.typ == "" {
		rec.typ = source.TypeContainer
	}
	// LXD: the fingerprint is the SHA-256 of the file, or of metadata and rootfs one after the other.
	in := &intake{dir: s.images, whole: sha256.New(), limit: s.opts.maxImage, faults: s.opts.faults}
	first, err := in.receive(meta)
	if err != nil {
		return registry.Image{}, err
	}
	defer first.discard()
	rec.size, rec.ext = first.size, first.ext
	parts := []*part{first}
	if rootfs != nil {
		second, err := in.receive(rootfs)
		if err != nil {
			return registry.Image{}, err
		}
		defer second.discard()
		rec.rootfsSize, rec.rootfsExt = second.size, second.ext
		parts = append(parts, second)
	}
	if err := rec.knownFormats(); err != nil {
		return registry.Image{}, err
	}
	rec.fingerprint = hex.EncodeToString(in.whole.Sum(nil))
	return s.adopt(rec, parts)
}

// ready fails early, before a large file is received for nothing.
func (s *Store) ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.usable()
}

// knownFormats refuses what no guest could use. The disk of a virtual machine may be raw, which has no magic bytes.
func (r *imageRecord) knownFormats() error {
	if r.rootfsSize > 0 && r.rootfsExt == "" && r.typ == source.TypeVirtualMachine {
		r.rootfsExt = ".img"
	}
	if r.ext == "" || r.rootfsSize > 0 && r.rootfsExt == "" {
		return errNoImage
	}
	return nil
}

// adopt gives received files their names, records and publishes the image.
func (s *Store) adopt(rec *imageRecord, parts []*part) (registry.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return registry.Image{}, err
	}
	fp := rec.fingerprint
	if _, ok := s.reg.Image(fp); ok {
		return registry.Image{}, exists("image", fp)
	}
	doing := "save image " + fp
	if err := s.commit(doing, func(tx *bbolt.Tx) error { return put(tx, bucketUnfinished, []byte(fp), nil) }); err != nil {
		return registry.Image{}, err
	}
	err := s.place(fp, parts)
	if err == nil {
		s.opts.faults.Leave(imagesKinds[:]...)
		err = s.commit(doing, func(tx *bbolt.Tx) error {
			return errors.Join(put(tx, bucketImages, []byte(fp), rec.encode()), remove(tx, bucketUnfinished, []byte(fp)))
		})
	} else {
		s.opts.faults.Enter(diskOf(err).images, "error", err)
		err = storageError(doing, err)
	}
	if err != nil {
		s.clear(fp)
		return registry.Image{}, err
	}
	image := s.image(rec)
	if err := s.reg.PutImage(image); err != nil {
		return registry.Image{}, fmt.Errorf("cannot publish image %s: %w", fp, err)
	}
	return image, nil
}

// place renames received files to the names of an image, durably.
func (s *Store) place(fp string, parts []*part) error {
	path := filepath.Join(s.images, fp)
	names := [...]string{path, path + rootfsName}
	for i, p := range parts {
		if err := os.Rename(p.path, names[i]); err != nil {
			return err
		}
		p.path = ""
	}
	// An earlier image of this fingerprint whose files were damaged may have been split otherwise.
	for _, name := range names[len(parts):] {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return syncDir(s.images)
}

// RemoveImage implements [source.Writer].
func (s *Store) RemoveImage(fp string) error {
	if err := source.ValidateFingerprint(fp); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	found := false
	if err := s.read(func(tx *bbolt.Tx) error {
		found = tx.Bucket(bucketImages).Get([]byte(fp)) != nil
		return nil
	}); err != nil {
		return storageError("read image "+fp, err)
	}
	if !found {
		return notFound("image", fp)
	}
	err := s.commit("remove image "+fp, func(tx *bbolt.Tx) error {
		return errors.Join(remove(tx, bucketImages, []byte(fp)), put(tx, bucketUnfinished, []byte(fp), nil))
	})
	if err != nil {
		return err
	}
	if err := s.reg.RemoveImage(fp); err != nil && !errors.Is(err, registry.ErrNotFound) {
		return fmt.Errorf("cannot withdraw image %s: %w", fp, err)
	}
	s.clear(fp)
	return nil
}

// clear removes the files of an image that is not recorded (any more). What fails is done by the next Open, since the
// fingerprint stays in the unfinished bucket until then.
func (s *Store) clear(fp string) {
	if err := removeFiles(s.images, fp); err != nil {
		s.log.Warn("image files not removed; the next start tries again", "image", fp, "error", err)
		return
	}
	if s.usable() != nil {
		return
	}
	err := s.commit("note that the files of image "+fp+" are removed", func(tx *bbolt.Tx) error {
		return remove(tx, bucketUnfinished, []byte(fp))
	})
	if err != nil {
		s.log.Warn("image files removed, which could not be noted; the next start tries again", "image", fp, "error", err)
	}
}

func removeFiles(dir, fp string) error {
	path := filepath.Join(dir, fp)
	for _, name := range [...]string{path, path + rootfsName} {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return syncDir(dir)
}

// loadImages finishes what was interrupted, and publishes the images whose files are there.
func (s *Store) loadImages() error {
	var records []*imageRecord
	var unfinished []string
	err := s.read(func(tx *bbolt.Tx) error {
		images := tx.Bucket(bucketImages)
		err := tx.Bucket(bucketUnfinished).ForEach(func(key, _ []byte) error {
			// The files of an image that is recorded are its own, whatever was tried before.
			if images.Get(key) == nil {
				unfinished = append(unfinished, string(key))
			}
			return nil
		})
		if err != nil {
			return err
		}
		return images.ForEach(func(key, value []byte) error {
			rec, err := decodeImage(value)
			if err != nil {
				return damagedError(s.db.Path(), fmt.Sprintf("image %q: %v", key, err))
			}
			records = append(records, rec)
			return nil
		})
	})
	if err != nil {
		return err
	}
	known := make(map[string]bool)
	for _, rec := range records {
		known[rec.fingerprint], known[rec.fingerprint+rootfsName] = true, true
		if err := s.checkFiles(rec); err != nil {
			s.log.Error("image left out: import it again, or remove it", "image", rec.fingerprint, "error", err)
			continue
		}
		if err := s.reg.PutImage(s.image(rec)); err != nil {
			return fmt.Errorf("cannot publish image %s: %w", rec.fingerprint, err)
		}
	}
	for _, fp := range unfinished {
		s.clear(fp)
	}
	return s.sweep(known)
}

// sweep removes files that were being received, and reports others that belong to nothing.
func (s *Store) sweep(known map[string]bool) error {
	entries, err := os.ReadDir(s.images)
	if err != nil {
		return storageError("read the image directory", err)
	}
	for _, e := range entries {
		path := filepath.Join(s.images, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), tempPrefix):
			if err := os.Remove(path); err != nil {
				s.log.Warn("rest of an interrupted import not removed", "file", path, "error", err)
			}
		case !known[e.Name()]:
			s.log.Warn("file belongs to no image; it is left alone", "file", path)
		}
	}
	return nil
}

// checkFiles reports whether the files of a record are there in full. Their content is checked by whoever downloads them,
// by the fingerprint.
func (s *Store) checkFiles(rec *imageRecord) error {
	path := filepath.Join(s.images, rec.fingerprint)
	if err := checkFile(path, rec.size); err != nil || rec.rootfsSize == 0 {
		return err
	}
	return checkFile(path+rootfsName, rec.rootfsSize)
}

func checkFile(path string, size int64) error {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", path)
	case info.Size() != size:
		return fmt.Errorf("%s has %d bytes instead of %d", path, info.Size(), size)
	}
	return nil
}

// image is what the registry shows of a record.
func (s *Store) image(rec *imageRecord) registry.Image {
	path := filepath.Join(s.images, rec.fingerprint)
	i := registry.Image{
		Fingerprint: rec.fingerprint, Type: rec.typ, Public: rec.public, Cached: rec.cached,
		Path: path, Ext: rec.ext, Size: rec.size, ModTime: time.Unix(rec.modTime, 0),
	}
	if rec.rootfsSize > 0 {
		i.RootfsPath, i.RootfsExt, i.RootfsSize = path+rootfsName, rec.rootfsExt, rec.rootfsSize
	}
	return i
}
