package sandbox

import (
	"context"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCommandEnds(t *testing.T) {
	c := started(t, Options{Name: "web"})
	for _, tc := range []struct {
		name   string
		cmd    *Cmd
		out    string
		code   int
		signal unix.Signal
		text   string // in the error; "" for none
	}{
		{"prints", c.Command(t.Context(), "sh", "-c", "echo one; echo two"), "one\ntwo\n", 0, 0, ""},
		{"exit code", c.Guest(t.Context(), "code"), "", 3, 0, "code: exit code 3: as told"},
		{"signal", c.Command(t.Context(), "sh", "-c", "kill -TERM $$"), "", -1, unix.SIGTERM, "sh: terminated"},
		{"not found", c.Command(t.Context(), "no-such-program"), "", 0, 0, "no-such-program: not found in PATH="},
		{"no such file", c.Command(t.Context(), "/no/such/file"), "", 0, 0, "start /no/such/file: no such file"},
		{"no such role", c.Guest(t.Context(), "no-such-role"), "", exitRole, 0, "no guest function of this name"},
		{"orphan that keeps the output", c.Command(t.Context(), "sh", "-c", "echo one; sleep 1000 >/dev/null 2>&1 &"), "one\n", 0, 0, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, err := tc.cmd.Output()
			if string(out) != tc.out {
				t.Errorf("output = %q, want %q", out, tc.out)
			}
			if tc.text == "" && err != nil || tc.text != "" && (err == nil || !strings.Contains(err.Error(), tc.text)) {
				t.Fatalf("error = %v, want %q", err, tc.text)
			}
			if exit := (&ExitError{}); errors.As(err, &exit) && (exit.Code != tc.code || exit.Signal != tc.signal && tc.signal != 0) {
				t.Errorf("ended with %d, %v, want %d, %v", exit.Code, exit.Signal, tc.code, tc.signal)
			}
		})
	}
}

func TestCommandSettings(t *testing.T) {
	c := started(t, Options{Name: "web"})
	m := c.Command(t.Context(), "sh", "-c", "pwd; echo $GREETING; echo $HOME")
	m.Dir, m.Env = "/tmp", []string{"GREETING=hello"}
	out, err := m.Output()
	if err != nil || string(out) != "/tmp\nhello\n/root\n" {
		t.Errorf("got %q, %v, want the directory, the variable and the home", out, err)
	}
}

func TestCommandIsKilledWithContext(t *testing.T) {
	c := started(t, Options{Name: "web"})
	for _, nested := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		m := c.Guest(ctx, "hang")
		m.PidNS = nested
		startLines(t, m)()
		cancel()
		if err := m.Wait(); !errors.Is(err, context.Canceled) {
			t.Errorf("Wait = %v, want %v", err, context.Canceled)
		}
	}
	if out, err := c.Guest(t.Context(), "facts").Output(); err != nil || !strings.Contains(string(out), "processes=2 ") {
		t.Errorf("got %s, %v, want that only init and the guest are left", out, err)
	}
}

func TestCommandGrandchildKeepsOutput(t *testing.T) {
	c := started(t, Options{Name: "web"})
	ctx, cancel := context.WithCancel(t.Context())
	var out strings.Builder
	m := c.Command(ctx, "sh", "-c", "sleep 1000 &")
	m.Stdout = &out
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := m.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Wait = %v, want nil or %v", err, context.Canceled)
	}
}

func TestCommandMisuse(t *testing.T) {
	c := started(t, Options{Name: "web"})
	done, cancel := context.WithCancel(t.Context())
	cancel()
	twice := c.Command(t.Context(), "true")
	if err := twice.Run(); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		err  error
		want error
	}{
		{"started twice", twice.Start(), ErrStarted},
		{"waited for before its start", c.Command(t.Context(), "true").Wait(), ErrStarted},
		{"without a name", c.Command(t.Context()).Start(), ErrStarted},
		{"context done", c.Command(done, "true").Start(), context.Canceled},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if !errors.Is(tc.err, tc.want) {
				t.Errorf("got %v, want %v", tc.err, tc.want)
			}
		})
	}
	if err := c.Command(t.Context(), "true", strings.Repeat("x", maxPacket)).Run(); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("arguments of %d bytes: %v, want that they are too long", maxPacket, err)
	}
	if err := c.Command(t.Context(), "true").Run(); err != nil {
		t.Errorf("a command after all this: %v", err)
	}
}
