package client

import (
	"context"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"strconv"

	"devlxd/admin"
)

// ImageOptions say how an imported image is offered.
type ImageOptions struct {
	Public, Cached bool
	Type           string // "container" or "virtual-machine"; "" is the former
}

// Images returns all images, sorted by fingerprint.
func (c *Client) Images(ctx context.Context) (images []admin.Image, err error) {
	query := url.Values{"recursion": {"1"}}
	err = c.do(ctx, call{method: http.MethodGet, path: []string{"images"}, query: query}, &images)
	return images, err
}

// Image returns the image whose fingerprint is, or alone begins with, the one
// given.
func (c *Client) Image(ctx context.Context, fingerprint string) (image admin.Image, err error) {
	err = c.do(ctx, call{method: http.MethodGet, path: []string{"images", fingerprint}}, &image)
	return image, err
}

// ImportImage sends an image: unified if rootfs is nil, split otherwise. The
// readers are read to their end and not closed; memory does not grow with
// their length.
func (c *Client) ImportImage(ctx context.Context, meta, rootfs io.Reader, o ImageOptions) (image admin.Image, err error) {
	query := url.Values{"public": {strconv.FormatBool(o.Public)}, "cached": {strconv.FormatBool(o.Cached)}}
	if o.Type != "" {
		query.Set("type", o.Type)
	}
	req := call{method: http.MethodPost, path: []string{"images"}, query: query}
	if rootfs == nil {
		req.body, req.length, req.kind = &source{Reader: meta}, length(meta), "application/octet-stream"
		err = c.do(ctx, req, &image)
		return image, err
	}
	r, w := io.Pipe()
	defer r.Close()
	form := multipart.NewWriter(w)
	go func() { w.CloseWithError(writeForm(form, meta, rootfs)) }()
	req.body, req.length, req.kind = &source{Reader: r}, -1, form.FormDataContentType()
	err = c.do(ctx, req, &image)
	return image, err
}

// writeForm writes the parts of a split image as LXD's client does.
func writeForm(form *multipart.Writer, meta, rootfs io.Reader) error {
	for _, part := range [...]struct {
		name string
		from io.Reader
	}{{"metadata", meta}, {"rootfs", rootfs}} {
		w, err := form.CreateFormFile(part.name, part.name)
		if err != nil {
			return err
		}
		if _, err := io.Copy(w, part.from); err != nil {
			return err
		}
	}
	return form.Close()
}

// length returns how many bytes a regular file has left, -1 for anything else.
func length(r io.Reader) int64 {
	file, ok := r.(*os.File)
	if !ok {
		return -1
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return -1
	}
	at, err := file.Seek(0, io.SeekCurrent)
	if err != nil || at > info.Size() {
		return -1
	}
	return info.Size() - at
}

// RemoveImage withdraws an image. The fingerprint may be cut short as long as
// no other begins the same.
func (c *Client) RemoveImage(ctx context.Context, fingerprint string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: []string{"images", fingerprint}}, nil)
}
