package systemd

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"devlxd/internal/markdown"
)

// repository is the root of the checkout, from the folder of this package.
const repository = "../.."

// documentTime bounds the commands of a document.
const documentTime = 5 * time.Minute

// notRun is how many blocks of a document are marked as not to be run.
var notRun = map[string]int{"README.md": 3, "HACKING.md": 1, "bench/README.md": 4, "docs/guest.md": 2, "docs/operating.md": 1, "docs/releasing.md": 1, "docs/runbook.md": 9}

// runs reports whether the commands of a document are run: of those for users and for engineers. The pages of the
// commands are generated.
func runs(path string) bool {
	return path == "README.md" || path == "HACKING.md" || path == "bench/README.md" ||
		strings.HasPrefix(path, "docs/") && !strings.HasPrefix(path, "docs/cli/")
}

// documents are the paths of all documents, from the root of the checkout.
func documents(t *testing.T) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(repository, func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && path != repository && (name == "node_modules" || strings.HasPrefix(name, ".")):
			return filepath.SkipDir
		case strings.HasSuffix(name, ".md"):
			rel, err := filepath.Rel(repository, path)
			paths = append(paths, filepath.ToSlash(rel))
			return err
		}
		return nil
	})
	if err != nil || len(paths) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	return paths
}

func readDocument(t *testing.T, path string) *markdown.Document {
	t.Helper()
	doc, err := markdown.Read(filepath.Join(repository, path))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestDocuments runs the commands of each document, from its beginning to its end, in one shell of a machine of its own: as root, in
// a checkout, with Go, with the daemon and its units installed as a package does, and without a network.
func TestDocuments(t *testing.T) {
	for _, path := range documents(t) {
		if !runs(path) {
			continue
		}
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			doc := readDocument(t, path)
			for _, f := range doc.Faults {
				t.Errorf("%s:%d: %s", path, f.Line, f.Text)
			}
			for _, m := range doc.NotRun {
				t.Logf("%s:%d: not run: %s", path, m.Line, m.Text)
			}
			if got, want := len(doc.NotRun), notRun[path]; got != want {
				t.Errorf("%d blocks are marked as not to be run; want %d, as in the table of this test", got, want)
			}
			if len(doc.Steps) > 0 {
				runDocument(t, path, doc.Steps)
			}
		})
	}
}

// runDocument boots a machine and runs the steps in it.
func runDocument(t *testing.T, path string, steps []markdown.Step) {
	t.Helper()
	checkout, err := filepath.Abs(repository)
	if err != nil {
		t.Fatal(err)
	}
	env := goEnvironment(t)
	shared := []string{env["GOROOT"], env["GOCACHE"], env["GOMODCACHE"]}
	m := bootMachine(t, plan{Binary: binary, Units: "../../packaging/systemd", Checkout: checkout, Shared: shared})
	dir := "/run/document"
	if err := os.Mkdir(m.path(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	// A user namespace may mount /proc only where one is there without anything over it.
	m.run("mount", "--mkdir", "-t", "proc", "proc", dir+"/proc")
	writeScripts(t, m.path(dir), steps)
	args := []string{"systemd-run", "--quiet", "--unit=document", "--property=Delegate=yes", "--property=StandardOutput=null", "--working-directory=" + checkout,
		"--setenv=HOME=/root", "--setenv=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:" + env["GOROOT"] + "/bin"}
	for name, value := range env {
		args = append(args, "--setenv="+name+"="+value)
	}
	m.run(append(args, "bash", dir+"/document")...)
	// Its shell ends with the last step, or with one that a script fails at.
	for end := time.Now().Add(documentTime); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if state, _ := m.try("systemctl", "is-active", "document"); state != "active\n" {
			break
		}
	}
	judgeSteps(t, path, m.path(dir), steps)
}

// goEnvironment is where Go has what it needs to build without a network.
func goEnvironment(t *testing.T) map[string]string {
	t.Helper()
	env := make(map[string]string)
	for _, name := range []string{"GOROOT", "GOCACHE", "GOMODCACHE"} {
		out, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		env[name] = strings.TrimSpace(string(out))
	}
	return env
}

// writeScripts writes each step to a file of its own, and one that runs them in one shell, so that variables and jobs stay.
func writeScripts(t *testing.T, dir string, steps []markdown.Step) {
	t.Helper()
	main := "exec </dev/null\ncode=0\n"
	for i, s := range steps {
		name := filepath.Join("/run/document", strconv.Itoa(i))
		run := ". " + name
		if !s.Checked {
			run = "set -e; . " + name + "; set +e"
		}
		if s.Container != "" {
			run = fmt.Sprintf(`inside_%s sh -c "$(cat %s)"`, s.Container, name)
		}
		// With the exit code of the step before in $?.
		main += fmt.Sprintf("exec 3>&1 4>&2 >%[1]s.out 2>&1\n(exit $code); %[2]s\ncode=$?; exec >&3 2>&4 3>&- 4>&-; echo $code >%[1]s.code\n", name, run)
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), []byte(s.Command+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// What still runs is ended with the machine.
	if err := os.WriteFile(filepath.Join(dir, "document"), []byte(main), 0o600); err != nil {
		t.Fatal(err)
	}
}

// judgeSteps compares what the steps did with what is written.
func judgeSteps(t *testing.T, path, dir string, steps []markdown.Step) {
	t.Helper()
	for i, s := range steps {
		name := filepath.Join(dir, strconv.Itoa(i))
		out, err := os.ReadFile(name + ".out")
		if err != nil {
			t.Errorf("%s:%d: not reached: %s", path, s.Line, s.Command)
			return
		}
		code, _ := os.ReadFile(name + ".code")
		code = bytes.TrimSpace(code)
		asked := s.Checked && i+1 < len(steps) && steps[i+1].Command == "echo $?"
		switch {
		case string(code) != "0" && !asked:
			t.Errorf("%s:%d: %s\nended with %q and printed\n%s", path, s.Line, s.Command, code, out)
		case s.Checked && !markdown.Matches(string(out), s.Want):
			t.Errorf("%s:%d: %s\nprinted\n%s\nwant\n%s", path, s.Line, s.Command, out, s.Want)
		}
		if len(code) == 0 {
			return
		}
	}
}
