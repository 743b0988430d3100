package e2e

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/gdamore/tcell/v3/vt"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// window is a terminal with a command in it.
type window struct {
	t    *testing.T
	cmd  *exec.Cmd
	ptmx *os.File // the keys are written to it
	tty  *os.File // the other end, kept open so that its state can be read when the command has ended

	mu     sync.Mutex
	screen vt.MockTerm
	raw    bytes.Buffer // all that was printed
}

// open runs the built binary in a terminal.
func open(t *testing.T, width, height int, env []string, args ...string) *window {
	t.Helper()
	w := &window{t: t, cmd: exec.Command(binary, args...)}
	w.screen = vt.NewMockTerm(vt.MockOptSize{X: vt.Col(width), Y: vt.Row(height)})
	if err := w.screen.Start(); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.ptmx, w.tty, err = pty.Open(); err != nil {
		t.Skipf("no terminal can be made: %v", err)
	}
	w.size(width, height)
	w.cmd.Stdin, w.cmd.Stdout, w.cmd.Stderr = w.tty, w.tty, w.tty
	w.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	w.cmd.Env = append(append(os.Environ(), "TERM=xterm-256color", "LC_ALL=C.UTF-8"), env...)
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var copies sync.WaitGroup
	copies.Go(func() {
		b := make([]byte, 4096)
		for {
			n, err := w.ptmx.Read(b)
			if err != nil {
				return
			}
			w.mu.Lock()
			w.raw.Write(b[:n])
			_, _ = w.screen.Write(b[:n])
			w.mu.Unlock()
		}
	})
	copies.Go(func() { _, _ = io.Copy(w.ptmx, w.screen) }) // what the terminal answers
	t.Cleanup(func() {
		_ = w.cmd.Process.Kill()
		_ = w.tty.Close()
		_ = w.screen.Stop()
		_ = w.screen.Close()
		_ = w.ptmx.Close()
		copies.Wait()
	})
	return w
}

func (w *window) size(width, height int) {
	w.t.Helper()
	w.screen.SetSize(vt.Coord{X: vt.Col(width), Y: vt.Row(height)})
	if err := pty.Setsize(w.ptmx, &pty.Winsize{Cols: uint16(width), Rows: uint16(height)}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *window) press(keys string) {
	w.t.Helper()
	if _, err := w.ptmx.WriteString(keys); err != nil {
		w.t.Fatal(err)
	}
}

// lines are what the window shows, without the spaces at the ends.
func (w *window) lines(width, height int) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := make([]string, height)
	for y := range lines {
		var line strings.Builder
		for x := range width {
			c := w.screen.GetCell(vt.Coord{X: vt.Col(x), Y: vt.Row(y)}).C
			if c == "" {
				c = " "
			}
			line.WriteString(c)
		}
		lines[y] = strings.TrimRight(line.String(), " ")
	}
	return lines
}

// wait waits until the window shows what ok wants.
func (w *window) wait(what string, width, height int, ok func(lines []string) bool) {
	w.t.Helper()
	var lines []string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if lines = w.lines(width, height); ok(lines) {
			return
		}
	}
	w.t.Fatalf("%s: the window shows\n%s", what, strings.Join(lines, "\n"))
}

// printed reports whether a text was sent to the terminal.
func (w *window) printed(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Contains(w.raw.String(), text)
}

// wantRestored fails unless the command ends as told and has left the terminal as it was.
func (w *window) wantRestored(before *term.State, code int) {
	w.t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- w.cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(patience):
		w.t.Fatal("it does not end")
	}
	if got := w.cmd.ProcessState.ExitCode(); got != code {
		w.t.Errorf("exit code %d; want %d", got, code)
	}
	after, err := term.GetState(int(w.tty.Fd()))
	if err != nil || *after != *before {
		w.t.Errorf("the terminal was %v and is %v, %v", before, after, err)
	}
	w.wait("the other screen is left", 1, 1, func([]string) bool { return w.printed("\x1b[?1049l") })
}

