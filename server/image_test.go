package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"devlxd/registry"
)

// imageTime is when image files were last changed.
var imageTime = time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)

// randomBytes are the same for the same seed.
func randomBytes(n int, seed uint64) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed)}).Read(b)
	return b
}

// image stores a public unified image and returns its record.
func (r *rig) image(content []byte, change func(*registry.Image)) registry.Image {
	r.t.Helper()
	sum := sha256.Sum256(content)
	image := registry.Image{
		Fingerprint: hex.EncodeToString(sum[:]), Public: true, Type: "container", Ext: ".tar.xz", Size: int64(len(content)), ModTime: imageTime,
	}
	image.Path = filepath.Join(filepath.Dir(filepath.Dir(r.path)), image.Fingerprint)
	if err := os.WriteFile(image.Path, content, 0o600); err != nil {
		r.t.Fatal(err)
	}
	if change != nil {
		change(&image)
	}
	if err := r.reg.PutImage(image); err != nil {
		r.t.Fatal(err)
	}
	return image
}

func exportPath(image registry.Image) string { return "/1.0/images/" + image.Fingerprint + "/export" }

// withImages is a container that may download images.
func (r *rig) withImages(name string) {
	r.container(name, map[string]string{"security.devlxd.images": "true", "user.a": "1"})
}

// wantNoFiles fails when an image file stays open.
func (r *rig) wantNoFiles() {
	r.t.Helper()
	dir := filepath.Dir(filepath.Dir(r.path))
	open := func() (n int) {
		links, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			r.t.Fatal(err)
		}
		for _, l := range links {
			target, _ := os.Readlink("/proc/self/fd/" + l.Name())
			if strings.HasPrefix(target, dir) {
				n++
			}
		}
		return n
	}
	eventually(r.t, "no image file is open", func() bool { return open() == 0 })
}

// TestImageUnified: the exact head, the bytes, and a connection that can be used further.
func TestImageUnified(t *testing.T) {
	for _, size := range []int{0, 1, 100, 300_000, 3 << 20} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			r := newRig(t, Options{Loops: 1})
			r.withImages("c1")
			content := randomBytes(size, 1)
			image := r.image(content, nil)
			head := "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Type: application/octet-stream\r\nAccept-Ranges: bytes\r\nContent-Disposition: inline;filename=" +
				image.Fingerprint + ".tar.xz\r\nLast-Modified: Tue, 03 Feb 2026 04:05:06 GMT\r\nContent-Length: " + strconv.Itoa(size) + "\r\n\r\n"
			c := r.dial("c1")
			// Pipelined, with a request before and behind.
			get := "GET " + exportPath(image) + " HTTP/1.1\r\nHost: a\r\n\r\n"
			c.send(getKey("user.a") + get + "HEAD" + get[3:] + get + getKey("user.a"))
			for i, want := range []string{"1", head + string(content), head, head + string(content), "1"} {
				method := "GET"
				if i == 2 {
					method = "HEAD"
				}
				a := c.answer(method)
				got := a.raw()
				if want == "1" {
					got = a.body
				}
				if got != want {
					t.Fatalf("answer %d = %.500q... (%d bytes);\nwant %.500q... (%d bytes)", i, got, len(got), want, len(want))
				}
			}
			c.wantOpen()
			r.wantNoFiles()
		})
	}
}

func TestImageRanges(t *testing.T) {
	r := newRig(t, Options{Loops: 1})
	r.withImages("c1")
	content := randomBytes(1000, 2)
	image := r.image(content, nil)
	const same, older, newer = "Tue, 03 Feb 2026 04:05:06 GMT", "Tue, 03 Feb 2026 04:05:05 GMT", "Wed, 04 Feb 2026 00:00:00 GMT"
	for _, tc := range []struct {
		fields string
		status int
		from   int
		to     int // not included
	}{
		{"", 200, 0, 1000},
		{"Range: bytes=0-0\r\n", 206, 0, 1},
		{"Range: bytes=10-19\r\n", 206, 10, 20},
		{"Range: bytes=990-5000\r\n", 206, 990, 1000},
		{"Range: bytes=900-\r\n", 206, 900, 1000},
		{"Range: bytes=-10\r\n", 206, 990, 1000},
		{"Range: bytes=-5000\r\n", 206, 0, 1000},
		{"Range: bytes=0-1,5-6\r\n", 200, 0, 1000},
		{"Range: bytes=1000-\r\n", 416, 0, 0},
		{"Range: bytes=-0\r\n", 416, 0, 0},
		{"Range: bytes=9-1\r\n", 416, 0, 0},
		{"Range: bytes=0-1\r\nIf-Range: " + same + "\r\n", 206, 0, 2},
		{"Range: bytes=0-1\r\nIf-Range: " + older + "\r\n", 200, 0, 1000},
		{"Range: bytes=0-1\r\nIf-Range: \"tag\"\r\n", 200, 0, 1000},
		{"If-Modified-Since: " + same + "\r\n", 304, 0, 0},
		{"If-Modified-Since: " + newer + "\r\n", 304, 0, 0},
		{"If-Modified-Since: " + older + "\r\n", 200, 0, 1000},
		{"If-Modified-Since: yesterday\r\n", 200, 0, 1000},
		{"If-Modified-Since: " + same + "\r\nRange: bytes=0-1\r\n", 304, 0, 0},
	} {
		t.Run(tc.fields, func(t *testing.T) {
			c := r.dial("c1")
			c.send("GET " + exportPath(image) + " HTTP/1.1\r\nHost: a\r\n" + tc.fields + "\r\n")
			a := c.answer("GET")
			if a.status != tc.status {
				t.Fatalf("answer = %.500q; want %d", a.raw(), tc.status)
			}
			contentRange := ""
			switch tc.status {
			case 200, 206:
				if a.body != string(content[tc.from:tc.to]) {
					t.Errorf("body has %d bytes; want those from %d to %d", len(a.body), tc.from, tc.to)
				}
				if tc.status == 206 {
					contentRange = fmt.Sprintf("bytes %d-%d/1000", tc.from, tc.to-1)
				}
			case 304:
				if a.fields.Get("Last-Modified") != same || a.fields.Get("Content-Length") != "" {
					t.Errorf("head = %q", a.head)
				}
			case 416:
				if tc.fields != "Range: bytes=9-1\r\n" {
					contentRange = "bytes */1000"
				}
			}
			if got := a.fields.Get("Content-Range"); got != contentRange {
				t.Errorf("Content-Range: %q; want %q", got, contentRange)
			}
			c.wantOpen()
		})
	}
	r.wantNoFiles()
}

// TestImageSplit: what Go's own reader makes of the two parts.
func TestImageSplit(t *testing.T) {
	for kind, rootName := range map[string]string{"container": "rootfs", "virtual-machine": "rootfs.img"} {
		t.Run(kind, func(t *testing.T) {
			r := newRig(t, Options{Loops: 1})
			r.withImages("c1")
			meta, rootfs := randomBytes(700, 3), randomBytes(2<<20, 4)
			image := r.image(meta, func(i *registry.Image) {
				i.Type, i.RootfsPath, i.RootfsExt, i.RootfsSize = kind, i.Path+".rootfs", ".squashfs", int64(len(rootfs))
				if err := os.WriteFile(i.RootfsPath, rootfs, 0o600); err != nil {
					t.Fatal(err)
				}
			})
			c := r.dial("c1")
			for range 2 {
				a := c.get(exportPath(image))
				media, params, err := mime.ParseMediaType(a.fields.Get("Content-Type"))
				if err != nil || media != "multipart/form-data" || a.status != 200 {
					t.Fatalf("head = %q, %v", a.head, err)
				}
				reader := multipart.NewReader(strings.NewReader(a.body), params["boundary"])
				for _, want := range []struct {
					name, file string
					content    []byte
				}{{"metadata", "meta-" + image.Fingerprint + ".tar.xz", meta}, {rootName, image.Fingerprint + ".squashfs", rootfs}} {
					part, err := reader.NextRawPart()
					if err != nil {
						t.Fatal(err)
					}
					content, err := io.ReadAll(part)
					if err != nil || part.FormName() != want.name || part.FileName() != want.file || !bytes.Equal(content, want.content) ||
						part.Header.Get("Content-Type") != "application/octet-stream" {
						t.Errorf("part %v has %d bytes, %v; want %s, %s and %d bytes", part.Header, len(content), err, want.name, want.file, len(want.content))
					}
				}
				if _, err := reader.NextRawPart(); err != io.EOF {
					t.Errorf("behind the parts: %v", err)
				}
			}
			c.send("HEAD " + exportPath(image) + " HTTP/1.1\r\nHost: a\r\n\r\n")
			c.answer("HEAD")
			c.wantOpen()
			r.wantNoFiles()
		})
	}
}

// TestImageAccess: who gets which image, in the words of each dialect.
func TestImageAccess(t *testing.T) {
	for _, d := range []Dialect{DialectDocument, DialectLXD, DialectIncus} {
		t.Run(d.String(), func(t *testing.T) {
			r := newRig(t, Options{Loops: 1, Dialect: d})
			public := r.image([]byte("public"), nil)
			cached := r.image([]byte("cached"), func(i *registry.Image) { i.Public, i.Cached = false, true })
			private := r.image([]byte("private"), func(i *registry.Image) { i.Public = false })
			absent := registry.Image{Fingerprint: strings.Repeat("0", 64)}
			for name, value := range map[string]string{"unset": "", "false": "false", "yes": "yes", "one": "1", "true": "true", "on": "on"} {
				config := map[string]string{"security.devlxd.images": value}
				if value == "" {
					config = nil
				}
				r.container(name, config)
				want := 403
				if value == "true" || value == "1" || value == "yes" || value == "on" {
					want = 200
				}
				if a := r.dial(name).get(exportPath(public)); a.status != want {
					t.Errorf("security.devlxd.images=%s: %q; want %d", value, a.raw(), want)
				}
			}
			c := r.dial("true")
			if a := c.get(exportPath(cached)); a.body != "cached" {
				t.Errorf("cached: %q", a.raw())
			}
			for name, path := range map[string]string{
				"private": exportPath(private), "absent": exportPath(absent), "prefix": "/1.0/images/" + public.Fingerprint[:12] + "/export",
				"capitals": "/1.0/images/" + strings.ToUpper(public.Fingerprint) + "/export",
			} {
				a := c.get(path)
				if a.status != 404 || a.fields.Get("Content-Type") != "application/json" || !strings.Contains(a.body, `"error_code":404`) {
					t.Errorf("%s: %q; want 404 in JSON", name, a.raw())
				}
			}
			status := map[bool]int{true: 404, false: 200}[d == DialectLXD]
			if a := c.get(exportPath(public) + "?project=other"); a.status != status {
				t.Errorf("?project=other: %d; want %d", a.status, status)
			}
			if a := c.get(exportPath(public) + "?project=default"); a.status != 200 {
				t.Errorf("?project=default: %d", a.status)
			}
		})
	}
}

// TestImageClients: net/http downloads several at once, and each gets its own.
func TestImageClients(t *testing.T) {
	r := newRig(t, Options{Loops: 2})
	r.withImages("c1")
	type download struct {
		image registry.Image
		sum   string
		err   error
	}
	results := make(chan download)
	const n = 3
	for i := range n {
		image := r.image(randomBytes(16<<20, uint64(10+i)), nil)
		go func() {
			d := download{image: image}
			var resp *http.Response
			if resp, d.err = r.httpClient("c1").Get("http://lxd" + exportPath(image)); d.err == nil {
				sum := sha256.New()
				_, d.err = io.Copy(sum, resp.Body)
				_ = resp.Body.Close()
				d.sum = hex.EncodeToString(sum.Sum(nil))
			}
			results <- d
		}()
	}
	for range n {
		if d := <-results; d.err != nil || d.sum != d.image.Fingerprint {
			t.Errorf("downloaded %s, %v; want %s", d.sum, d.err, d.image.Fingerprint)
		}
	}
	r.wantNoFiles()
}

// TestImageType: Incus says in each answer about an image what it is made of, and the others say nothing of it.
func TestImageType(t *testing.T) {
	for d := range numDialects {
		for _, kind := range []string{"incus", "oci"} {
			t.Run(d.String()+" "+kind, func(t *testing.T) {
				r := newRig(t, Options{Loops: 1, Dialect: d})
				r.withImages("c1")
				properties := func(i *registry.Image) {
					if kind == "oci" {
						i.Properties = map[string]string{"type": "oci"}
					}
				}
				unified := r.image([]byte("unified"), properties)
				split := r.image([]byte("meta"), func(i *registry.Image) {
					properties(i)
					i.RootfsPath, i.RootfsSize = i.Path, i.Size
				})
				want := ""
				if d == DialectIncus {
					want = kind
				}
				c := r.dial("c1")
				for fields, status := range map[string]int{
					"": 200, "Range: bytes=0-1\r\n": 206, "If-Modified-Since: Wed, 04 Feb 2026 00:00:00 GMT\r\n": 304,
					"Range: bytes=9-\r\n": 416, "Range: bytes=9-1\r\n": 416,
				} {
					c.send("GET " + exportPath(unified) + " HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n")
					if a := c.answer("GET"); a.status != status || a.fields.Get("X-Incus-Type") != want {
						t.Errorf("%q: %q; want %d and type %q", fields, a.raw(), status, want)
					}
				}
				if a := c.get(exportPath(split)); a.status != 200 || a.fields.Get("X-Incus-Type") != want {
					t.Errorf("split: %q; want type %q", a.head, want)
				}
				if a := c.get(strings.Replace(exportPath(split), "images/", "images/0", 1)); a.status != 404 || a.fields.Get("X-Incus-Type") != "" {
					t.Errorf("absent: %q; want no type", a.raw())
				}
			})
		}
	}
}
