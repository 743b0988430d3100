package httpparse

import (
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
)

func TestAppendDecodedPath(t *testing.T) {
	for _, seg := range []string{
		"", "user.foo", "user.a%2Fb", "%25%32%35", "a+b", "%00%ff%C3%a9", "%", "%2", "a%2g", "%%41", "x%4", "%G0",
	} {
		t.Run(seg, func(t *testing.T) {
			got, err := AppendDecodedPath([]byte("dst:"), []byte(seg))
			want, wantErr := url.PathUnescape(seg)
			if (err != nil) != (wantErr != nil) || err != nil && err != ErrPercent {
				t.Fatalf("err = %v; net/url: %v", err, wantErr)
			}
			if string(got) != "dst:"+want {
				t.Errorf("%q; want %q", got, "dst:"+want)
			}
		})
	}
}

func TestQueryValue(t *testing.T) {
	for _, query := range []string{
		"", "type=config", "type=config&type=device", "type", "type=", "=config", "&&type=a", "Type=a", "types=a",
		"a=b&type=config%2Cdevice", "type=config+device", "t%79pe=x", "%74ype=+", "type=%zz", "type=%zz&type=b",
		"type=a;b&type=c", "type;x=a", "t%ype=a&type=b", "type=a=b", "type=%", "type%3Da=b", "ty+pe=a", "type=a%00b",
	} {
		t.Run(query, func(t *testing.T) { sameAsGo(t, query) })
	}
}

// Random queries, made of the bytes that matter.
func TestQueryValueRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	parts := []string{"type", "t", "%74", "=", "&", ";", "+", "%", "%2", "%26", "a", "ype"}
	for range 20_000 {
		var b strings.Builder
		for range rng.IntN(12) {
			b.WriteString(parts[rng.IntN(len(parts))])
		}
		sameAsGo(t, b.String())
	}
}

func sameAsGo(t *testing.T, query string) {
	t.Helper()
	values, _ := url.ParseQuery(query)
	want, found := values["type"]
	got, ok := QueryValue([]byte(query), "type", make([]byte, 2))
	if ok != found || ok && string(got) != want[0] {
		t.Errorf("%q: %q, %t; net/url: %q", query, got, ok, want)
	}
}
