package server

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"devlxd/fault"
	"devlxd/httpparse"
	"devlxd/registry"
)

// serveImage answers GET /1.0/images/FINGERPRINT/export: a public or cached
// image, if the container has security.devlxd.images (LXD
// devLXDImageExportHandler). A private image is as absent as an unknown one.
func (l *loop) serveImage(c *conn, req *httpparse.Request, snap *registry.Snapshot, fp []byte, v versionPolicy) {
	t := &l.srv.texts
	if !snap.ImagesAllowed() {
		if t.imageJSON {
			l.respondImageError(c, 403, t.forbidden, v)
		} else {
			l.respondText(c, 403, t.forbidden, v)
		}
		return
	}
	image, ok := l.srv.reg.LookupImage(fp)
	// LXD offers those of the project "default" alone. Incus looks in the project
	// that is asked for; here all images are in one, whatever a client calls it.
	if ok && t.project {
		var scratch [64]byte
		if project, given := httpparse.QueryValue(req.Query, "project", scratch[:0]); given {
			ok = len(project) == 0 || string(project) == "default"
		}
	}
	if !ok || !(image.Public || image.Cached) {
		l.imageNotFound(c, fp, v)
		return
	}
	err := l.sendImage(c, req, image, v)
	if err == nil {
		l.srv.faults.Leave(fault.ImageFiles)
		return
	}
	if !l.srv.outOfImageFiles(err) {
		l.srv.throttled.log("cannot serve an image: check the directory of the images, and see the error", "fingerprint", image.Fingerprint, "error", err)
	}
	if errors.Is(err, fs.ErrNotExist) {
		l.imageNotFound(c, fp, v)
		return
	}
	// Out of descriptors, most likely: 500 is what clients try again on.
	l.respondImageError(c, 500, "Internal Server Error", v)
}

func (l *loop) imageNotFound(c *conn, fp []byte, v versionPolicy) {
	text := l.srv.texts.notFound
	if l.srv.opts.Dialect == DialectIncus {
		text = fmt.Sprintf("Image %q not found", clip(fp))
	}
	l.respondImageError(c, 404, text, v)
}

// respondImageError is the error form of LXD's main API, which the image
// routes have kept ("historical oversight", doc/devlxd-api.yaml).
func (l *loop) respondImageError(c *conn, status int, text string, v versionPolicy) {
	b := fmt.Appendf(nil, `{"type":"error","status":"","status_code":0,"operation":"","error_code":%d,"error":`, status)
	b = registry.AppendJSONString(b, text)
	l.respondBody(c, status, typeJSON, append(b, ",\"metadata\":null}\n"...), v)
}

// sendImage answers with the file of a unified image or with both files of a
// split one as multipart/form-data.
func (l *loop) sendImage(c *conn, req *httpparse.Request, image *registry.Image, v versionPolicy) error {
	place := l.takeDownload(c)
	if place == nil {
		return nil
	}
	meta, err := l.srv.openImage(image.Path, image.Size)
	if err != nil {
		place.endDownload()
		return err
	}
	meta.place = place
	if image.Unified() {
		l.sendUnified(c, req, image, meta, v)
		return nil
	}
	rootfs, err := l.srv.openImage(image.RootfsPath, image.RootfsSize)
	if err != nil {
		_ = meta.Close()
		return err
	}
	l.sendSplit(c, image, meta, rootfs, v)
	return nil
}

// imageType is the field by which Incus says what an image is made of
// (cmd/incusd/images.go, imageExport); "" in the other dialects.
func (l *loop) imageType(image *registry.Image) string {
	switch {
	case !l.srv.texts.imageType:
		return ""
	case image.Properties["type"] == "oci":
		return "X-Incus-Type: oci\r\n"
	}
	return "X-Incus-Type: incus\r\n"
}

