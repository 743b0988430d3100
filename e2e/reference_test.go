package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// completionDir and manDir have what packaging/release puts into the packages.
const (
	completionDir = "../packaging/completions"
	manDir        = "../packaging/man"
)

// TestCompletions: each shell loads its scripts and completes a command by asking the program.
func TestCompletions(t *testing.T) {
	dir, err := filepath.Abs(completionDir)
	if err != nil {
		t.Fatal(err)
	}
	for shell, script := range map[string]string{
		"bash": `. /usr/share/bash-completion/bash_completion; . "$DIR/devlxd.bash"; . "$DIR/devlxd-load.bash"
			COMP_WORDS=(devlxd contai); COMP_CWORD=1; COMP_LINE="devlxd contai"; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9
			complete -p devlxd devlxd-load >/dev/null && __start_devlxd && echo "${COMPREPLY[@]}"`,
		"fish": `source $DIR/devlxd-load.fish; and source $DIR/devlxd.fish; and complete --do-complete "devlxd contai"`,
		// What zsh shows needs a terminal; that the function is bound to the program, and what it is told, do not.
		"zsh": `autoload -Uz compinit && compinit -D && . "$DIR/_devlxd-load" && . "$DIR/_devlxd" &&
			[[ $_comps[devlxd] = _devlxd && $_comps[devlxd-load] = _devlxd-load ]] && devlxd __complete contai 2>/dev/null`,
	} {
		t.Run(shell, func(t *testing.T) {
			need(t, shell)
			if _, err := os.Stat("/usr/share/bash-completion/bash_completion"); shell == "bash" && errors.Is(err, os.ErrNotExist) {
				t.Skip("needs bash-completion")
			}
			cmd := exec.Command(shell, "-c", script)
			cmd.Env = append(os.Environ(), "DIR="+dir, "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"), "HOME="+t.TempDir())
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "container") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// TestManPages: mandoc, which reads them more strictly than man, has nothing against them but that the package dates them.
func TestManPages(t *testing.T) {
	need(t, "mandoc")
	pages, err := filepath.Glob(filepath.Join(manDir, "*.[1-8]"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	out, _ := exec.Command("mandoc", append([]string{"-T", "lint", "-W", "warning"}, pages...)...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, `missing date, using ""`) {
			t.Error(line)
		}
	}
}
