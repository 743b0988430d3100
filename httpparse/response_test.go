package httpparse

import (
	"bufio"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestStatus(t *testing.T) {
	known := 0
	for code := 100; code < 1000; code++ {
		text := StatusText(code)
		if text != "" {
			known++
		}
		if text != "" && text != http.StatusText(code) {
			t.Errorf("StatusText(%d) = %q; net/http: %q", code, text, http.StatusText(code))
		}
		if got, want := string(AppendStatus([]byte("x"), code)), fmt.Sprintf("xHTTP/1.1 %d %s\r\n", code, text); got != want {
			t.Errorf("AppendStatus(%d) = %q; want %q", code, got, want)
		}
	}
	if known < 25 {
		t.Errorf("only %d codes have a text", known)
	}
	for _, code := range []int{-1, 0, 99, 1000} {
		if got := string(AppendStatus(nil, code)); got != "HTTP/1.1 500 Internal Server Error\r\n" {
			t.Errorf("AppendStatus(%d) = %q", code, got)
		}
	}
}

func TestAppendField(t *testing.T) {
	tests := map[string]string{
		"text/plain; charset=utf-8": "text/plain; charset=utf-8",
		"":                          "",
		"a\r\nSet-Cookie: b":        "a  Set-Cookie: b",
		"\x00\x7f\x1b[31m\tred\n":   "   [31m\tred ",
		"caf\u00e9":                 "caf\u00e9",
	}
	for value, want := range tests {
		t.Run(value, func(t *testing.T) {
			if got := string(AppendField([]byte("a\r\n"), "X-A", value)); got != "a\r\nX-A: "+want+"\r\n" {
				t.Errorf("%q; want %q", got, want)
			}
		})
	}
}

func TestAppendInt(t *testing.T) {
	for v, want := range map[int64]string{0: "0", -1: "-1", 1234567: "1234567", math.MaxInt64: "9223372036854775807"} {
		if got := string(AppendInt([]byte("x"), "Content-Length", v)); got != "xContent-Length: "+want+"\r\n" {
			t.Errorf("AppendInt(%d) = %q", v, got)
		}
	}
}

func TestAppendContentRange(t *testing.T) {
	if got := string(AppendContentRange(nil, 5, 10, 100)); got != "Content-Range: bytes 5-14/100\r\n" {
		t.Errorf("part: %q", got)
	}
	if got := string(AppendContentRange(nil, 0, 0, 100)); got != "Content-Range: bytes */100\r\n" {
		t.Errorf("no part: %q", got)
	}
}

func TestDate(t *testing.T) {
	var d Date
	at := time.Date(2026, 2, 28, 23, 59, 59, 1, time.FixedZone("", 3600))
	for _, step := range []struct {
		after time.Duration
		want  string
	}{
		{0, "Sat, 28 Feb 2026 22:59:59 GMT"},
		{999_999_998, "Sat, 28 Feb 2026 22:59:59 GMT"},
		{999_999_999, "Sat, 28 Feb 2026 23:00:00 GMT"},
		{0, "Sat, 28 Feb 2026 22:59:59 GMT"}, // a clock may go back
		{24 * time.Hour, "Sun, 01 Mar 2026 22:59:59 GMT"},
	} {
		if got := string(d.Append([]byte("x"), at.Add(step.after))); got != "xDate: "+step.want+"\r\n" {
			t.Errorf("after %v: %q; want %q", step.after, got, step.want)
		}
	}
	if got := string(new(Date).Append(nil, time.Unix(0, 0))); got != "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n" {
		t.Errorf("first second: %q", got)
	}
}

// A head that is written by this package is understood by net/http.
func TestResponseIsReadable(t *testing.T) {
	now := time.Date(2026, 2, 28, 12, 0, 0, 0, time.UTC)
	b := AppendStatus(nil, 206)
	b = new(Date).Append(b, now)
	b = AppendTime(b, "Last-Modified", now.Add(-time.Hour))
	b = AppendField(b, "Content-Type", "text/plain")
	b = AppendContentRange(b, 1, 2, 3)
	b = AppendInt(b, "Content-Length", 2)
	b = append(b, "\r\nhi"...)
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(b))), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := "206 Partial Content map[Content-Length:[2] Content-Range:[bytes 1-2/3] Content-Type:[text/plain] " +
		"Date:[Sat, 28 Feb 2026 12:00:00 GMT] Last-Modified:[Sat, 28 Feb 2026 11:00:00 GMT]]"
	if got := fmt.Sprint(resp.Status, " ", resp.Header); got != want {
		t.Errorf("%s; want %s", got, want)
	}
}

