package systemd

import (
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"devlxd/internal/markdown"
)

// foreign are flags of other programs that stand alone in a document.
var foreign = []string{"bind-ro", "noproxy"}

// TestDocumentLinks: what a document links to in the checkout is there, and so is the heading.
func TestDocumentLinks(t *testing.T) {
	docs := make(map[string]*markdown.Document)
	for _, path := range documents(t) {
		docs[path] = readDocument(t, path)
	}
	seen := 0
	for path, doc := range docs {
		for _, link := range doc.Links {
			u, err := url.Parse(link.Text)
			if err != nil {
				t.Errorf("%s:%d: %v", path, link.Line, err)
				continue
			}
			if u.Scheme != "" {
				continue
			}
			seen++
			target := path
			if u.Path != "" {
				target = filepath.Join(filepath.Dir(path), u.Path)
			}
			if _, err := os.Stat(filepath.Join(repository, target)); err != nil {
				t.Errorf("%s:%d: link to %s: %v", path, link.Line, link.Text, err)
			} else if other := docs[target]; u.Fragment != "" && (other == nil || !other.Anchors[u.Fragment]) {
				t.Errorf("%s:%d: link to %s: there is no such heading", path, link.Line, link.Text)
			}
		}
	}
	if seen == 0 {
		t.Fatal("no link was seen")
	}
}

// command is a command line of devlxd or devlxd-load: its name, or that of a command below it, and the flags that it takes.
type command struct {
	flags []string
	below []string
	any   bool // it takes words that are no commands
}

var (
	helpFlag    = regexp.MustCompile(`(?m)^ +(?:-(\w), )?(?:    )?--([a-z][a-z-]*)`)
	helpCommand = regexp.MustCompile(`(?m)^  ([a-z][a-z-]*)  `)
	call        = regexp.MustCompile(`(?:^|[\n(|;&] *|[A-Z_]+=\S+ |bin/|\./cmd/)(devlxd|devlxd-load)((?:[ \t]+(?:\\\n)?[^ \t\n;|&)]+)+)`)
	loneFlag    = regexp.MustCompile(`^--([a-z][a-z-]*)`)
	variable    = regexp.MustCompile(`\bDEVLXD_[A-Z_]+\b`)
	metric      = regexp.MustCompile(`\bdevlxd_[a-z_]+[a-z]\b`)
	word        = regexp.MustCompile(`^[a-z][a-z-]*$`)
)

// readHelp asks a program for its commands and their flags.
func readHelp(t *testing.T, program string, tree map[string]command, path ...string) {
	t.Helper()
	out, err := exec.Command(program, append(slices.Clone(path), "--help")...).Output()
	if err != nil {
		t.Fatalf("%v --help: %v", path, err)
	}
	text := string(out)
	var c command
	for _, m := range helpFlag.FindAllStringSubmatch(text, -1) {
		c.flags = append(c.flags, m[2])
	}
	if _, list, ok := strings.Cut(text, "Available Commands:\n"); ok {
		list, _, _ = strings.Cut(list, "\n\n")
		for _, m := range helpCommand.FindAllStringSubmatch(list, -1) {
			c.below = append(c.below, m[1])
			readHelp(t, program, tree, append(slices.Clone(path), m[1])...)
		}
	}
	c.any = len(c.below) == 0
	tree[strings.Join(append([]string{filepath.Base(program)}, path...), " ")] = c
}

// check compares the words of a command line with the tree, and says what is wrong; "": nothing.
func (c command) check(tree map[string]command, path string, words []string) string {
	for _, w := range words {
		flag, _, _ := strings.Cut(strings.TrimPrefix(w, "--"), "=")
		switch {
		case strings.HasPrefix(w, "#"):
			return ""
		case strings.HasPrefix(w, "--"):
			if !slices.Contains(c.flags, flag) && flag != "version" && flag != "help" {
				return path + " has no flag --" + flag
			}
		case slices.Contains(c.below, w):
			path += " " + w
			c = tree[path]
		case !c.any && word.MatchString(w) && w != "completion":
			return path + " has no command " + w
		default:
			c.any = true
		}
	}
	return ""
}

// TestDocumentNames: the commands, flags, environment variables and metrics that documents name are there.
func TestDocumentNames(t *testing.T) {
	tree := make(map[string]command)
	load := filepath.Join(t.TempDir(), "devlxd-load")
	if out, err := exec.Command("go", "build", "-o", load, "devlxd/cmd/devlxd-load").CombinedOutput(); err != nil {
		t.Fatalf("cannot build devlxd-load: %v\n%s", err, out)
	}
	readHelp(t, binary, tree)
	readHelp(t, load, tree)
	flags := slices.Clone(foreign)
	for _, c := range tree {
		flags = append(flags, c.flags...)
	}
	var metrics []string
	// Those of a mirror are there only while there is one, and held by a test of its own.
	for _, file := range []string{"../testdata/metrics.txt", "../../source/lxd/metrics_test.go"} {
		golden, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		metrics = append(metrics, metric.FindAllString(string(golden), -1)...)
	}
	variables := variablesOfSource(t)
	for _, path := range documents(t) {
		if path == "CHANGELOG.md" {
			continue // of what was, too
		}
		for _, code := range readDocument(t, path).Code {
			for _, m := range call.FindAllStringSubmatch(code.Text, -1) {
				if fault := tree[m[1]].check(tree, m[1], strings.Fields(m[2])); fault != "" {
					t.Errorf("%s:%d: %s: %s", path, code.Line, strings.TrimSpace(m[0]), fault)
				}
			}
			if m := loneFlag.FindStringSubmatch(code.Text); m != nil && !slices.Contains(flags, m[1]) {
				t.Errorf("%s:%d: no command has the flag --%s", path, code.Line, m[1])
			}
			for _, name := range variable.FindAllString(code.Text, -1) {
				if !variables[name] {
					t.Errorf("%s:%d: nothing reads %s", path, code.Line, name)
				}
			}
			for _, name := range metric.FindAllString(code.Text, -1) {
				base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
				if !slices.Contains(metrics, name) && !slices.Contains(metrics, base) {
					t.Errorf("%s:%d: there is no metric %s", path, code.Line, name)
				}
			}
		}
	}
}

// variablesOfSource are the environment variables that Go files and the scripts of CI name.
func variablesOfSource(t *testing.T) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	err := filepath.WalkDir(repository, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`"(DEVLXD_[A-Z_]+)`).FindAllStringSubmatch(string(text), -1) {
			names[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
