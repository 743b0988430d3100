package main

import (
	"errors"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// commands calls f with every command below cmd that does something.
func commands(cmd *cobra.Command, f func(*cobra.Command)) {
	if !cmd.HasSubCommands() {
		f(cmd)
	}
	for _, sub := range cmd.Commands() {
		commands(sub, f)
	}
}

// TestEveryCommandChecksItsCall: what no command takes is refused by every one, before it does anything.
func TestEveryCommandChecksItsCall(t *testing.T) {
	n := 0
	commands(newRootCommand(), func(cmd *cobra.Command) {
		n++
		path := strings.Fields(cmd.CommandPath())[1:]
		t.Run(strings.Join(path, " "), func(t *testing.T) {
			calls := [][]string{{"--nope"}, {""}}
			if !strings.Contains(cmd.Use, "...") {
				calls = append(calls, strings.Fields(strings.Repeat("x ", 9)))
			}
			if cmd.Flags().Lookup("format") != nil {
				calls = append(calls, []string{"-f", "xml"}, []string{"--format="})
			}
			for _, args := range calls {
				root := newRootCommand()
				root.SetArgs(append(append([]string{}, path...), args...))
				root.SetOut(failingWriter{t})
				root.SetErr(failingWriter{t})
				if err := root.Execute(); !errors.As(err, new(usage)) {
					t.Errorf("with %q: %v, want a usage error", args, err)
				}
			}
		})
	})
	if n < 20 {
		t.Errorf("%d commands were found", n)
	}
}

// failingWriter refuses what a command prints before it has checked its call.
type failingWriter struct{ t *testing.T }

func (w failingWriter) Write(p []byte) (int, error) {
	w.t.Errorf("printed %q", p)
	return len(p), nil
}

func TestArguments(t *testing.T) {
	for _, tc := range []struct{ use, args, want string }{
		{"status", "", ""},
		{"status", "x", `takes no arguments, "x" is too much`},
		{"show NAME", "", "needs NAME"},
		{"show NAME", "a", ""},
		{"show NAME", "a b", `takes only NAME, "b" is too much`},
		{"bind NAME --pid PID", "a", ""},
		{"bind NAME --pid PID", "a b", `takes only NAME, "b" is too much`},
		{"set NAME KEY=VALUE...", "a", "needs NAME and KEY=VALUE"},
		{"set NAME KEY=VALUE...", "a b c d", ""},
		{"set NAME KEY=VALUE...", "a b c -", "KEY=VALUE is empty"},
		{"set NAME KEY=VALUE...", "- b", "NAME is empty"},
		{"add NAME DEVICE TYPE [KEY=VALUE...]", "a b", "needs NAME, DEVICE and TYPE"},
		{"add NAME DEVICE TYPE [KEY=VALUE...]", "a b c", ""},
		{"add NAME DEVICE TYPE [KEY=VALUE...]", "a b c d e", ""},
		{"import FILE [ROOTFS]", "a b", ""},
		{"import FILE [ROOTFS]", "a b c", `takes only FILE and ROOTFS, "c" is too much`},
	} {
		args := strings.Fields(tc.args)
		for i, arg := range args {
			args[i] = strings.TrimPrefix(arg, "-") // "-" stands for an empty one
		}
		got := ""
		if err := checkArguments(&cobra.Command{Use: tc.use}, args); err != nil {
			got = err.Error()
			if !errors.As(err, new(usage)) {
				t.Errorf("%s, %q: %v is no usage error", tc.use, args, err)
			}
		}
		if got != tc.want {
			t.Errorf("%s, %q: %q, want %q", tc.use, args, got, tc.want)
		}
	}
}

func TestPairs(t *testing.T) {
	got, err := pairs([]string{"a=1", "b=", "c=x=y", "d=-", "e= - "}, strings.NewReader("in\n"))
	want := map[string]string{"a": "1", "b": "", "c": "x=y", "d": "in\n", "e": " - "}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("pairs = %q, %v; want %q", got, err, want)
	}
	for _, args := range [][]string{{"a"}, {"=a"}, {""}, {"a=1", "a=2"}, {"a=-", "b=-"}} {
		if got, err := pairs(args, strings.NewReader("")); !errors.As(err, new(usage)) {
			t.Errorf("pairs(%q) = %q, %v; want a usage error", args, got, err)
		}
	}
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if _, err := pairs([]string{"a=-"}, dir); err == nil || errors.As(err, new(usage)) {
		t.Errorf("standard input that is a directory: %v; want a failure", err)
	}
}

// TestDashOnATerminal: nothing is waited for there.
func TestDashOnATerminal(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0) // its master is one too
	if err != nil {
		t.Skipf("needs a pseudo-terminal: %v", err)
	}
	defer terminal.Close()
	got, err := pairs([]string{"a=-", "b=-"}, terminal)
	if want := map[string]string{"a": "-", "b": "-"}; err != nil || !maps.Equal(got, want) {
		t.Errorf("pairs = %q, %v; want %q", got, err, want)
	}
}

func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{"a": "a", "a\nb": "a; b", "a\r\n\r\nb\n": "a; b", "": ""} {
		if got := oneLine(errors.New(text)); got != want {
			t.Errorf("oneLine(%q) = %q, want %q", text, got, want)
		}
	}
}