// ParseRange agrees with http.ServeContent, but where its documentation says otherwise.
func TestParseRange(t *testing.T) {
	different := map[string]RangeResult{
		"bytes=0-0,5-6": RangeWhole, "bytes=5-6,-2": RangeWhole, // net/http: multipart
		"bytes=-0": RangeNoOverlap, "bytes=+1-2": RangeInvalid, "bytes=1-+2": RangeInvalid,
	}
	ranges := []string{
		"", "bytes=0-", "bytes=0-0", "bytes=3-5", "bytes=3-100", "bytes=9-", "bytes=10-", "bytes=99-100", "bytes=-1",
		"bytes=-10", "bytes=-11", "bytes=-99", "bytes= 3 - 5 ", "bytes=3-5,", "bytes=,3-5", "bytes=,", "bytes=",
		"bytes=3-5,20-30", "bytes=20-30,3-5", "bytes=20-30,40-50", "bytes=0-9,0-9", "bytes=99-x",
		"bytes=-", "bytes=5-3", "bytes=a-b", "bytes=5", "bytes=--5", "bytes=5-6-7", "Bytes=0-1", "bits=0-1", "bytes", "0-1",
		"bytes=0-99999999999999999999", "bytes=99999999999999999999-", "bytes=-9223372036854775807", "bytes=0-1;x",
		"bytes=3-5,x", "bytes=0-9223372036854775807",
	}
	for _, value := range ranges {
		for _, size := range []int64{10, 1} {
			t.Run(fmt.Sprintf("%q of %d", value, size), func(t *testing.T) {
				start, length, result := ParseRange([]byte(value), size)
				if got, want := fmt.Sprint(start, length, result), serveRange(value, size); got != want {
					t.Errorf("%s; net/http: %s", got, want)
				}
			})
		}
	}
	for value, want := range different {
		if _, _, result := ParseRange([]byte(value), 10); result != want {
			t.Errorf("%q: %v; want %v", value, result, want)
		}
	}
	for value, want := range map[string]RangeResult{
		"": RangeWhole, "bytes=0-": RangeWhole, "bytes=5-6": RangeWhole, "bytes=-5": RangeWhole, "bytes=-0": RangeWhole, "bytes=x": RangeInvalid,
	} {
		if _, length, result := ParseRange([]byte(value), 0); result != want || length != 0 {
			t.Errorf("%q of an empty file: %d, %v; want %v", value, length, result, want)
		}
	}
}

// serveRange asks net/http, in the form of ParseRange's results.
func serveRange(value string, size int64) string {
	r := httptest.NewRequest("GET", "/", nil)
	if value != "" {
		r.Header.Set("Range", value)
	}
	w := httptest.NewRecorder()
	http.ServeContent(w, r, "x.txt", time.Time{}, strings.NewReader(strings.Repeat("x", int(size))))
	var start, end int64
	switch w.Code {
	case 200:
		return fmt.Sprint(0, size, RangeWhole)
	case 206:
		_, _ = fmt.Sscanf(w.Header().Get("Content-Range"), "bytes %d-%d/", &start, &end)
		return fmt.Sprint(start, end-start+1, RangePart)
	}
	return fmt.Sprintf("0 0 %s", strings.TrimSpace(w.Body.String()))
}

func TestRangeResultLabels(t *testing.T) {
	seen := map[string]bool{}
	for i, r := range AllRangeResults() {
		if int(r) != i || r.String() == "" || seen[r.String()] {
			t.Errorf("result %d is %d with label %q", i, r, r)
		}
		seen[r.String()] = true
	}
}
