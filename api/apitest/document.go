package apitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// document is what one dialect sees of a document. Safe for concurrent use.
type document struct {
	tree     map[string]any
	mu       sync.Mutex // guards what follows
	compiler *jsonschema.Compiler
	schemas  map[string]*jsonschema.Schema // by pointer
}

// place is a part of a document and the JSON pointer to it.
type place struct {
	pointer string
	node    map[string]any
}

const resource = "mem:///api.json"

// newDocument reads a document and drops what the dialect does not have; ""
// keeps all.
func newDocument(text []byte, dialect string) (*document, error) {
	var raw any
	if err := yaml.Unmarshal(text, &raw); err != nil {
		return nil, fmt.Errorf("%w (%v)", ErrDocument, err)
	}
	encoded, err := json.Marshal(raw)
	if err != nil {
		return nil, fmt.Errorf("%w (%v)", ErrDocument, err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
	if err != nil {
		return nil, fmt.Errorf("%w (%v)", ErrDocument, err)
	}
	tree, ok := strip(value, dialect).(map[string]any)
	if !ok {
		return nil, ErrDocument
	}
	d := &document{tree: tree, compiler: jsonschema.NewCompiler(), schemas: make(map[string]*jsonschema.Schema)}
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	d.compiler.AssertFormat()
	return d, d.compiler.AddResource(resource, tree)
}

// strip returns node without the parts of other dialects.
func strip(node any, dialect string) any {
	switch n := node.(type) {
	case map[string]any:
		for key, part := range n {
			if ofOther(part, dialect) {
				delete(n, key)
				continue
			}
			n[key] = strip(part, dialect)
		}
	case []any:
		n = slices.DeleteFunc(n, func(part any) bool { return ofOther(part, dialect) })
		for i := range n {
			n[i] = strip(n[i], dialect)
		}
		return n
	}
	return node
}

func ofOther(part any, dialect string) bool {
	m, ok := part.(map[string]any)
	if !ok || dialect == "" {
		return false
	}
	of, ok := m["x-only"].([]any)
	return ok && !slices.Contains(of, any(dialect))
}

// child returns a member of a place, what it refers to if it is a reference;
// the zero place if there is none.
func (d *document) child(p place, keys ...string) place {
	for _, key := range keys {
		node, ok := p.node[key].(map[string]any)
		if !ok {
			return place{}
		}
		p = d.resolve(place{p.pointer + "/" + escape(key), node})
	}
	return p
}

func (d *document) root() place { return place{"", d.tree} }

func (d *document) resolve(p place) place {
	ref, ok := p.node["$ref"].(string)
	if !ok {
		return p
	}
	target := d.root()
	for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		node, ok := target.node[part].(map[string]any)
		if !ok {
			return place{}
		}
		target = place{target.pointer + "/" + escape(part), node}
	}
	return d.resolve(target)
}

// escape makes a token of a JSON pointer (RFC 6901 §3).
func escape(key string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(key) }

// schema compiles the schema at a place, once.
func (d *document) schema(p place) (*jsonschema.Schema, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s, ok := d.schemas[p.pointer]; ok {
		return s, nil
	}
	s, err := d.compiler.Compile(resource + "#" + (&url.URL{Path: p.pointer}).EscapedPath())
	if err != nil {
		return nil, err
	}
	d.schemas[p.pointer] = s
	return s, nil
}

// validate holds a value against the schema of a media type, header or parameter.
func (d *document) validate(p place, value any) error {
	at := d.child(p, "schema")
	if at.node == nil {
		return nil
	}
	s, err := d.schema(at)
	if err != nil {
		return err
	}
	return s.Validate(value)
}

// template finds the path of the document that a request path stands for, and
// its operations; false when there is none.
func (d *document) template(path string) (name string, item place, ok bool) {
	paths := d.child(d.root(), "paths")
	segments := strings.Split(path, "/")
	for name := range paths.node {
		parts := strings.Split(name, "/")
		if len(parts) != len(segments) {
			continue
		}
		match := true
		for i, part := range parts {
			segment, err := url.PathUnescape(segments[i])
			match = match && err == nil && (segment == part || segment != "" && strings.HasPrefix(part, "{"))
		}
		if match {
			return name, d.child(paths, name), true
		}
	}
	return "", place{}, false
}
