package registry_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"devlxd/registry"

	"pgregory.net/rapid"
)

// referenceJSON is what encoding/json makes of s without HTML escaping.
func referenceJSON(t interface{ Fatal(...any) }, v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func TestAppendJSONString(t *testing.T) {
	for in, want := range map[string]string{
		"":                      `""`,
		"plain":                 `"plain"`,
		"<a href='x'>&amp;</a>": `"<a href='x'>&amp;</a>"`,
		`quote " back \`:        `"quote \" back \\"`,
		"\b\f\n\r\t":            `"\b\f\n\r\t"`,
		"\x00\x01\x1f\x7f":      "\"\\u0000\\u0001\\u001f\x7f\"",
		"züri 日本 😀":             `"züri 日本 😀"`,
		"line\u2028para\u2029":  `"line\u2028para\u2029"`,
		"\xff":                  `"\ufffd"`,
		"a\xc3":                 `"a\ufffd"`,
		"\xe2\x80":              `"\ufffd\ufffd"`,
		"\xed\xa0\x80":          `"\ufffd\ufffd\ufffd"`,
		"real \ufffd":           "\"real \ufffd\"",
	} {
		t.Run(want, func(t *testing.T) {
			if got := string(registry.AppendJSONString([]byte("x"), in)); got != "x"+want {
				t.Errorf("AppendJSONString(%q) = %s; want x%s", in, got, want)
			}
			if got := string(registry.AppendJSONString(nil, []byte(in))); got != want {
				t.Errorf("AppendJSONString([]byte %q) = %s; want %s", in, got, want)
			}
			if ref := referenceJSON(t, in); ref != want {
				t.Errorf("encoding/json gives %s; the table says %s", ref, want)
			}
		})
	}
}

// TestAppendJSONStringEveryByte covers each byte at the start, inside and at the end of a string.
func TestAppendJSONStringEveryByte(t *testing.T) {
	for c := range 256 {
		for _, s := range []string{string([]byte{byte(c)}), "a" + string([]byte{byte(c)}) + "b", "\xe2" + string([]byte{byte(c)}) + "\xa8"} {
			if got, want := string(registry.AppendJSONString(nil, s)), referenceJSON(t, s); got != want {
				t.Errorf("AppendJSONString(%q) = %s; want %s", s, got, want)
			}
		}
	}
}

func TestAppendJSONStringLikeEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "s")
		if got, want := string(registry.AppendJSONString(nil, s)), referenceJSON(t, s); got != want {
			t.Fatalf("AppendJSONString(%q) = %s; want %s", s, got, want)
		}
	})
}

func FuzzAppendJSONString(f *testing.F) {
	for _, s := range []string{"", "bar %s bar", "\xff\u2028\"\\\x00", "\xf0\x9f\x98"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, want := string(registry.AppendJSONString(nil, s)), referenceJSON(t, s); got != want {
			t.Fatalf("AppendJSONString(%q) = %s; want %s", s, got, want)
		}
	})
}
