package loadtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"devlxd/loadtest/report"
)

// downloader has some connections download an image over and over beside those that ask.
type downloader struct {
	*requester
	image   want
	request []byte
	adding  bool // the connections that come now are for downloads
	bytes   int64
	count   uint64
}

func (d *downloader) connected(c *conn) {
	if !d.adding {
		d.requester.connected(c)
		return
	}
	c.user, c.want = d, &d.image
}

func (d *downloader) answered(c *conn, status int) {
	if c.user == nil {
		d.requester.answered(c, status)
		return
	}
	if d.rec.inside(d.loop.now) {
		d.bytes += int64(len(d.image.body))
		d.count++
	}
	if d.active && d.loop.now < d.rec.to {
		d.download(c)
	}
}

func (d *downloader) download(c *conn) {
	c.inflight = 1
	d.loop.send(c, d.request)
}

// runImage reads values, first alone and then beside downloads.
func runImage(r *run) ([]report.Result, error) {
	file, content, err := r.imageFile()
	if err != nil {
		return nil, err
	}
	defer os.Remove(file) // a target may serve it from where it is
	fingerprint, err := r.target.Image(r.ctx, file)
	if err != nil {
		return nil, err
	}
	d := &downloader{
		requester: nil, image: want{status: 200, body: content},
		request: []byte("GET /1.0/images/" + fingerprint + "/export HTTP/1.1\r\nHost: lxd\r\nUser-Agent: Go-http-client/1.1\r\n\r\n"),
	}
	var results []report.Result
	for _, variant := range []string{"without downloads", "beside downloads"} {
		r.begin("requests", variant)
		d.requester = newRequester(r)
		rss, err := r.rss()
		if err != nil {
			return nil, err
		}
		d.adding = false
		if err := r.connect(r.opt.Connections, d, -1); err != nil {
			return nil, err
		}
		if len(results) > 0 {
			if err := d.startDownloads(); err != nil {
				return nil, err
			}
		}
		if err := r.requests(d.requester, rss); err != nil {
			return nil, err
		}
		if len(results) > 0 {
			if err := d.endDownloads(); err != nil {
				return nil, err
			}
			r.value("image bytes sent", "bytes/s", float64(d.bytes)/r.opt.Duration.Seconds())
			r.value("images sent", "", float64(d.count))
			r.result.Server = nil // its CPU time is that of the downloads
		}
		results = append(results, r.finish())
		r.loop.closeAll()
	}
	if alone := results[0].Latency.P99; alone > 0 {
		results[1].Values = append(results[1].Values, report.Value{Name: "p99 beside downloads, times that without", Unit: "x", Value: results[1].Latency.P99 / alone})
	}
	return results, nil
}

// gzipMagic makes content pass for a compressed tarball (RFC 1952 §2.3.1).
const gzipMagic = "\x1f\x8b\x08"

// imageFile makes an image, readable to anyone. Every byte of it is checked when it comes back.
func (r *run) imageFile() (path string, content []byte, err error) {
	content = make([]byte, r.opt.ImageSize)
	var seed [32]byte // another image each time: a server refuses one that it has
	binary.NativeEndian.PutUint64(seed[:], rand.Uint64())
	_, _ = rand.NewChaCha8(seed).Read(content) // never fails
	copy(content, gzipMagic)
	f, err := os.CreateTemp("", "devlxd-load-image-")
	if err != nil {
		return "", nil, fmt.Errorf("cannot make an image: %w", err)
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return "", nil, fmt.Errorf("cannot make an image: %w", err)
	}
	return f.Name(), content, nil
}

func (d *downloader) startDownloads() error {
	d.adding = true
	if err := d.run.connect(d.opt.Downloads, d, -1); err != nil {
		return err
	}
	d.active = true
	d.rec.to = 1 << 62 // until the window is set
	for _, c := range d.loop.conns {
		if c != nil && c.user != nil {
			d.download(c)
		}
	}
	return nil
}

// endDownloads waits for the downloads under way, so that the last of each is checked to its end.
func (d *downloader) endDownloads() error {
	under := func() (n int) {
		for _, c := range d.loop.conns {
			if c != nil && c.user != nil {
				n += int(c.inflight)
			}
		}
		return n
	}
	err := d.loop.wait("the last downloads", d.opt.drain, func() bool { return under() == 0 })
	for range under() {
		d.rec.fail(failUnanswered, "download")
	}
	return ignoreTimeout(err)
}
