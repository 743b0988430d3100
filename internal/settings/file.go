package settings

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

const (
	// maxFile is how large a configuration file may be, in bytes.
	maxFile = 1 << 20
	// maxProblems is how many mistakes are told of.
	maxProblems = 20
)

// File is what a configuration file says. It is immutable.
type File struct {
	Path   string // as it was named
	values map[string]fileValue
}

// fileValue is a value as a flag has it.
type fileValue struct {
	text string
	line int
}

// Read reads a configuration file. Whatever is wrong with it, or with reading it, is a *FileError. Where a missing file may be missing it
// is nil without an error.
func Read(path string, mayMiss bool) (*File, error) {
	data, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if mayMiss {
			return nil, nil
		}
		err = errMissing
	}
	if err != nil {
		var pathError *fs.PathError
		if errors.As(err, &pathError) {
			err = fmt.Errorf("cannot %s it: %w", pathError.Op, pathError.Err)
		}
		return nil, &FileError{[]Problem{{File: path, Text: err.Error()}}}
	}
	return parse(path, data)
}

func readFile(path string) ([]byte, error) {
	// A pipe would be waited for.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, errNotRegular
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = errTooLarge
	}
	return data, err
}

// parse reads the text of a configuration file.
func parse(path string, data []byte) (*File, error) {
	r := &reader{file: &File{Path: path, values: make(map[string]fileValue)}}
	doc, err := parser.ParseBytes(data, 0)
	if err != nil {
		line, text := 0, err.Error()
		var syntax yaml.Error
		if errors.As(err, &syntax) {
			text = syntax.GetMessage()
			if t := syntax.GetToken(); t != nil {
				line = t.Position.Line
			}
		}
		return nil, &FileError{[]Problem{{path, line, "not YAML: " + strings.Join(strings.Fields(text), " ")}}}
	}
	for i, d := range doc.Docs {
		if i > 0 && d.Body != nil {
			r.wrong(d.Body, "a second document: put everything into one, without ---")
			continue
		}
		r.mapping(d.Body, "")
	}
	if len(r.problems) > 0 {
		slices.SortStableFunc(r.problems, func(a, b Problem) int { return a.Line - b.Line })
		return nil, &FileError{r.problems[:min(len(r.problems), maxProblems)]}
	}
	return r.file, nil
}

// reader walks the tree of a file, whose depth the table bounds.
type reader struct {
	file     *File
	problems []Problem
}

func (r *reader) wrong(n ast.Node, format string, args ...any) {
	line := 0
	if t := n.GetToken(); t != nil {
		line = t.Position.Line
	}
	r.problems = append(r.problems, Problem{r.file.Path, line, fmt.Sprintf(format, args...)})
}

// mapping reads the whole file (section "") or a section.
func (r *reader) mapping(n ast.Node, section string) {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case nil, *ast.NullNode, *ast.CommentGroupNode:
		return // all of it is commented out
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		where := "the file is not made of keys and values: write KEY: VALUE"
		if section != "" {
			where = fmt.Sprintf("%s has keys of its own, not a value: write it as\n%s:\n  %s: ...", section, section, sectionNames(section)[0])
		}
		r.wrong(n, "%s", strings.ReplaceAll(where, "\n", " "))
		return
	}
	for _, p := range pairs {
		r.pair(p, section)
	}
}

func (r *reader) pair(p *ast.MappingValueNode, section string) {
	key, ok := p.Key.(*ast.StringNode)
	if !ok {
		r.wrong(p.Key, "%q is no key: %s", p.Key.String(), known(section))
		return
	}
	path := key.Value
	if section != "" {
		path = section + "." + key.Value
	}
	// Files of Prometheus and others have _ where flags have -.
	meant := strings.ReplaceAll(path, "_", "-")
	for _, s := range All() {
		if s.Key == meant && !strings.Contains(key.Value, ".") {
			r.value(&s, p)
			return
		}
		if section == "" && s.Section() == key.Value {
			r.mapping(p.Value, key.Value)
			return
		}
	}
	near := nearest(section, key.Value)
	switch section, name, in := strings.Cut(near, "."); {
	case near == path && in:
		r.wrong(key, "unknown key %q: write %s: {%s: ...}", path, section, name)
		return
	case near != "":
		r.wrong(key, "unknown key %q: perhaps %s", path, near)
		return
	}
	r.wrong(key, "unknown key %q: %s", path, known(section))
}

// value takes the value of a setting if it is valid.
func (r *reader) value(s *Setting, p *ast.MappingValueNode) {
	if _, twice := r.file.values[s.Key]; twice {
		r.wrong(p.Key, "%s is given twice: give it once", s.Key)
		return
	}
	text, err := scalar(s, p.Value)
	if err == nil {
		err = s.set(new(Config), text)
	}
	at := ast.Node(p.Key)
	if err != nil {
		r.wrong(at, "%v", about(s.Key, err))
		return
	}
	r.file.values[s.Key] = fileValue{text, at.GetToken().Position.Line}
}

// sectionNames are the names in a section, or at the top with the sections.
func sectionNames(section string) (names []string) {
	for _, s := range All() {
		name := s.Name()
		switch {
		case s.Section() == section:
		case section == "":
			name = s.Section()
		default:
			continue
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// known is the advice where nothing is near.
func known(section string) string {
	where := "there are"
	if section != "" {
		where = "in " + section + " there are"
	}
	return where + " " + strings.Join(sectionNames(section), ", ")
}
