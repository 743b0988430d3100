package demo

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestQuote(t *testing.T) {
	for arg, want := range map[string]string{
		"":                      "''",
		"user.role=a/b:c@d%e,f": "user.role=a/b:c@d%e,f",
		"a b":                   "'a b'",
		"it's":                  `'it'\''s'`,
		"$HOME *":               "'$HOME *'",
		"one\ntwo\t'\\n'":       `$'one\ntwo\t\'\\n\''`,
		"ünïcode":               "'ünïcode'",
	} {
		if got := quote(arg); got != want {
			t.Errorf("quote(%q) = %s, want %s", arg, got, want)
		}
	}
	if got, want := quoteAll([]string{"a", "b c", ""}), "a 'b c' ''"; got != want {
		t.Errorf("quoteAll = %s, want %s", got, want)
	}
}

// TestQuoteIsRead has a shell read what quote wrote.
func TestQuoteIsRead(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("needs bash in PATH")
	}
	args := []string{"", "a b", "it's", "\"$HOME\" `id` \\ !", "one\ntwo\t'\\n'\\\n", "ünï\n"}
	out, err := exec.Command(bash, "-c", `printf '<%s>' `+quoteAll(args)).Output()
	if want := "<" + strings.Join(args, "><") + ">"; err != nil || string(out) != want {
		t.Errorf("bash reads %q, %v, want %q", out, err, want)
	}
}

// terminal opens the user's end of a new pseudoterminal (pty(7)).
func terminal(t *testing.T) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("needs pseudoterminals: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestStyle(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	tty := terminal(t)
	for _, tc := range []struct {
		name, term, noColor string
		file                *os.File
		want                Style
	}{
		{"terminal", "xterm", "", tty, Style{Color: true}},
		{"NO_COLOR", "xterm", "1", tty, Style{}},
		{"dumb terminal", "dumb", "", tty, Style{ASCII: true}},
		{"file", "xterm", "", file, Style{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("TERM", tc.term)
			t.Setenv("NO_COLOR", tc.noColor)
			if got := StyleOf(tc.file); got != tc.want {
				t.Errorf("StyleOf = %+v, want %+v", got, tc.want)
			}
		})
	}
}

// page prints one of everything.
func page(s Style) (string, *printer) {
	var out bytes.Buffer
	p := newPrinter(&out, s)
	p.heading("First")
	p.say("In %s:", "web")
	p.command("", "devlxd", "status")
	p.shell("web", "ls | wc")
	p.check("%s", "one\ntwo\n")
	p.skip("too old")
	p.heading("Second")
	p.ok("done")
	return out.String(), p
}

func TestPrinter(t *testing.T) {
	for _, tc := range []struct {
		name  string
		style Style
		want  string
	}{
		{"file", Style{}, "1. First\n   In web:\n   $ devlxd status\n   web# ls | wc\n   ✓ one\n     two\n   - left out: too old\n\n2. Second\n   ✓ done\n"},
		{"dumb", Style{ASCII: true}, "1. First\n   In web:\n   $ devlxd status\n   web# ls | wc\n   ok one\n      two\n   - left out: too old\n\n2. Second\n   ok done\n"},
		{"color", Style{Color: true}, "\x1b[1m1. First\x1b[0m\n   In web:\n   \x1b[2m$ devlxd status\x1b[0m\n   \x1b[2mweb# ls | wc\x1b[0m\n   \x1b[32m✓\x1b[0m one\n     two\n" +
			"   \x1b[33m- left out: too old\x1b[0m\n\n\x1b[1m2. Second\x1b[0m\n   \x1b[32m✓\x1b[0m done\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, p := page(tc.style)
			if got != tc.want {
				t.Errorf("got\n%q, want\n%q", got, tc.want)
			}
			if p.checks != 1 || p.leftOut != 1 {
				t.Errorf("counted %d checks and %d left out, want 1 and 1", p.checks, p.leftOut)
			}
		})
	}
}

// fullDisk takes one line.
type fullDisk struct{ lines int }

var errFull = errors.New("disk full")

func (f *fullDisk) Write(b []byte) (int, error) {
	if f.lines++; f.lines > 1 {
		return 0, errFull
	}
	return len(b), nil
}

func TestPrinterKeepsTheFirstError(t *testing.T) {
	disk := &fullDisk{}
	p := newPrinter(disk, Style{})
	for range 4 {
		p.say("a line")
	}
	if !errors.Is(p.err, errFull) || disk.lines != 2 {
		t.Errorf("error %v after %d writes, want %v after 2", p.err, disk.lines, errFull)
	}
}