// openImage opens an image file and checks that it has the size of its record.
func (s *Server) openImage(path string, size int64) (*imageFile, error) {
	if !s.budget.takeImage() {
		return nil, errImageFiles
	}
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		s.budget.images.Add(-1)
		return nil, err
	}
	f := &imageFile{File: file, budget: &s.budget}
	info, err := f.Stat()
	if err == nil && info.Size() != size {
		err = fmt.Errorf("%s has %d bytes, its record says %d: remove the image and import it again", path, info.Size(), size)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// sendUnified follows net/http.ServeContent: Last-Modified, If-Modified-Since,
// Range with If-Range.
func (l *loop) sendUnified(c *conn, req *httpparse.Request, image *registry.Image, f *imageFile, v versionPolicy) {
	modified := image.ModTime
	if httpparse.NotModified(req.IfModifiedSince, modified) {
		_ = f.Close()
		l.startHead(c, 304, v)
		l.out = append(l.out, l.imageType(image)...)
		l.out = httpparse.AppendTime(l.out, "Last-Modified", modified)
		l.out = append(l.out, "\r\n"...)
		return
	}
	rangeField := req.Range
	if req.IfRange != nil && !httpparse.RangeApplies(req.IfRange, modified) {
		rangeField = nil
	}
	start, length, result := httpparse.ParseRange(rangeField, image.Size)
	status := 200
	switch result {
	case httpparse.RangePart:
		status = 206
	case httpparse.RangeNoOverlap:
		_ = f.Close()
		l.respondText(c, 416, result.String(), v, fmt.Sprintf("Content-Range: bytes */%d\r\n", image.Size)+l.imageType(image))
		return
	case httpparse.RangeInvalid:
		_ = f.Close()
		l.respondText(c, 416, result.String(), v, l.imageType(image))
		return
	}
	l.startHead(c, status, v)
	l.out = append(l.out, rawHead+"Accept-Ranges: bytes\r\n"...)
	l.out = append(l.out, l.imageType(image)...)
	l.out = httpparse.AppendField(l.out, "Content-Disposition", "inline;filename="+image.Fingerprint+image.Ext)
	l.out = httpparse.AppendTime(l.out, "Last-Modified", modified)
	if status == 206 {
		l.out = httpparse.AppendContentRange(l.out, start, length, image.Size)
	}
	l.sendSegments(c, v, []*imageFile{f}, segment{file: f, offset: start, length: length})
}

// sendSplit writes what Go's mime/multipart would: the parts metadata and
// rootfs, "rootfs.img" for a virtual machine. Unlike LXD, which sends chunks,
// it announces the length: both sizes are known, and HTTP/1.0 has no chunks.
func (l *loop) sendSplit(c *conn, image *registry.Image, meta, rootfs *imageFile, v versionPolicy) {
	var random [30]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	boundary := hex.EncodeToString(random[:])
	name := "rootfs"
	if image.Type == "virtual-machine" {
		name = "rootfs.img"
	}
	part := func(start, name, file string) segment {
		b := start + "--" + boundary + "\r\nContent-Disposition: form-data; name=\"" + name + "\"; filename=\"" + file +
			"\"\r\nContent-Type: " + typeRaw + "\r\n\r\n"
		return segment{bytes: []byte(b), length: int64(len(b))}
	}
	end := "\r\n--" + boundary + "--\r\n"
	l.startHead(c, 200, v)
	l.out = append(l.out, "Content-Type: multipart/form-data; boundary="...)
	l.out = append(l.out, boundary...)
	l.out = append(l.out, "\r\n"...)
	l.out = append(l.out, l.imageType(image)...)
	l.sendSegments(c, v, []*imageFile{meta, rootfs},
		part("", "metadata", "meta-"+image.Fingerprint+image.Ext),
		segment{file: meta, length: image.Size},
		part("\r\n", name, image.Fingerprint+image.RootfsExt),
		segment{file: rootfs, length: image.RootfsSize},
		segment{bytes: []byte(end), length: int64(len(end))})
}

// sendSegments ends the head with the length of the body and makes the
// segments the pending output of c, which owns the files from here on.
func (l *loop) sendSegments(c *conn, v versionPolicy, files []*imageFile, segments ...segment) {
	var total int64
	for _, s := range segments {
		total += s.length
	}
	l.out = httpparse.AppendInt(l.out, "Content-Length", total)
	l.out = append(l.out, "\r\n"...)
	p := &pending{segments: segments, files: files}
	if v.head {
		p.release()
		return
	}
	if !l.push(c) {
		p.release()
		return
	}
	if c.out != nil { // the head did not fit
		c.out.segments = append(c.out.segments, segments...)
		c.out.files = append(c.out.files, files...)
		return
	}
	c.out = p
	l.startOutput(c)
}
