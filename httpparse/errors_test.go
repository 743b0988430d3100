package httpparse

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"
	"unicode"
)

// AllErrors holds every *Error of errors.go once, each with its own reason.
func TestAllErrors(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared := 0
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
			if _, ok := v.Values[0].(*ast.UnaryExpr); ok {
				declared++
			}
		}
		return true
	})
	if declared == 0 || declared != len(AllErrors()) {
		t.Errorf("errors.go declares %d, AllErrors returns %d", declared, len(AllErrors()))
	}
	texts := map[string]bool{}
	for _, e := range AllErrors() {
		if texts[e.Text] {
			t.Errorf("two errors say %q", e.Text)
		}
		texts[e.Text] = true
		if StatusText(e.Status) == "" || e.Status < 400 {
			t.Errorf("%q has status %d", e.Text, e.Status)
		}
		if !strings.Contains(e.Text, ": ") || strings.ContainsAny(e.Text, "\r\n") || e.Error() != e.Text {
			t.Errorf("%q does not say what was wrong and what to do in one line", e.Text)
		}
		if c := rune(e.Text[0]); unicode.IsUpper(c) {
			t.Errorf("%q begins with a capital", e.Text)
		}
	}
}
