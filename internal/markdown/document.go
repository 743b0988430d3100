package markdown

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"
)

// Document is what a file says. It is not changed after [Read], and so safe for concurrent use.
type Document struct {
	Steps   []Step          // in the order in which they are run
	NotRun  []Place         // blocks that are marked, with the reason
	Links   []Place         // destinations, as they are written
	Code    []Place         // code spans, and code blocks without what commands print
	Anchors map[string]bool // of the headings, as GitHub makes them
	Faults  []Place         // what cannot be understood
}

// Place is a text and the line where it begins.
type Place struct {
	Line int
	Text string
}

// Step is a command.
type Step struct {
	Line      int
	Command   string // may have several lines
	Container string // in which it is run; "": on the host
	Want      string // what it prints
	Checked   bool   // whether it has to print that, and its exit code is of its own
}

// Read reads a document. Blocks that cannot be understood are its faults; the error is that of the file.
func Read(path string) (*Document, error) {
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(source), nil
}

// Parse is Read of a document in memory.
func Parse(source []byte) *Document {
	r := &reader{source: source, doc: &Document{Anchors: make(map[string]bool)}}
	root := goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser().Parse(text.NewReader(source))
	// The visitor returns no error.
	_ = ast.Walk(root, r.visit)
	if r.mark != nil {
		r.fault(r.mark.Line, "a mark that no code block follows")
	}
	return r.doc
}

// reader is at one place of a document.
type reader struct {
	source []byte
	doc    *Document
	mark   *Place // <!-- not run --> that waits for its block
	line   int    // of the block that was entered last
}

func (r *reader) fault(line int, format string, args ...any) {
	r.doc.Faults = append(r.doc.Faults, Place{line, fmt.Sprintf(format, args...)})
}

func (r *reader) visit(n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	if n.Type() == ast.TypeBlock && n.Lines().Len() > 0 {
		r.line = 1 + bytes.Count(r.source[:n.Lines().At(0).Start], []byte("\n"))
	}
	if r.mark != nil && n.Type() == ast.TypeBlock && n.Kind() != ast.KindFencedCodeBlock {
		r.fault(r.mark.Line, "a mark that no code block follows")
		r.mark = nil
	}
	switch n := n.(type) {
	case *ast.Heading:
		r.anchor(string(n.Lines().Value(r.source)))
	case *ast.Link:
		r.doc.Links = append(r.doc.Links, Place{r.line, string(n.Destination)})
	case *ast.Image:
		r.doc.Links = append(r.doc.Links, Place{r.line, string(n.Destination)})
	case *ast.CodeSpan:
		r.doc.Code = append(r.doc.Code, Place{r.line, r.text(n)})
		return ast.WalkSkipChildren, nil
	case *ast.HTMLBlock:
		r.comment(n)
	case *ast.CodeBlock:
		r.fault(r.line, "an indented block: fence it, and say its language")
	case *ast.FencedCodeBlock:
		r.block(string(n.Language(r.source)), string(n.Lines().Value(r.source)))
	}
	return ast.WalkContinue, nil
}

// text is that of the children of n.
func (r *reader) text(n ast.Node) string {
	var b strings.Builder
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		if t, ok := c.(*ast.Text); ok {
			b.Write(t.Value(r.source))
		}
	}
	return strings.ReplaceAll(b.String(), "\n", " ")
}

// anchor is the name of a heading, as in GitHub: without marks, and numbered where there are several.
func (r *reader) anchor(heading string) {
	var b strings.Builder
	for _, c := range strings.ToLower(heading) {
		switch {
		case c == ' ':
			b.WriteByte('-')
		case c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z':
			b.WriteRune(c)
		}
	}
	name := b.String()
	for i := 1; r.doc.Anchors[name]; i++ {
		name = fmt.Sprintf("%s-%d", b.String(), i)
	}
	r.doc.Anchors[name] = true
}

// comment takes a mark, or a script that readers do not see.
func (r *reader) comment(n *ast.HTMLBlock) {
	value := n.Lines().Value(r.source)
	if n.HasClosure() {
		value = append(value, n.ClosureLine.Value(r.source)...)
	}
	body, isComment := strings.CutPrefix(strings.TrimSpace(string(value)), "<!--")
	body, closed := strings.CutSuffix(body, "-->")
	if !isComment || !closed {
		return
	}
	name, rest, _ := strings.Cut(strings.TrimSpace(body), ":")
	rest = strings.TrimSpace(rest)
	switch name {
	case "run":
		r.doc.Steps = append(r.doc.Steps, Step{Line: r.line, Command: rest})
	case "not run":
		if rest == "" {
			r.fault(r.line, "a mark without a reason")
		}
		r.mark = &Place{r.line, rest}
	}
}

func (r *reader) block(language, body string) {
	mark := r.mark
	r.mark = nil
	switch {
	case language == "":
		r.fault(r.line, "a block without a language: sh, console, text or another")
	case language == "console" && mark == nil:
		r.console(body)
		return
	case mark != nil:
		r.doc.NotRun = append(r.doc.NotRun, *mark)
	case language == "sh":
		r.doc.Steps = append(r.doc.Steps, Step{Line: r.line, Command: body})
	}
	r.doc.Code = append(r.doc.Code, Place{r.line, body})
}
