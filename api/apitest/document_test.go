package apitest

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"devlxd/api"
	"devlxd/httpparse"
)

func TestDocumentsAreOpenAPI(t *testing.T) {
	for name, text := range map[string][]byte{"guest": api.Guest, "admin": api.Admin} {
		doc, err := openapi3.NewLoader().LoadFromData(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := doc.Validate(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSchemasCompile: each schema is one of JSON Schema 2020-12, and its references hold.
func TestSchemasCompile(t *testing.T) {
	for _, dialect := range []string{"document", "lxd", "incus", ""} {
		d, err := newDocument(api.Guest, dialect)
		if err != nil {
			t.Fatal(err)
		}
		if dialect == "" {
			if d, err = newDocument(api.Admin, ""); err != nil {
				t.Fatal(err)
			}
		}
		seen := 0
		for name := range d.child(d.root(), "components", "schemas").node {
			if _, err := d.schema(d.child(d.root(), "components", "schemas", name)); err != nil {
				t.Errorf("%s: %s: %v", dialect, name, err)
			}
			seen++
		}
		if seen < 10 {
			t.Errorf("%d schemas; is this the document?", seen)
		}
	}
}

// TestObjectsAreClosed: an object says of each member whether it may be there.
// The exceptions are halves of an allOf, and what a server reads loosely.
func TestObjectsAreClosed(t *testing.T) {
	loose := []string{"/components/schemas/State"}
	for name, text := range map[string][]byte{"guest": api.Guest, "admin": api.Admin} {
		d, err := newDocument(text, "")
		if err != nil {
			t.Fatal(err)
		}
		closed := 0
		var walk func(pointer string, node any)
		walk = func(pointer string, node any) {
			switch n := node.(type) {
			case map[string]any:
				if n["type"] == "object" && n["properties"] != nil {
					if n["additionalProperties"] == nil && !slices.Contains(loose, pointer) && !strings.Contains(pointer, "/requestBody/") {
						t.Errorf("%s: %s takes any member: say additionalProperties", name, pointer)
					}
					closed++
				}
				for key, part := range n {
					walk(pointer+"/"+escape(key), part)
				}
			case []any:
				for _, part := range n {
					walk(pointer, part)
				}
			}
		}
		walk("", d.tree)
		if closed < 5 {
			t.Errorf("%s: %d objects; is this the document?", name, closed)
		}
	}
}

// TestParserErrors: the texts of the parser are documented, all and no others, with their status.
func TestParserErrors(t *testing.T) {
	d, err := newDocument(api.Guest, "")
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string][]string)
	for _, e := range httpparse.AllErrors() {
		status := http.StatusText(e.Status)
		want[status] = append(want[status], e.Text+"\n")
	}
	got := make(map[string][]string)
	for _, name := range []string{"Malformed", "BodyTooLarge", "TargetTooLong", "Expectation", "HeadTooLarge", "NotImplemented", "Version"} {
		schema := d.child(d.root(), "components", "responses", name, "content", "text/plain; charset=utf-8", "schema")
		status := map[string]int{
			"Malformed": 400, "BodyTooLarge": 413, "TargetTooLong": 414, "Expectation": 417, "HeadTooLarge": 431, "NotImplemented": 501, "Version": 505,
		}[name]
		texts, _ := schema.node["enum"].([]any)
		if schema.node["const"] != nil {
			texts = []any{schema.node["const"]}
		}
		for _, text := range texts {
			got[http.StatusText(status)] = append(got[http.StatusText(status)], text.(string))
		}
	}
	for _, m := range []map[string][]string{want, got} {
		for status := range m {
			slices.Sort(m[status])
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("documented %q;\nwant %q", got, want)
	}
}