func contains(lines []string, words ...string) bool {
	all := strings.Join(lines, "\n")
	for _, word := range words {
		if !strings.Contains(all, word) {
			return false
		}
	}
	return true
}

// TestTop drives "devlxd top" in a terminal: what it shows, keys, another size of the window, a daemon that ends, and the terminal
// afterwards.
func TestTop(t *testing.T) {
	d := serve(t)
	for _, name := range []string{"alpha", "beta", "gamma", "delta"} {
		d.CLI("container", "add", name)
	}
	w := open(t, 80, 20, nil, "top", "--run-dir", d.RunDir, "--interval", "100ms")
	before, err := term.GetState(int(w.tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	w.wait("at first", 80, 20, func(lines []string) bool {
		return contains(lines, "health ok", "4 containers", "sorted by requests", "REQ/S", "LOST", "alpha", "beta", "delta", "gamma")
	})
	w.press("l")
	w.wait("sorted by another column", 80, 20, func(lines []string) bool { return contains(lines, "sorted by lag") })
	w.press("h")
	w.wait("help", 80, 20, func(lines []string) bool { return contains(lines, "sort the containers by") })
	w.press("n")
	w.size(50, 7)
	w.wait("a small window", 50, 7, func(lines []string) bool {
		return contains(lines, "sorted by name", "REQ/S") && !contains(lines, "LOST") && lines[5] == strings.TrimSpace(lines[5]) &&
			strings.HasPrefix(lines[5], "alpha") && strings.HasPrefix(lines[6], "beta")
	})
	for _, first := range []string{"beta", "delta"} {
		w.press("\x1b[B") // down
		w.wait("further down", 50, 7, func(lines []string) bool { return strings.HasPrefix(lines[5], first) })
	}
	d.CLI("container", "remove", "delta")
	w.wait("one less", 50, 7, func(lines []string) bool {
		return contains(lines, "3 containers") && strings.HasPrefix(lines[5], "gamma")
	})
	if err := d.Cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-d.Exited
	d.Cmd = nil
	w.wait("the daemon has ended", 50, 7, func(lines []string) bool { return contains(lines, "ago: cannot reach devlxd") })
	w.press("q")
	w.wantRestored(before, 0)
}

// TestTopRestoresTheTerminal: also when a signal ends it, and without colours where none are wanted.
func TestTopRestoresTheTerminal(t *testing.T) {
	d := serve(t)
	for name, end := range map[string]func(*window) error{
		"SIGTERM": func(w *window) error { return w.cmd.Process.Signal(unix.SIGTERM) },
		"SIGHUP":  func(w *window) error { return w.cmd.Process.Signal(unix.SIGHUP) },
		"Ctrl-C": func(w *window) error {
			w.press("\x03")
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := open(t, 80, 10, []string{"NO_COLOR=1"}, "top", "--run-dir", d.RunDir)
			before, err := term.GetState(int(w.tty.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			w.wait("at first", 80, 10, func(lines []string) bool { return contains(lines, "health ok") })
			if w.printed("\x1b[32m") || w.printed("\x1b[38;") {
				t.Error("there is colour")
			}
			if err := end(w); err != nil {
				t.Fatal(err)
			}
			w.wantRestored(before, 0)
		})
	}
}

// TestTopOfADumbTerminal: lists one after the other, and nothing that such a terminal could not show.
func TestTopOfADumbTerminal(t *testing.T) {
	d := serve(t)
	d.CLI("container", "add", "alpha")
	w := open(t, 80, 10, []string{"TERM=dumb"}, "top", "--run-dir", d.RunDir, "--interval", "100ms")
	w.wait("two lists", 1, 1, func([]string) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return bytes.Count(w.raw.Bytes(), []byte("\nalpha ")) >= 2
	})
	if w.printed("\x1b") {
		t.Error("there are escape sequences")
	}
}
