package admin_test

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/textproto"
	"runtime"
	"strings"
	"testing"
	"time"

	"devlxd/registry"
	"devlxd/source"
)

// imageFP is the fingerprint that the writer of these tests gives.
var imageFP = strings.Repeat("ab12", 16)

func imageJSON(public, cached, split bool, size, rootfs int) string {
	return fmt.Sprintf(`{"fingerprint":%q,"public":%v,"cached":%v,"type":"container","split":%v,"size":%d,"rootfs_size":%d,"uploaded_at":"2023-11-14T22:13:20Z"}`,
		imageFP, public, cached, split, size, rootfs)
}

// form makes a multipart body of parts NAME=CONTENT.
func form(parts ...string) (body, contentType string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, part := range parts {
		name, content, _ := strings.Cut(part, "=")
		pw, _ := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="` + name + `"; filename="x"`}})
		_, _ = io.WriteString(pw, content)
	}
	_ = w.Close()
	return b.String(), w.FormDataContentType()
}

// post sends a body to /1.0/images and returns the answer.
func (f *fixture) post(query, contentType, body string, chunked bool) (int, string) {
	f.Helper()
	request := "POST /1.0/images" + query + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
	if contentType != "" {
		request += "Content-Type: " + contentType + "\r\n"
	}
	if chunked {
		request += fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	} else {
		request += fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
	}
	resp := f.raw(request)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		f.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestImportImage(t *testing.T) {
	f := start(t, nil)
	meta, rootfs := strings.Repeat("m", 20<<10), strings.Repeat("r", 50<<10)
	split, splitType := form("metadata="+meta, "rootfs="+rootfs)
	img, imgType := form("metadata="+meta, "rootfs.img="+rootfs)
	for _, c := range []struct {
		name, query, contentType, body string
		meta, rootfs                   string
		options                        source.ImageOptions
	}{
		{name: "unified", body: meta, meta: meta},
		{name: "unified of a type", body: meta, contentType: "application/octet-stream", meta: meta},
		{name: "one byte", body: "m", meta: "m"},
		{"public", "?public=true&cached=0", "", meta, meta, "", source.ImageOptions{Public: true}},
		{"cached", "?cached=1&type=virtual-machine", "", meta, meta, "", source.ImageOptions{Cached: true, Type: "virtual-machine"}},
		{name: "split", contentType: splitType, body: split, meta: meta, rootfs: rootfs},
		{name: "split with a disk", contentType: imgType, body: img, meta: meta, rootfs: rootfs},
	} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s chunked=%v", c.name, chunked), func(t *testing.T) {
				code, body := f.post(c.query, c.contentType, c.body, chunked)
				want := ok(imageJSON(c.options.Public, c.options.Cached, c.rootfs != "", len(c.meta), len(c.rootfs)))
				if code != 201 || body != want {
					t.Fatalf("answer %d %s; want 201 %s", code, body, want)
				}
				if f.writer.got != [2]string{c.meta, c.rootfs} || f.writer.split != (c.rootfs != "") || f.writer.o != c.options {
					t.Errorf("writer got %d and %d bytes, split: %v, %+v; want %d and %d bytes, %+v",
						len(f.writer.got[0]), len(f.writer.got[1]), f.writer.split, f.writer.o, len(c.meta), len(c.rootfs), c.options)
				}
			})
		}
	}
}

func TestImportRefusals(t *testing.T) {
	f := start(t, nil)
	noRootfs, noRootfsType := form("metadata=m")
	swapped, swappedType := form("rootfs=r", "metadata=m")
	three, threeType := form("metadata=m", "rootfs=r", "more=x")
	whole, wholeType := form("metadata=m", "rootfs="+strings.Repeat("r", 9000))
	for _, c := range []struct {
		name, query, contentType, body string
		code                           int
		text                           string
	}{
		{"empty", "", "", "", 400, "request has no body: send the image"},
		{"public=maybe", "?public=maybe", "", "m", 400, `parameter "public" has the value "maybe": use true or false`},
		{"cached=maybe", "?cached=maybe", "", "m", 400, `parameter "cached" has the value "maybe": use true or false`},
		{"pubic", "?pubic=true", "", "m", 400, `unknown parameter "pubic"`},
		{"type", "?type=vm", "", "m", 400, `invalid image type "vm": use container or virtual-machine`},
		{"no boundary", "", "multipart/form-data", "m", 400, "multipart body is malformed: send a part metadata, then a part rootfs"},
		{"mixed", "", "multipart/mixed; boundary=x", "m", 400, "multipart body is malformed: send a part metadata, then a part rootfs"},
		{"not multipart", "", "multipart/form-data; boundary=x", "m", 400, "multipart body has no part metadata: send metadata, then rootfs"},
		{"no rootfs", "", noRootfsType, noRootfs, 400, "multipart body has no part rootfs: send metadata, then rootfs"},
		{"swapped", "", swappedType, swapped, 400, `multipart body has a part "rootfs" where metadata belongs`},
		{"three", "", threeType, three, 400, `multipart body has a part "more" too many: send metadata, then rootfs`},
		{"cut in a part", "", wholeType, whole[:5000], 400, "multipart body is malformed: send a part metadata, then a part rootfs"},
		{"cut in the end", "", wholeType, whole[:len(whole)-6], 400, "multipart body is malformed: send a part metadata, then a part rootfs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, body := f.post(c.query, c.contentType, c.body, false)
			if want := failed(c.code, c.text); code != c.code || body != want {
				t.Errorf("answer %d %s; want %d %s", code, body, c.code, want)
			}
		})
	}
	if images := f.reg.Images(); len(images) != 0 {
		t.Errorf("%d images after all refusals; want 0", len(images))
	}
}

// TestImportCutShort: a client that breaks off must not leave a shorter image
// behind, whatever the framing of its body.
func TestImportCutShort(t *testing.T) {
	f := start(t, nil)
	part := strings.Repeat("x", 20<<10)
	for name, head := range map[string]string{
		"Content-Length": "Content-Length: 30000\r\n\r\n",
		"chunked":        "Transfer-Encoding: chunked\r\n\r\n7530\r\n",
		"no last chunk":  "Transfer-Encoding: chunked\r\n\r\n5000\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("unix", f.socket)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "POST /1.0/images HTTP/1.1\r\nHost: x\r\n"+head+part)
			if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
			answer, err := io.ReadAll(conn)
			if err != nil || !strings.Contains(string(answer), "request body ended early: send it whole") {
				t.Errorf("answer = %q, %v; want the early end named", answer, err)
			}
			if n := len(f.reg.Images()); n != 0 {
				t.Errorf("%d images; want 0", n)
			}
		})
	}
}

func TestImportExpectContinue(t *testing.T) {
	f := start(t, nil)
	conn, err := net.Dial("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
	_, _ = io.WriteString(conn, "POST /1.0/images HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	interim := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
	if _, err := io.ReadFull(conn, interim); err != nil || !bytes.HasPrefix(interim, []byte("HTTP/1.1 100")) {
		t.Fatalf("interim answer = %q, %v", interim, err)
	}
	_, _ = io.WriteString(conn, "image")
	answer, _ := io.ReadAll(conn)
	if !bytes.HasPrefix(answer, []byte("HTTP/1.1 201")) || f.writer.got[0] != "image" {
		t.Errorf("answer = %.40q, writer got %q; want 201 and the image", answer, f.writer.got[0])
	}
}

// TestImportIsStreamed sends more than the memory that it may cost.
func TestImportIsStreamed(t *testing.T) {
	f := start(t, nil)
	f.writer.discard = true
	const size = 256 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	req, _ := http.NewRequest(http.MethodPost, "http://devlxd/1.0/images", io.LimitReader(zeros{}, size))
	req.ContentLength = size
	resp, err := f.client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	runtime.ReadMemStats(&after)
	if resp.StatusCode != 201 || f.writer.size != size {
		t.Errorf("answer %s after %d bytes; want 201 after %d", resp.Status, f.writer.size, size)
	}
	if cost := after.TotalAlloc - before.TotalAlloc; cost > 16<<20 {
		t.Errorf("allocated %d MiB for an image of %d MiB; want at most 16", cost>>20, size>>20)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestImageResources(t *testing.T) {
	f := start(t, nil)
	other := "ab12" + strings.Repeat("0", 60)
	for _, image := range []registry.Image{
		{Fingerprint: imageFP, Type: "container", Size: 7, ModTime: time.Unix(1700000000, 0).UTC()},
		{Fingerprint: other, Type: "container", Size: 8, ModTime: time.Unix(1700000000, 0).UTC()},
	} {
		if err := f.reg.PutImage(image); err != nil {
			t.Fatal(err)
		}
	}
	one := imageJSON(false, false, false, 7, 0)
	two := strings.Replace(imageJSON(false, false, false, 8, 0), imageFP, other, 1)
	missing := strings.Repeat("f", 64)
	for _, s := range []step{
		{"GET", "/1.0/images", "", 200, ok(`["/1.0/images/` + other + `","/1.0/images/` + imageFP + `"]`), ""},
		{"GET", "/1.0/images?recursion=1", "", 200, ok("[" + two + "," + one + "]"), ""},
		{"GET", "/1.0/images/" + imageFP, "", 200, ok(one), ""},
		{"GET", "/1.0/images/ab12a", "", 200, ok(one), ""},
		{"GET", "/1.0/images/ab12", "", 409, failed(409, `fingerprint "ab12" is that of 2 images: use more digits`), ""},
		{"GET", "/1.0/images/ab1", "", 400, failed(400, "fingerprint is malformed: use at least 4 of its hexadecimal digits"), ""},
		{"GET", "/1.0/images/AB12", "", 400, failed(400, "fingerprint is malformed: use at least 4 of its hexadecimal digits"), ""},
		{"GET", "/1.0/images/ffff", "", 404, failed(404, `image "ffff" not found: list what there is, and check the fingerprint`), ""},
		{"DELETE", "/1.0/images/ab12", "", 409, failed(409, `fingerprint "ab12" is that of 2 images: use more digits`), ""},
		{"DELETE", "/1.0/images/ffff", "", 404, failed(404, `image "ffff" not found: list what there is, and check the fingerprint`), ""},
		{"DELETE", "/1.0/images/" + missing, "", 404, failed(404, "not found: register it first"), ""},
		{"DELETE", "/1.0/images/ab12a", "", 200, ok("null"), ""},
		{"DELETE", "/1.0/images/" + other, "", 200, ok("null"), ""},
		{"GET", "/1.0/images", "", 200, ok("[]"), ""},
	} {
		s.run(f)
	}
}
