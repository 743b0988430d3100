package store

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"devlxd/fault"
	"devlxd/source"
)

// part is one received file of an image, under a temporary name until path is "".
type part struct {
	path string
	size int64
	ext  string // by its first bytes; "" unknown
}

// discard removes the file, unless it was given another name.
func (p *part) discard() {
	if p.path != "" {
		_ = os.Remove(p.path)
	}
}

// intake receives the parts of one image. Used by one goroutine.
type intake struct {
	dir   string
	whole hash.Hash // of all parts
	limit int64     // of all parts in bytes
	got   int64

	faults *fault.Board
}

// failed says that the disk did not take an image.
func (in *intake) failed(err error) error {
	in.faults.Enter(diskOf(err).images, "error", err)
	return storageError("receive the image", err)
}

// receive reads r into a new file. It is on disk on return, and gone on error.
func (in *intake) receive(r io.Reader) (*part, error) {
	f, err := os.CreateTemp(in.dir, tempPrefix+"*") // 0600
	if err != nil {
		return nil, in.failed(err)
	}
	p := &part{path: f.Name()}
	if err := in.fill(p, f, r); err != nil {
		_ = f.Close()
		p.discard()
		return nil, err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		p.discard()
		return nil, in.failed(err)
	}
	return p, nil
}

func (in *intake) fill(p *part, f *os.File, r io.Reader) (err error) {
	left := in.limit - in.got
	from := &errReader{r: io.LimitReader(r, left+1)}
	if p.size, err = io.Copy(io.MultiWriter(f, in.whole), from); err != nil {
		if from.err != nil {
			return fmt.Errorf("cannot read the image after %d bytes: %w", p.size, err)
		}
		return in.failed(err)
	}
	switch {
	case p.size > left:
		return fmt.Errorf("image is %w: more than %d bytes, metadata and rootfs together; raise the limit of images", source.ErrTooLarge, in.limit)
	case p.size == 0:
		return errEmptyImage
	}
	in.got += p.size
	head := make([]byte, source.ImageHeadLen)
	if _, err := f.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return in.failed(err)
	}
	p.ext = source.ImageExt(head)
	return nil
}

// errReader remembers the failure of a reader, which io.Copy does not tell from one of the writer.
type errReader struct {
	r   io.Reader
	err error
}

func (e *errReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		e.err = err
	}
	return n, err
}
