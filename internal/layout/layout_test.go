// Package layout holds the tests that keep the shape of the project: who may
// import whom, and how large a file may grow.
package layout

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "devlxd"

// allowed is the import rule: a package imports only the packages listed for
// its folder. Tests may import more.
var allowed = map[string][]string{
	"httpparse":        {},
	"ws":               {},
	"peer":             {},
	"registry":         {},
	"cloudinit":        {},
	"source":           {"registry"},
	"source/store":     {"fault", "internal/logging", "registry", "source"},
	"source/lxd":       {"fault", "internal/logging", "internal/lxdapi", "registry", "source"},
	"source/discover":  {"internal/logging", "source"},
	"fault":            {},
	"admin":            {"fault", "internal/logging", "registry", "source"},
	"admin/client":     {"admin", "registry", "source"},
	"server":           {"fault", "registry", "peer", "httpparse", "ws", "cloudinit", "source", "internal/fdpass", "internal/logging"},
	"internal/cgroup2": {},
	"internal/fdpass":  {},
	"internal/logging": {},
	"internal/lxdapi":  {},
	// What the settings of the daemon are called, and what makes them valid, is for the packages that they are about.
	"internal/settings": {"internal/logging", "internal/lxdapi", "registry", "server", "source/discover"},
	"internal/markdown": {},
	// Makes the reference of a command line, for tests that compare it with the committed one.
	"internal/clidoc":   {},
	"packaging/release": {},
	"api":               {},
	"api/apitest":       {"api"},
	"guest":             {},
	// The recipe of docs/guest.md.
	"docs/recipes/go":    {"guest"},
	"internal/privilege": {},
	"internal/sandbox":   {"internal/cgroup2"},
	"internal/demo":      {"internal/sandbox"},
	// Runs the built daemon, and containers for it.
	"internal/daemontest": {"internal/sandbox"},
	// Runs real LXD and Incus daemons.
	"internal/lxdtest":       {"internal/cgroup2"},
	"internal/lxdtest/agent": {},
	"cmd/devlxd":             {"admin", "admin/client", "fault", "httpparse", "internal/demo", "internal/fdpass", "internal/logging", "internal/lxdapi", "internal/privilege", "internal/sandbox", "internal/settings", "peer", "registry", "server", "source", "source/discover", "source/lxd", "source/store", "ws"},
	"cmd/devlxd-load":        {"bench/rival", "loadtest", "loadtest/guests", "loadtest/report", "loadtest/target"},
	"loadtest":               {"loadtest/guests", "loadtest/report", "loadtest/target"},
	"loadtest/guests":        {"internal/cgroup2"},
	"loadtest/report":        {},
	// The client side of an admin API and of the rivals' control is all that it needs of them.
	"loadtest/target": {"admin", "admin/client", "bench/rival"},
	"bench":           {"httpparse", "peer", "registry", "server", "source", "ws"},
	"bench/rival":     {},
	// Helpers for tests, which may look at the package they help with.
	"peer/peertest":         {"peer", "internal/cgroup2"},
	"httpparse/parsetest":   {},
	"ws/wstest":             {"ws"},
	"registry/registrytest": {"registry"},
}

// maxLines is the size above which a file should have been two.
const maxLines = 420

func goFiles(t *testing.T) map[string][]string {
	t.Helper()
	root := filepath.Join("..", "..")
	files := make(map[string][]string)
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && p != root) && p != root {
			return filepath.SkipDir
		}
		if strings.HasSuffix(p, ".go") {
			rel, err := filepath.Rel(root, p)
			if err != nil {
				return err
			}
			folder := path.Dir(filepath.ToSlash(rel))
			files[folder] = append(files[folder], p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestImports(t *testing.T) {
	seen := 0
	for folder, files := range goFiles(t) {
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			rule, known := allowed[folder]
			if !known {
				t.Errorf("%s: folder %q has no import rule: add it to ARCHITECTURE.md and to this table", file, folder)
				continue
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, spec := range parsed.Imports {
				imported, _ := strconv.Unquote(spec.Path.Value)
				ours, is := strings.CutPrefix(imported, module+"/")
				if !is {
					continue
				}
				seen++
				if !slices.Contains(rule, ours) {
					t.Errorf("%s imports %s: %s may import %v only", file, ours, folder, rule)
				}
			}
		}
	}
	if seen == 0 {
		t.Fatal("no import of our own was seen: the walk looks in the wrong place")
	}
}

func TestFileSize(t *testing.T) {
	for folder, files := range goFiles(t) {
		if len(files) == 0 {
			t.Fatalf("no files in %s", folder)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(data), "\n"); n > maxLines && !strings.HasSuffix(file, "_test.go") {
				t.Errorf("%s has %d lines: split it (at most %d)", file, n, maxLines)
			}
		}
	}
}

// TestPackageDocs: each package says in doc.go what it promises; a command's
// doc is in main.go, and a folder of tests needs none.
func TestPackageDocs(t *testing.T) {
	for folder, files := range goFiles(t) {
		if !slices.ContainsFunc(files, func(f string) bool { return !strings.HasSuffix(f, "_test.go") }) || strings.HasPrefix(folder, "cmd/") {
			continue
		}
		if !slices.ContainsFunc(files, func(f string) bool { return filepath.Base(f) == "doc.go" }) {
			t.Errorf("%s has no doc.go", folder)
		}
	}
}
