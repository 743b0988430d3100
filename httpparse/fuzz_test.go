package httpparse

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/fuzz anew from testdata/*.http")

// FuzzHead: a head that comes in pieces gets the verdict of the whole, and no slice
// leaves the buffer.
func FuzzHead(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte, cut uint16) {
		if err := checkHead(raw, min(int(cut), len(raw))); err != nil {
			t.Error(err)
		}
	})
}

// FuzzBody: a body that comes in pieces is decoded as the whole is, within the limit.
func FuzzBody(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte, length int32, cut uint16) {
		b := Body{state: chunkSize}
		if length >= 0 {
			b = (&Request{ContentLength: int64(length) % (MaxBody + 1)}).Body()
		}
		if err := checkBody(b, data, min(int(cut), len(data))); err != nil {
			t.Error(err)
		}
	})
}

// FuzzDifferential: what is accepted here, net/http and fasthttp accept as well, with the
// same meaning.
func FuzzDifferential(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := judge(raw); err != nil {
			t.Error(err)
		}
	})
}

// checkHead compares one call with several. An empty line at the end makes the verdict
// about every head final.
func checkHead(raw []byte, cut int) error {
	full := clip(raw, []byte("\r\n\r\n"))
	var req Request
	early, earlyErr := new(Parser).Head(full[:len(raw):len(raw)], &req)
	wantN, wantErr := new(Parser).Head(full, &req)
	if earlyErr != ErrPartial && (early != wantN || earlyErr != wantErr) {
		return fmt.Errorf("%d, %v becomes %d, %v", early, earlyErr, wantN, wantErr)
	}
	want := outcome{}
	if wantErr == nil {
		mustBeInside(&req, full[:wantN])
		want = copyOut(&req, wantN)
	}
	for _, cuts := range [][]int{{cut, len(raw)}, bytewise(len(full))} {
		var p Parser
		n, err := 0, ErrPartial
		for i := 0; i <= len(cuts) && err == ErrPartial; i++ {
			end := append(cuts, len(full))[i]
			n, err = p.Head(clip(full[:end], nil), &req)
		}
		if n != wantN || err != wantErr {
			return fmt.Errorf("in pieces: %d, %v; in one: %d, %v", n, err, wantN, wantErr)
		}
		if err == nil && fmt.Sprint(copyOut(&req, n)) != fmt.Sprint(want) {
			return fmt.Errorf("in pieces: %v; in one: %v", copyOut(&req, n), want)
		}
	}
	return nil
}

// decode runs a body over data that comes in pieces.
func decode(b Body, data []byte, cuts ...int) (out []byte, used int, err error) {
	for _, end := range append(cuts, len(data)) {
		for err = nil; !b.Done() && err == nil; {
			var piece []byte
			n := 0
			piece, n, err = b.Next(data[used:end:end])
			mustUse(inside(piece, data[used:used+n]), "data outside of the buffer")
			mustUse(n > 0 || err != nil, "nothing used of %d bytes", end-used)
			out = append(out, piece...)
			used += n
		}
		if err != nil && err != ErrPartial {
			break
		}
	}
	return out, used, err
}

func checkBody(b Body, data []byte, cut int) error {
	want, wantUsed, wantErr := decode(b, data)
	if len(want) > MaxBody {
		return fmt.Errorf("%d bytes decoded", len(want))
	}
	for _, cuts := range [][]int{{cut}, bytewise(len(data))} {
		got, used, err := decode(b, data, cuts...)
		if err != wantErr {
			return fmt.Errorf("in pieces: %v; in one: %v", err, wantErr)
		}
		if (err == nil || err == ErrPartial) && (used != wantUsed || !bytes.Equal(got, want)) {
			return fmt.Errorf("in pieces: %d, %q; in one: %d, %q", used, got, wantUsed, want)
		}
	}
	if b.state != chunkSize || wantErr != nil {
		return nil
	}
	got, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(data)))
	if err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("net/http: %q, %v; here: %q", got, err, want)
	}
	return nil
}

// The seeds of the fuzz targets are the cases: bodies in chunks for FuzzBody, what is
// accepted for FuzzDifferential, all others for FuzzHead.
func TestSeedCorpus(t *testing.T) {
	want := map[string]string{}
	for _, c := range loadCases(t) {
		if len(c.Raw) > wholeCuts {
			continue
		}
		name := strings.NewReplacer("/", "-", " ", "-", ":", "", ".", "", ",", "").Replace(c.Name())
		switch _, body, _ := bytes.Cut(c.Raw, []byte("\r\n\r\n")); {
		case c.File == "chunked.http":
			want["FuzzBody/"+name] = fmt.Sprintf("go test fuzz v1\n[]byte(%q)\nint32(-1)\nuint16(5)\n", body)
		case c.Verdicts[0].Kind == "accept":
			want["FuzzDifferential/"+name] = fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n", c.Raw)
		default:
			want["FuzzHead/"+name] = fmt.Sprintf("go test fuzz v1\n[]byte(%q)\nuint16(20)\n", c.Raw)
		}
	}
	for name, text := range want {
		path := filepath.Join("testdata/fuzz", name)
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%s is not what testdata/*.http says: run go test -run SeedCorpus -update", path)
		}
	}
}
