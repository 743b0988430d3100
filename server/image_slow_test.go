package server

import (
	"io"
	"os"
	"strings"
	"testing"

	"devlxd/registry"
)

const largeImage = 24 << 20

// startDownload asks for an image and reads the head and the first bytes.
func (r *rig) startDownload(name string, image registry.Image) (c *client, first []byte) {
	r.t.Helper()
	c = r.dial(name)
	c.send("GET " + exportPath(image) + " HTTP/1.1\r\nHost: a\r\n\r\n")
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			r.t.Fatal(err)
		}
		if line == "\r\n" {
			break
		}
	}
	first = make([]byte, 1000)
	if _, err := io.ReadFull(c.r, first); err != nil {
		r.t.Fatal(err)
	}
	return c, first
}

// finish reads the rest of a download.
func finish(t *testing.T, c *client, first, want []byte) {
	t.Helper()
	rest := make([]byte, len(want)-len(first))
	if n, err := io.ReadFull(c.r, rest); err != nil {
		t.Fatalf("after %d of %d bytes: %v", n, len(rest), err)
	}
	if string(first)+string(rest) != string(want) {
		t.Error("the download is not the image")
	}
}

// TestImageSlowReader: a download that stands still holds nobody up, and goes on where it stood.
func TestImageSlowReader(t *testing.T) {
	r := newRig(t, Options{Loops: 1})
	r.withImages("c1")
	content := randomBytes(largeImage, 5)
	c, first := r.startDownload("c1", r.image(content, nil))
	eventually(t, "the socket is full", func() bool { return r.pending() == 1 })
	for range 50 {
		if a := r.dial("c1").get("/1.0/config/user.a"); a.body != "1" {
			t.Fatalf("beside the download: %q", a.raw())
		}
		next, err := c.r.ReadByte() // a byte now and then
		if err != nil {
			t.Fatal(err)
		}
		first = append(first, next)
	}
	finish(t, c, first, content)
	c.wantOpen()
	r.wantNoFiles()
}

// TestImageHalfClosed: who shuts down its side after the request gets the whole image.
func TestImageHalfClosed(t *testing.T) {
	r := newRig(t, Options{Loops: 1})
	r.withImages("c1")
	content := randomBytes(largeImage, 6)
	c, first := r.startDownload("c1", r.image(content, nil))
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	finish(t, c, first, content)
	c.wantEOF()
	r.wantClosed(CloseClient, 1)
	r.wantNoFiles()
}

// TestImageAborted: who goes away in the middle leaves nothing behind.
func TestImageAborted(t *testing.T) {
	r := newRig(t, Options{Loops: 2})
	r.withImages("c1")
	image := r.image(randomBytes(largeImage, 7), nil)
	for range 20 {
		c, _ := r.startDownload("c1", image)
		_ = c.Close()
	}
	eventually(t, "no connection left", func() bool { return r.srv.Connections() == 0 })
	r.wantNoFiles()
}

// TestImageShrinks: a file that loses its end in the middle of a download cuts that download off, and costs nobody else anything.
func TestImageShrinks(t *testing.T) {
	r := newRig(t, Options{Loops: 1})
	r.withImages("c1")
	image := r.image(randomBytes(largeImage, 8), nil)
	c, first := r.startDownload("c1", image)
	other := r.dial("c1")
	other.get("/1.0")
	if err := os.Truncate(image.Path, largeImage/2); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(c.r)
	if got := len(first) + len(rest); got > largeImage/2 {
		t.Errorf("%d bytes came of %d", got, largeImage/2)
	}
	r.wantClosed(CloseSocketError, 1)
	if a := other.get("/1.0/config/user.a"); a.body != "1" {
		t.Errorf("another connection: %q", a.raw())
	}
	r.wantNoFiles()
}

// TestImageFileIsWrong: a record whose file is gone, or of another size, is answered with an error and logged.
func TestImageFileIsWrong(t *testing.T) {
	for name, tc := range map[string]struct {
		damage func(registry.Image) error
		status int
	}{
		"gone":      {func(i registry.Image) error { return os.Remove(i.Path) }, 404},
		"shorter":   {func(i registry.Image) error { return os.Truncate(i.Path, 5) }, 500},
		"longer":    {func(i registry.Image) error { return os.Truncate(i.Path, 500) }, 500},
		"directory": {func(i registry.Image) error { _ = os.Remove(i.Path); return os.Mkdir(i.Path, 0o700) }, 500},
		"symlink":   {func(i registry.Image) error { _ = os.Remove(i.Path); return os.Symlink("/etc/passwd", i.Path) }, 500},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{Loops: 1})
			r.log.expect("cannot serve an image")
			r.withImages("c1")
			image := r.image([]byte("0123456789"), nil)
			if err := tc.damage(image); err != nil {
				t.Fatal(err)
			}
			c := r.dial("c1")
			for range 3 {
				a := c.get(exportPath(image))
				if a.status != tc.status || !strings.Contains(a.body, `"type":"error"`) || strings.Contains(a.body, image.Path) {
					t.Errorf("answer = %q; want %d, and no path of the host", a.raw(), tc.status)
				}
			}
			if n := r.log.count("cannot serve an image"); n != 1 {
				t.Errorf("it was logged %d times; want once", n)
			}
			c.wantOpen()
			r.wantNoFiles()
		})
	}
}

// TestImageChangesUnderway: what happens to record, container or permission while a download goes on.
func TestImageChangesUnderway(t *testing.T) {
	content := randomBytes(largeImage, 9)
	t.Run("image removed", func(t *testing.T) {
		r := newRig(t, Options{Loops: 1})
		r.withImages("c1")
		image := r.image(content, nil)
		c, first := r.startDownload("c1", image)
		if err := r.reg.RemoveImage(image.Fingerprint); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(image.Path); err != nil {
			t.Fatal(err)
		}
		finish(t, c, first, content)
		if a := c.get(exportPath(image)); a.status != 404 {
			t.Errorf("afterwards: %q", a.raw())
		}
		r.wantNoFiles()
	})
	t.Run("permission withdrawn", func(t *testing.T) {
		r := newRig(t, Options{Loops: 1})
		r.withImages("c1")
		image := r.image(content, nil)
		c, first := r.startDownload("c1", image)
		r.set("c1", "security.devlxd.images", "false")
		finish(t, c, first, content) // it was permitted when it began
		if a := c.get(exportPath(image)); a.status != 403 {
			t.Errorf("afterwards: %q", a.raw())
		}
		r.wantNoFiles()
	})
	t.Run("container stopped", func(t *testing.T) {
		r := newRig(t, Options{Loops: 1})
		b := r.host.Start(t, r.reg, registry.Spec{Name: "c1", Config: map[string]string{"security.devlxd.images": "true"}})
		c, first := r.startDownload("c1", r.image(content, nil))
		r.reg.Stop(b)
		rest, _ := io.ReadAll(c.r)
		if len(first)+len(rest) >= largeImage {
			t.Error("the download went on to its end")
		}
		r.wantClosed(CloseStopped, 1)
		r.wantNoFiles()
	})
}
