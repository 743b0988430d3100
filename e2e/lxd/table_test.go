package lxd

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// difference is an entry of a table of differences.
type difference struct {
	theirs, ours string
	why          string
	seen         bool
}

// table is what is known to differ, by question.
type table struct {
	t      *testing.T
	file   string
	daemon string
	about  map[string]*difference
	// unknown are differences that are not in the table, in its own form.
	unknown strings.Builder
	asked   int
}

// readTable reads a file of testdata; its form is explained in testdata/README.md.
func readTable(t *testing.T, daemon, file string) *table {
	t.Helper()
	tab := &table{t: t, file: "testdata/" + file, daemon: daemon, about: make(map[string]*difference)}
	text, err := os.ReadFile(tab.file)
	if err != nil {
		t.Fatal(err)
	}
	var group []*difference
	var last *difference
	for n, line := range strings.Split(string(text), "\n") {
		mark, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest = strings.TrimSpace(rest)
		switch {
		case mark == "" || mark == "#":
		case mark == "==":
			if tab.about[rest] != nil {
				t.Fatalf("%s:%d: %q is there twice", tab.file, n+1, rest)
			}
			last = &difference{}
			tab.about[rest] = last
			group = append(group, last)
		case last == nil:
			t.Fatalf("%s:%d: %q stands before any question", tab.file, n+1, line)
		case mark == daemon+":":
			last.theirs = rest
		case mark == "devlxd:":
			last.ours = rest
		case mark == "why:":
			for _, d := range group {
				d.why = rest
			}
			group = nil
		default:
			t.Fatalf("%s:%d: cannot read %q", tab.file, n+1, line)
		}
	}
	if len(group) > 0 {
		t.Fatalf("%s: the last differences are not explained", tab.file)
	}
	return tab
}

// compare notes what both have answered to a question.
func (tab *table) compare(question, theirs, ours string) {
	tab.asked++
	d := tab.about[question]
	if d != nil {
		d.seen = true
	}
	switch {
	case theirs == ours && d != nil:
		tab.t.Errorf("%s: %q is answered alike: take it out\n  %s", tab.file, question, ours)
	case theirs == ours:
	case d == nil || d.theirs != theirs || d.ours != ours:
		fmt.Fprintf(&tab.unknown, "== %s\n%s: %s\ndevlxd: %s\n", question, tab.daemon, theirs, ours)
	}
}

// finish fails for what is not as the table says.
func (tab *table) finish() {
	tab.t.Helper()
	if tab.unknown.Len() > 0 {
		tab.t.Errorf("not in %s, or otherwise there:\n%s", tab.file, tab.unknown.String())
	}
	var stale []string
	for question, d := range tab.about {
		if !d.seen {
			stale = append(stale, question)
		}
	}
	slices.Sort(stale)
	for _, question := range stale {
		tab.t.Errorf("%s: %q was not asked", tab.file, question)
	}
	tab.t.Logf("%d questions, %d known differences", tab.asked, len(tab.about))
}
