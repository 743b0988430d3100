package parsetest

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func load(t *testing.T, text string) ([]Case, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.http"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return Load(dir)
}

func TestLoad(t *testing.T) {
	got, err := load(t, "# Title\n\nProse.\n\n## one\nserved is prose here\n\n    GET\\s/\\x00\\r\\n\n    \\{3 a\\\\b}\n\naccept\n- body: x\\ty\n"+
		"refuse 400 some words\nserved 200 400 close\n\n## two\n\n    \n\npartial\nserved wait\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []Case{
		{
			File: "a.http", Title: "one", Raw: []byte("GET /\x00\r\na\\ba\\ba\\b"),
			Verdicts: []Verdict{{Kind: "accept", Want: []Expectation{{"body", "x\ty"}}}, {Kind: "refuse", Status: 400, Words: "some words"}},
			Served:   Served{[]int{200, 400}, Close},
		},
		{File: "a.http", Title: "two", Verdicts: []Verdict{{Kind: "partial"}}, Served: Served{End: Wait}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if name := got[0].Name(); name != "a/one" {
		t.Errorf("name = %q", name)
	}
	if v := &got[0].Verdicts[0]; v.Get("body") != "x\ty" || v.Get("path") != "" {
		t.Errorf("Get = %q, %q", v.Get("body"), v.Get("path"))
	}
}

// A case that says less than it seems to must not pass.
func TestLoadRefuses(t *testing.T) {
	for _, body := range []string{
		"    GET\n\naccept\n",
		"    GET\n\nserved 200 open\n",
		"    GET\n\naccept\nserved 200\n",
		"    GET\n\naccept\nserved\n",
		"    GET\n\naccept\nserved 200 often\n",
		"    GET\n\naccept\nserved two open\n",
		"    GET\n\naccept\nserved 200 open\nserved 200 open\n",
		"    GET\n\nrefuse 400\nserved 400 close\n",
		"    GET\n\nrefuse words\nserved 400 close\n",
		"    GET\n\n- body: x\naccept\nserved 200 open\n",
		"    GET\n\naccepts\nserved 200 open\n",
		"    GET\\q\n\naccept\nserved 200 open\n",
		"    GET\\x0\n\naccept\nserved 200 open\n",
		"    GET\\\n\naccept\nserved 200 open\n",
		"    \\{x y}\n\naccept\nserved 200 open\n",
		"",
	} {
		if cases, err := load(t, "# T\n\n## a case\n\n"+body); err == nil {
			t.Errorf("%q was read as %+v", body, cases)
		}
	}
	if _, err := Load(t.TempDir()); err == nil || !strings.Contains(err.Error(), "no cases") {
		t.Errorf("an empty folder: %v", err)
	}
}
