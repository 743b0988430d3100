package markdown

import (
	"reflect"
	"strings"
	"testing"
)

const document = `# A title, with *marks*

<!-- run: prepare -->

~~~console
$ one | two
printed
...
web$ inside \
> goes on
$ last
~~~

<!-- not run: no network -->

~~~sh
curl example.com
~~~

~~~sh
set -x
ls
~~~

Text with ` + "`code`" + `, a [link](other.md#a-title) and a | table.

## A title, with marks
`

func TestParse(t *testing.T) {
	doc := Parse([]byte(document))
	want := &Document{
		Steps: []Step{
			{Line: 3, Command: "prepare"},
			{Line: 6, Command: "one | two", Want: "printed\n...\n", Checked: true},
			{Line: 9, Command: "inside \\\ngoes on", Container: "web", Checked: true},
			{Line: 11, Command: "last", Checked: true},
			{Line: 21, Command: "set -x\nls\n"},
		},
		NotRun:  []Place{{14, "no network"}},
		Links:   []Place{{25, "other.md#a-title"}},
		Anchors: map[string]bool{"a-title-with-marks": true, "a-title-with-marks-1": true},
	}
	doc.Code = nil
	if !reflect.DeepEqual(doc, want) {
		t.Errorf("got\n%+v\nwant\n%+v", doc, want)
	}
}

func TestFaults(t *testing.T) {
	for text, want := range map[string]string{
		"    ls\n":                          "indented",
		"```\nls\n```\n":                    "language",
		"```console\nls\n```\n":             "before the first command",
		"<!-- not run: why -->\n\ntext\n":   "no code block follows",
		"<!-- not run: why -->\n":           "no code block follows",
		"<!-- not run: -->\n\n```sh\n```\n": "without a reason",
	} {
		doc := Parse([]byte(text))
		if len(doc.Faults) != 1 || !strings.Contains(doc.Faults[0].Text, want) {
			t.Errorf("%q has the faults %v; want one about %q", text, doc.Faults, want)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		printed, written string
		want             bool
	}{
		{"", "", true},
		{"a\n", "", false},
		{"a", "a\n", true},
		{"pid 12 runs\n", "pid ... runs\n", true},
		{"pid 12\n13 runs\n", "pid ... runs\n", false},
		{"a\nb\nc\n", "a\n...\n", true},
		{"a\n", "a\n...\n", true},
		{"b\nc\n", "a\n...\n", false},
		{"a\nb\nc\n", "...\nc\n", true},
		{"ab\nc\n", "...\nb\nc\n", false},
		{"NAME      PID\n", "NAME  PID\n", true},
		{"a.c\n", "abc\n", false},
	} {
		if got := Matches(c.printed, c.written); got != c.want {
			t.Errorf("Matches(%q, %q) = %v", c.printed, c.written, got)
		}
	}
}
