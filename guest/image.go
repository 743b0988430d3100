package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
)

// Image is what is known of an image that is downloaded.
type Image struct {
	// Name is the file name that the server proposes, "" for an image of two files.
	Name string
	// Size is how many bytes the download has in all; -1: unknown.
	Size int64
	// Boundary is not "" for an image of two files, which comes as a form: mime/multipart.NewReader takes it apart into the
	// parts "metadata" and "rootfs" ("rootfs.img" for a virtual machine).
	Boundary string
	// Modified names this version of the image, for [ExportOptions.Modified]; "": it cannot be resumed.
	Modified string
}

// ExportOptions are for [Client.ExportImage]. The zero value downloads all.
type ExportOptions struct {
	// Offset is how many bytes are there already, of the version Modified: the rest is downloaded.
	Offset   int64
	Modified string
	// Progress, if not nil, is called with how many bytes are there, and of how many (-1: unknown), after each write.
	Progress func(done, total int64)
}

// ExportImage downloads an image into w. It needs security.devlxd.images=true,
// else it is [ErrForbidden]; an image that guests may not have is [ErrNotFound].
//
// When the connection breaks after something has come, the download goes on
// where it was, with a range, as long as each try brings something, or waits for
// the server until ctx ends. Images of two files have no ranges: their download
// fails with [ErrUnavailable] then. When an error is returned, what was written
// and the Image say how to go on later. [ErrImageChanged]: that is not possible.
func (c *Client) ExportImage(ctx context.Context, fingerprint string, w io.Writer, o ExportOptions) (Image, error) {
	if fingerprint == "" {
		return Image{}, ErrFingerprint
	}
	d := download{client: c, path: "/1.0/images/" + segment(fingerprint) + "/export", w: w, progress: o.Progress, done: o.Offset}
	d.image.Size, d.image.Modified = -1, o.Modified
	begun := false
	var b backoff
	for {
		before := d.done
		err := d.try(ctx)
		begun = begun || d.done > before
		switch {
		case err == nil:
			return d.image, nil
		case ctx.Err() != nil:
			return d.image, context.Cause(ctx)
		case !errors.Is(err, ErrUnavailable) || !begun || d.image.Modified == "" || d.image.Boundary != "":
			return d.image, err
		}
		if d.done > before {
			b.reset()
		}
		if !b.wait(ctx) {
			return d.image, context.Cause(ctx)
		}
	}
}

// download is an image on its way.
type download struct {
	client   *Client
	path     string
	w        io.Writer
	progress func(done, total int64)
	image    Image
	done     int64 // bytes that are there
}

// try downloads what is missing.
func (d *download) try(ctx context.Context) error {
	header := make(http.Header)
	if d.done > 0 {
		if d.image.Modified == "" {
			return ErrImageChanged // no server could tell
		}
		header.Set("Range", fmt.Sprintf("bytes=%d-", d.done))
		header.Set("If-Range", d.image.Modified)
	}
	resp, err := d.client.send(ctx, http.MethodGet, d.path, nil, header)
	if err != nil {
		var e *Error
		if d.done > 0 && errors.As(err, &e) && e.Status == http.StatusRequestedRangeNotSatisfiable {
			return d.whole(err)
		}
		return err
	}
	defer resp.Body.Close()
	if err := d.begin(resp); err != nil {
		return err
	}
	if _, err := io.Copy(d, resp.Body); err != nil {
		var failed *writeError
		if errors.As(err, &failed) {
			return failed.err
		}
		return broken(ctx, err)
	}
	return nil
}

// whole reports whether a range that begins at the end was refused because
// nothing is missing.
func (d *download) whole(err error) error {
	if d.image.Size == d.done {
		return nil
	}
	return fmt.Errorf("%w (%w)", ErrImageChanged, err)
}

// begin reads the head of an answer.
func (d *download) begin(resp *http.Response) error {
	h := resp.Header
	media, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return fmt.Errorf("%w (%v)", ErrAnswer, err)
	}
	if media == "multipart/form-data" {
		d.image.Boundary = params["boundary"]
	}
	if _, params, err := mime.ParseMediaType(h.Get("Content-Disposition")); err == nil {
		d.image.Name = params["filename"]
	}
	if d.done > 0 {
		var from, to, size int64
		n, _ := fmt.Sscanf(h.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &size)
		if resp.StatusCode != http.StatusPartialContent || n != 3 || from != d.done {
			return ErrImageChanged
		}
		d.image.Size = size
		return nil
	}
	d.image.Size = resp.ContentLength
	if d.image.Boundary == "" && strings.EqualFold(h.Get("Accept-Ranges"), "bytes") {
		d.image.Modified = h.Get("Last-Modified")
	}
	return nil
}

// Write implements io.Writer.
func (d *download) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	d.done += int64(n)
	if d.progress != nil {
		d.progress(d.done, d.image.Size)
	}
	if err != nil {
		err = &writeError{err}
	}
	return n, err
}

// writeError tells a writer that failed from a connection that did.
type writeError struct{ err error }

func (e *writeError) Error() string { return "cannot write the image: " + e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }
