package ws

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"testing"
)

// declared are the variables of errors.go that hold a pointer to typ.
func declared(t *testing.T, typ string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if ref, ok := spec.Values[0].(*ast.UnaryExpr); ok {
			if lit, ok := ref.X.(*ast.CompositeLit); ok && lit.Type.(*ast.Ident).Name == typ {
				names = append(names, spec.Names[0].Name)
			}
		}
		return true
	})
	return names
}

func TestAllCloseErrors(t *testing.T) {
	all := AllCloseErrors()
	if n := len(declared(t, "CloseError")); n == 0 || n != len(all) {
		t.Errorf("AllCloseErrors has %d faults; errors.go declares %d", len(all), n)
	}
	label := regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)*$`)
	var seen []string
	for i, e := range all {
		if slices.Index(all, e) != i || slices.Contains(seen, e.Label) {
			t.Errorf("%s is there twice", e.Label)
		}
		seen = append(seen, e.Label)
		if !label.MatchString(e.Label) || e.Reason == "" || !ValidCode(e.Code) {
			t.Errorf("fault %d: label %q, code %d, reason %q", i, e.Label, e.Code, e.Reason)
		}
		var d Decoder
		if err := d.fail(e); err != error(e) || d.endError() != error(e) {
			t.Errorf("decoder that failed with %s returns %v", e.Label, d.endError())
		}
	}
	all[0] = nil
	if AllCloseErrors()[0] == nil {
		t.Error("AllCloseErrors gives away its own list")
	}
}

func TestCloseErrorText(t *testing.T) {
	var err error = ErrContinuation
	want := "websocket close 1002: continuation frame without a message to continue"
	if err.Error() != want {
		t.Errorf("Error = %q; want %q", err.Error(), want)
	}
	var e *CloseError
	if !errors.As(err, &e) || e != ErrContinuation {
		t.Errorf("errors.As = %v", e)
	}
}

func TestAllHandshakeErrors(t *testing.T) {
	all := AllHandshakeErrors()
	if n := len(declared(t, "HandshakeError")); n == 0 || n != len(all) {
		t.Errorf("AllHandshakeErrors has %d; errors.go declares %d", len(all), n)
	}
	fields := regexp.MustCompile(`^([A-Za-z-]+: [^\r\n]+\r\n)*$`)
	for i, e := range all {
		if slices.Index(all, e) != i {
			t.Errorf("%q is there twice", e.Text)
		}
		if e.Status < 400 || e.Status > 499 || e.Error() == "" || !fields.MatchString(e.Fields) {
			t.Errorf("error %d: status %d, text %q, fields %q", i, e.Status, e.Text, e.Fields)
		}
	}
}
