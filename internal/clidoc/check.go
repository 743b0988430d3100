package clidoc

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

var update = flag.Bool("update", false, "write the generated files instead of comparing them")

// Check compares the committed files below root, the project's, with those that r makes, or writes them when the test is
// run with -update. A file of the program that r does not make any more is stale too. Names that another program begins
// with this one's are told apart by others, a regular expression of file names; "" for none.
func (r Reference) Check(t *testing.T, root, others string) {
	t.Helper()
	files, err := r.Generate()
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range files {
		name := filepath.Join(root, filepath.FromSlash(file))
		if *update {
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is stale (%v): run 'go test ./cmd/... -run TestReference -update'", file, err)
		}
	}
	for _, dir := range []string{manDir, completionDir, markdownDir} {
		found, err := filepath.Glob(filepath.Join(root, dir, "*"+r.Root().Name()+"*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range found {
			file, err := filepath.Rel(root, name)
			if err != nil {
				t.Fatal(err)
			}
			if files[filepath.ToSlash(file)] != nil || others != "" && regexp.MustCompile(others).MatchString(filepath.Base(name)) {
				continue
			}
			if !*update {
				t.Errorf("%s is of a command that there is not: run 'go test ./cmd/... -run TestReference -update'", file)
			} else if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}
}
