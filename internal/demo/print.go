package demo

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// Style says how a tour is written. The zero value is what goes into a file.
type Style struct {
	// Color allows escape sequences.
	Color bool
	// ASCII writes "ok" in place of a check mark.
	ASCII bool
}

// StyleOf returns the style for a file: colour only on a terminal, and not where the
// user does not want it (https://no-color.org) or the terminal has none.
func StyleOf(f *os.File) Style {
	dumb := os.Getenv("TERM") == "dumb"
	return Style{
		Color: !dumb && os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(f.Fd())),
		ASCII: dumb,
	}
}

// Escape sequences of ECMA-48 (SGR).
const (
	bold   = "1"
	dim    = "2"
	green  = "32"
	yellow = "33"
)

// printer writes the tour and keeps count. The first error of its writer is kept in
// err; nothing is written after it.
type printer struct {
	w       io.Writer
	style   Style
	mark    string
	number  int // of the last heading
	checks  int // that held
	leftOut int
	err     error
}

func newPrinter(w io.Writer, s Style) *printer {
	p := &printer{w: w, style: s, mark: "✓"}
	if s.ASCII {
		p.mark = "ok"
	}
	return p
}

func (p *printer) print(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

func (p *printer) paint(code, text string) string {
	if !p.style.Color || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p *printer) gap() { p.print("\n") }

// heading begins the next numbered part.
func (p *printer) heading(title string) {
	if p.number > 0 {
		p.gap()
	}
	p.number++
	p.print("%s\n", p.paint(bold, fmt.Sprintf("%d. %s", p.number, title)))
}

// say is a line of text that explains what follows.
func (p *printer) say(format string, args ...any) {
	p.print("   %s\n", fmt.Sprintf(format, args...))
}

// command is a line to be typed: on the host, or as root in a container.
func (p *printer) command(where string, argv ...string) {
	p.shell(where, quoteAll(argv))
}

// shell is a line to be typed that is more than one command.
func (p *printer) shell(where, line string) {
	prompt := "$ "
	if where != "" {
		prompt = where + "# "
	}
	p.print("   %s\n", p.paint(dim, prompt+line))
}

// ok is a check that held. Further lines of the text are indented.
func (p *printer) ok(format string, args ...any) {
	text := strings.TrimRight(fmt.Sprintf(format, args...), "\n")
	text = strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", 4+len([]rune(p.mark))))
	p.print("   %s %s\n", p.paint(green, p.mark), text)
}

// check counts and prints a check that held.
func (p *printer) check(format string, args ...any) {
	p.checks++
	p.ok(format, args...)
}

// skip says what this host does not allow to be shown.
func (p *printer) skip(why string) {
	p.leftOut++
	p.print("   %s\n", p.paint(yellow, "- left out: "+why))
}

// quoteAll writes arguments as a shell reads them.
func quoteAll(argv []string) string {
	quoted := make([]string, len(argv))
	for i, arg := range argv {
		quoted[i] = quote(arg)
	}
	return strings.Join(quoted, " ")
}

const unquoted = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=@%+,"

// quote writes one argument as a shell reads it.
func quote(arg string) string {
	switch {
	case arg != "" && strings.Trim(arg, unquoted) == "":
		return arg
	case strings.ContainsAny(arg, "\n\t"):
		// The form for which a line stays a line; sh of POSIX.1-2024 has it, too.
		return "$'" + strings.NewReplacer(`\`, `\\`, "'", `\'`, "\n", `\n`, "\t", `\t`).Replace(arg) + "'"
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}
