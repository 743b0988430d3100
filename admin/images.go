package admin

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"

	"devlxd/registry"
	"devlxd/source"
)

// The parts of a split image, named as LXD's client names them.
const (
	partMetadata  = "metadata"
	partRootfs    = "rootfs"
	partRootfsImg = "rootfs.img" // the disk of a virtual machine

	multipartForm = "multipart/form-data"
)

func describeImage(i *registry.Image) Image {
	return Image{
		Fingerprint: i.Fingerprint, Public: i.Public, Cached: i.Cached, Type: i.Type, Split: !i.Unified(),
		Size: i.Size, RootfsSize: i.RootfsSize, UploadedAt: i.ModTime,
	}
}

// listImages: GET /1.0/images.
func (s *Server) listImages(r *request) (reply, error) {
	recursion, err := r.recursion()
	if err != nil {
		return reply{}, err
	}
	images := s.options.Registry.Images()
	if !recursion {
		paths := make([]string, len(images))
		for i, image := range images {
			paths[i] = pathOf("images", image.Fingerprint)
		}
		return reply{metadata: paths}, nil
	}
	list := make([]Image, len(images))
	for i, image := range images {
		list[i] = describeImage(image)
	}
	return reply{metadata: list}, nil
}

// image finds the image whose fingerprint is, or alone begins with, what the
// path says.
func (r *request) image() (*registry.Image, error) {
	prefix := r.args[0]
	if image, ok := r.server.options.Registry.Image(prefix); ok {
		return image, nil
	}
	if len(prefix) < 4 || strings.Trim(prefix, "0123456789abcdef") != "" {
		return nil, errPrefix
	}
	images := slices.DeleteFunc(r.server.options.Registry.Images(), func(i *registry.Image) bool {
		return !strings.HasPrefix(i.Fingerprint, prefix)
	})
	switch len(images) {
	case 0:
		return nil, errorf(http.StatusNotFound, "image %q not found: list what there is, and check the fingerprint", prefix)
	case 1:
		return images[0], nil
	}
	return nil, errorf(http.StatusConflict, "fingerprint %q is that of %d images: use more digits", prefix, len(images))
}

// showImage: GET /1.0/images/FINGERPRINT.
func (s *Server) showImage(r *request) (reply, error) {
	image, err := r.image()
	if err != nil {
		return reply{}, err
	}
	return reply{metadata: describeImage(image)}, nil
}

// removeImage: DELETE /1.0/images/FINGERPRINT. An image that the registry does
// not show may still have a record in the source, whose files were lost.
func (s *Server) removeImage(r *request) (reply, error) {
	fingerprint := r.args[0]
	image, err := r.image()
	switch {
	case err == nil:
		fingerprint = image.Fingerprint
	case source.ValidateFingerprint(fingerprint) != nil:
		return reply{}, err
	}
	return reply{}, s.writer().RemoveImage(fingerprint)
}

// importImage: POST /1.0/images. The body is a unified image as it is, or a
// multipart form with the parts metadata and rootfs, in this order.
func (s *Server) importImage(r *request) (reply, error) {
	var o source.ImageOptions
	var err error
	if o.Public, err = r.flag("public"); err != nil {
		return reply{}, err
	}
	if o.Cached, err = r.flag("cached"); err != nil {
		return reply{}, err
	}
	o.Type = r.query.Get("type")
	if !r.hasBody() {
		return reply{}, errorf(http.StatusBadRequest, "request has no body: send the image")
	}
	meta, rootfs, err := r.imageParts()
	if err != nil {
		return reply{}, err
	}
	image, err := s.writer().ImportImage(meta, rootfs, o)
	if err != nil {
		// What is left of the body would be taken for the next request.
		r.SetConnectionClose()
		return reply{}, err
	}
	return reply{metadata: describeImage(&image), location: pathOf("images", image.Fingerprint)}, nil
}

// imageParts returns readers of the request body. rootfs is nil for a unified
// image; otherwise it is to be read after meta.
func (r *request) imageParts() (meta, rootfs io.Reader, err error) {
	contentType := string(r.Request.Header.ContentType())
	mediaType, params, err := mime.ParseMediaType(contentType)
	if contentType == "" || err == nil && !strings.HasPrefix(mediaType, "multipart/") {
		return r.reader(), nil, nil
	}
	if err != nil || mediaType != multipartForm || params["boundary"] == "" {
		return nil, nil, errMultipart
	}
	parts := &imageForm{form: multipart.NewReader(r.reader(), params["boundary"])}
	first, err := parts.next(partMetadata)
	if err != nil {
		return nil, nil, err
	}
	parts.meta = first
	return (*metaReader)(parts), (*rootfsReader)(parts), nil
}

// imageForm is a split image on its way in. The parts share one body, so that
// the second begins where the first has been read to its end.
type imageForm struct {
	form     *multipart.Reader
	meta     io.Reader
	metaRead bool
	rootfs   io.Reader
	ended    error // what the end of rootfs was found to be; nil before
}

// next returns the next part, which must have one of the names.
func (f *imageForm) next(names ...string) (io.Reader, error) {
	part, err := f.form.NextRawPart()
	switch {
	case errors.Is(err, io.EOF):
		return nil, errorf(http.StatusBadRequest, "multipart body has no part %s: send metadata, then rootfs", names[0])
	case err != nil:
		return nil, formError(err)
	case !slices.Contains(names, part.FormName()):
		return nil, errorf(http.StatusBadRequest, "multipart body has a part %q where %s belongs", part.FormName(), names[0])
	}
	return part, nil
}

// end makes sure that nothing follows the last part, not even a cut.
func (f *imageForm) end() error {
	part, err := f.form.NextRawPart()
	switch {
	case errors.Is(err, io.EOF):
		return io.EOF
	case err != nil:
		return formError(err)
	}
	return errorf(http.StatusBadRequest, "multipart body has a part %q too many: send metadata, then rootfs", part.FormName())
}

// formError keeps the errors of the body and replaces those of the syntax.
func formError(err error) error {
	var api *apiError
	if errors.As(err, &api) {
		return api
	}
	return errMultipart
}

type metaReader imageForm

func (m *metaReader) Read(p []byte) (int, error) {
	n, err := m.meta.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		m.metaRead = true
	case err != nil:
		err = formError(err)
	}
	return n, err
}

type rootfsReader imageForm

func (f *rootfsReader) Read(p []byte) (int, error) {
	switch {
	case f.ended != nil:
		return 0, f.ended
	case !f.metaRead:
		return 0, errPartOrder
	case f.rootfs == nil:
		part, err := (*imageForm)(f).next(partRootfs, partRootfsImg)
		if err != nil {
			return 0, err
		}
		f.rootfs = part
	}
	n, err := f.rootfs.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		f.ended = (*imageForm)(f).end()
		err = f.ended
	case err != nil:
		err = formError(err)
	}
	return n, err
}
