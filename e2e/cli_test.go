package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// step is a command of a transcript with what it must do.
type step struct {
	command, stdout, stderr string
	code                    int
}

// String is the step as a transcript has it.
func (s step) String() string {
	text := "$ " + s.command + "\n" + s.stdout
	for line := range strings.Lines(s.stderr) {
		text += "! " + line
	}
	if s.code != 0 {
		text += fmt.Sprintln("?", s.code)
	}
	return text
}

// transcript reads a file of testdata/cli. After "$ COMMAND", a line of a shell, stand the lines that it prints, with "! " in
// front of those on standard error, and "? CODE" if it does not end with 0. "# " begins a comment, and <any> is any text.
func transcript(t *testing.T, file string) (steps []step) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		last := len(steps) - 1
		switch mark, rest, _ := strings.Cut(line, " "); {
		case line == "\n" || mark == "#":
		case mark == "$":
			steps = append(steps, step{command: strings.TrimSpace(rest)})
		case mark == "!":
			steps[last].stderr += rest
		case mark == "?":
			_, err = fmt.Sscan(rest, &steps[last].code)
		default:
			steps[last].stdout += line
		}
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return steps
}

var padding = regexp.MustCompile(`(\S)  +`)

// matches compares a text with a pattern; how wide the columns of a table are depends on its other lines.
func matches(text, pattern string) bool {
	squeeze := func(s string) string { return padding.ReplaceAllString(s, "$1  ") }
	quoted := strings.ReplaceAll(regexp.QuoteMeta(squeeze(pattern)), "<any>", ".*")
	return regexp.MustCompile(`^` + quoted + `$`).MatchString(squeeze(text))
}

// TestCommandLine runs the transcripts, each against a daemon of its own and next to two containers that it knows nothing of.
func TestCommandLine(t *testing.T) {
	files, err := filepath.Glob("testdata/cli/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			d := serve(t)
			vars := []string{"$RUN_DIR", d.RunDir, "$STATE_DIR", d.StateDir,
				"$WEB", fmt.Sprint(d.Container("web").PID()), "$DB", fmt.Sprint(d.Container("db").PID())}
			env := append(os.Environ(), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"), "DEVLXD_RUN_DIR="+d.RunDir)
			for i := 0; i < len(vars); i += 2 {
				env = append(env, vars[i][1:]+"="+vars[i+1])
			}
			expand, dir := strings.NewReplacer(vars...), t.TempDir()
			for _, s := range transcript(t, file) {
				stdout, stderr, code := s.run(t, dir, env)
				if code != s.code || !matches(stdout, expand.Replace(s.stdout)) || !matches(stderr, expand.Replace(s.stderr)) {
					t.Errorf("want\n%s\ngot\n%s", s, step{s.command, stdout, stderr, code})
				}
			}
		})
	}
}

// run runs the command; one that hangs is killed together with what it started.
func (s step) run(t *testing.T, dir string, env []string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, "sh", "-c", s.command)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}
