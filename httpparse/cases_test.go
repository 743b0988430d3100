package httpparse

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// testCase is one case of testdata/*.http; the format is in testdata/README.md.
type testCase struct {
	file, title string
	raw         []byte
	verdicts    []verdict
}

func (c testCase) name() string {
	return strings.TrimSuffix(c.file, ".http") + "/" + c.title
}

// verdict is what a case says about one request.
type verdict struct {
	kind   string // accept, refuse or partial
	status int
	words  string
	want   []expectation
}

type expectation struct{ key, value string }

func (v verdict) body() string {
	for _, e := range v.want {
		if e.key == "body" {
			return e.value
		}
	}
	return ""
}

// loadCases reads all cases, and fails on anything that it does not understand.
func loadCases(tb testing.TB) []testCase {
	tb.Helper()
	files, err := filepath.Glob("testdata/*.http")
	if err != nil || len(files) == 0 {
		tb.Fatalf("no testdata/*.http: %v", err)
	}
	var cases []testCase
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		_, text2, _ := strings.Cut(string(text), "\n## ")
		for part := range strings.SplitSeq(text2, "\n## ") {
			c, err := parseCase(part)
			if err != nil {
				tb.Fatalf("%s: %q: %v", file, c.title, err)
			}
			c.file = filepath.Base(file)
			cases = append(cases, c)
		}
	}
	return cases
}

func parseCase(text string) (c testCase, err error) {
	lines := strings.Split(text, "\n")
	c.title = lines[0]
	began := false
	for _, line := range lines[1:] {
		if raw, ok := strings.CutPrefix(line, "    "); ok {
			b, err := unescape(raw)
			if err != nil {
				return c, err
			}
			c.raw, began = append(c.raw, b...), true
			continue
		}
		if !began || line == "" {
			continue // prose
		}
		if err := c.addVerdict(line); err != nil {
			return c, err
		}
	}
	if len(c.verdicts) == 0 {
		return c, fmt.Errorf("no verdict")
	}
	return c, nil
}

func (c *testCase) addVerdict(line string) error {
	kind, rest, _ := strings.Cut(line, " ")
	switch kind {
	case "accept", "partial":
		c.verdicts = append(c.verdicts, verdict{kind: kind})
		return nil
	case "refuse":
		status, words, _ := strings.Cut(rest, " ")
		code, err := strconv.Atoi(status)
		if err != nil || words == "" {
			return fmt.Errorf("want refuse STATUS words: %q", line)
		}
		c.verdicts = append(c.verdicts, verdict{kind: kind, status: code, words: words})
		return nil
	case "-":
		key, value, ok := strings.Cut(rest, ":")
		b, err := unescape(strings.TrimPrefix(value, " "))
		if !ok || err != nil || len(c.verdicts) == 0 {
			return fmt.Errorf("want - key: value: %q: %v", line, err)
		}
		v := &c.verdicts[len(c.verdicts)-1]
		v.want = append(v.want, expectation{key, string(b)})
		return nil
	}
	return fmt.Errorf("not a verdict: %q", line)
}

// unescape decodes the notation of a line.
func unescape(s string) (out []byte, err error) {
	for s != "" {
		if s[0] != '\\' {
			out, s = append(out, s[0]), s[1:]
			continue
		}
		if len(s) < 2 {
			return nil, fmt.Errorf("backslash at the end")
		}
		switch s[1] {
		case 'r', 'n', 't', 's', '\\':
			out = append(out, map[byte]byte{'r': '\r', 'n': '\n', 't': '\t', 's': ' ', '\\': '\\'}[s[1]])
			s = s[2:]
		case 'x':
			if len(s) < 4 {
				return nil, fmt.Errorf("want \\xHH: %q", s)
			}
			c, err := strconv.ParseUint(s[2:4], 16, 8)
			if err != nil {
				return nil, err
			}
			out, s = append(out, byte(c)), s[4:]
		default:
			inner, rest, ok := strings.Cut(s, "}")
			inner, ok2 := strings.CutPrefix(inner, `\{`)
			count, text, ok3 := strings.Cut(inner, " ")
			n, err := strconv.Atoi(count)
			if !ok || !ok2 || !ok3 || err != nil {
				return nil, fmt.Errorf("unknown escape: %q", s)
			}
			b, err := unescape(text)
			if err != nil {
				return nil, err
			}
			out, s = append(out, strings.Repeat(string(b), n)...), rest
		}
	}
	return out, nil
}

// check compares what was found with one expectation.
func (o *outcome) check(e expectation) error {
	yes := map[bool]string{true: "yes", false: "no"}
	orNone := func(s *string) string {
		if s == nil {
			return "none"
		}
		return *s
	}
	got := ""
	switch e.key {
	case "method":
		got = o.method
	case "target":
		got = o.target
	case "path":
		got = o.path
	case "query":
		got = orNone(o.query)
	case "host":
		got = orNone(o.host)
	case "connection":
		got = orNone(o.connection)
	case "version":
		got = "1." + strconv.Itoa(o.minor)
	case "keep-alive":
		got = yes[o.keepAlive]
	case "expect-100":
		got = yes[o.expect100]
	case "fields":
		got = strconv.Itoa(len(o.fields))
	case "body":
		got = o.body
	case "consumed":
		got = strconv.Itoa(o.consumed)
	case "field":
		name, value, _ := strings.Cut(e.value, ":")
		for _, f := range o.fields {
			if strings.EqualFold(f[0], name) {
				if f[1] == strings.TrimPrefix(value, " ") {
					return nil
				}
				return fmt.Errorf("field %s = %q; want %q", name, f[1], value)
			}
		}
		return fmt.Errorf("field %s is missing", name)
	default:
		return fmt.Errorf("unknown key %q", e.key)
	}
	if got != e.value {
		return fmt.Errorf("%s = %.80q; want %.80q", e.key, got, e.value)
	}
	return nil
}

// compare checks the outcomes of a connection against the verdicts of the case.
func (c testCase) compare(got []outcome) error {
	if len(got) != len(c.verdicts) {
		return fmt.Errorf("%d outcomes; want %d: %v", len(got), len(c.verdicts), got)
	}
	for i, v := range c.verdicts {
		o := &got[i]
		if kind := o.kind(); kind != v.kind {
			return fmt.Errorf("request %d: %s (%v); want %s", i, kind, o.err, v.kind)
		}
		if v.kind == "refuse" && (o.err.Status != v.status || !strings.Contains(o.err.Text, v.words)) {
			return fmt.Errorf("request %d: refused with %d %s; want %d %s", i, o.err.Status, o.err.Text, v.status, v.words)
		}
		for _, e := range append(v.want, expectation{"body", v.body()}) {
			if err := o.check(e); err != nil {
				return fmt.Errorf("request %d: %w", i, err)
			}
		}
	}
	return nil
}
