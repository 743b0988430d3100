package registry

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Image is one image that containers may export, described by what its source found on disk. An *Image returned by the registry is
// immutable and safe for concurrent use.
type Image struct {
	Fingerprint      string
	Public, Cached   bool              // an image that is neither does not exist for guests
	Type             string            // container or virtual-machine
	Path, Ext        string            // metadata part, or the whole unified image; Ext with its dot: ".tar.xz"
	RootfsPath       string            // "" for a unified image
	RootfsExt        string            // "" for a unified image
	Size, RootfsSize int64             // bytes
	ModTime          time.Time         // of the newest part
	Properties       map[string]string // must not be changed
}

// Unified reports whether the image is one file.
func (i *Image) Unified() bool { return i.RootfsPath == "" }

// PutImage adds or replaces an image, and returns ErrFingerprint when it has none.
func (r *Registry) PutImage(image Image) error {
	if image.Fingerprint == "" {
		return ErrFingerprint
	}
	image.Properties = maps.Clone(image.Properties)
	r.images.Store(image.Fingerprint, &image)
	return nil
}

// RemoveImage forgets an image; ErrNotFound when there is none. Files are the source's business.
func (r *Registry) RemoveImage(fingerprint string) error {
	if _, ok := r.images.LoadAndDelete(fingerprint); !ok {
		return ErrNotFound
	}
	return nil
}

// Image returns the image with exactly this fingerprint. It never locks.
func (r *Registry) Image(fingerprint string) (*Image, bool) { return r.images.Load(fingerprint) }

// LookupImage is Image for bytes of a request; it allocates a string of their length.
func (r *Registry) LookupImage(fingerprint []byte) (*Image, bool) {
	return r.Image(string(fingerprint))
}

// Images returns every image, sorted by fingerprint.
func (r *Registry) Images() []*Image {
	images := make([]*Image, 0, r.images.Size())
	r.images.Range(func(_ string, image *Image) bool {
		images = append(images, image)
		return true
	})
	slices.SortFunc(images, func(a, b *Image) int { return strings.Compare(a.Fingerprint, b.Fingerprint) })
	return images
}
