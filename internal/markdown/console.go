package markdown

import (
	"regexp"
	"strings"
)

// prompt begins a command: on the host, or in a container that it names.
var prompt = regexp.MustCompile(`^([a-z][a-z0-9]*)?\$ (.*)`)

// console takes the commands of a block apart.
func (r *reader) console(body string) {
	line, first, last := r.line, len(r.doc.Steps), -1
	for text := range strings.Lines(body) {
		text = strings.TrimSuffix(text, "\n")
		switch m := prompt.FindStringSubmatch(text); {
		case m != nil:
			r.doc.Steps = append(r.doc.Steps, Step{Line: line, Container: m[1], Command: m[2], Checked: true})
			last = len(r.doc.Steps) - 1
		case last < 0:
			r.fault(line, "output before the first command: a command begins with \"$ \"")
			return
		case strings.HasPrefix(text, "> ") && r.doc.Steps[last].Want == "":
			r.doc.Steps[last].Command += "\n" + text[2:]
		default:
			r.doc.Steps[last].Want += text + "\n"
		}
		line++
	}
	for _, s := range r.doc.Steps[first:] {
		r.doc.Code = append(r.doc.Code, Place{s.Line, s.Command})
	}
}

var padding = regexp.MustCompile(`(\S)  +`)

// Matches compares what a command printed with what is written: "..." is any text, alone on a line any lines. How wide the columns of
// a table are depends on its other lines, and is not compared.
func Matches(printed, written string) bool {
	squeeze := func(s string) string {
		s = padding.ReplaceAllString(s, "$1  ")
		if s != "" && !strings.HasSuffix(s, "\n") {
			s += "\n"
		}
		return s
	}
	pattern := `(?s)^`
	for line := range strings.Lines(squeeze(written)) {
		if line == "...\n" {
			pattern += `(.*\n)?`
			continue
		}
		pattern += strings.ReplaceAll(regexp.QuoteMeta(line), `\.\.\.`, `[^\n]*`)
	}
	return regexp.MustCompile(pattern + `$`).MatchString(squeeze(printed))
}
