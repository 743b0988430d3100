package layout

import (
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// testName is a test as SECURITY.md names it: package.Test, or package.Test/name of a case.
var testName = regexp.MustCompile("`([a-z0-9]+)\\.((?:Test|Fuzz)[A-Za-z0-9]+)(?:/([^`]+))?`")

// TestSecurityTable: every attack of SECURITY.md has a test that exists.
func TestSecurityTable(t *testing.T) {
	text, err := os.ReadFile("../../SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(text), "\n## Attacks\n")
	if !ok {
		t.Fatal("SECURITY.md has no section Attacks")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	sources := testSources(t)
	rows := 0
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| attack |") {
			continue
		}
		rows++
		cells := strings.Split(strings.TrimSpace(line), "|")
		tests := testName.FindAllStringSubmatch(cells[len(cells)-2], -1)
		if len(cells) != 5 || len(tests) == 0 || strings.Count(cells[3], "`") != 2*len(tests) {
			t.Errorf("not an attack, a reason and tests: %s", line)
		}
		for _, m := range tests {
			source := sources[m[1]]
			if !strings.Contains(source, "\nfunc "+m[2]+"(") || m[3] != "" && !strings.Contains(source, strconv.Quote(m[3])) {
				t.Errorf("no test %s", m[0])
			}
		}
	}
	if rows < 20 {
		t.Errorf("%d rows", rows)
	}
}

// testSources gives the text of all tests by the last part of their folder's name.
func testSources(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for folder, files := range goFiles(t) {
		for _, file := range files {
			if !strings.HasSuffix(file, "_test.go") {
				continue
			}
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all[path.Base(folder)] += "\n" + string(data)
		}
	}
	return all
}
