package cloudinit

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxData is the longest seed data that is merged, in bytes.
const MaxData = 1 << 20

// maxSeparators bounds the memory of a parsed document, which is some hundred
// bytes for each node. A megabyte of shell scripts has a quarter of it.
const maxSeparators = 1 << 17

const header = "#cloud-config"

// document is a cloud-config.
type document struct {
	text string
	root *yaml.Node // a mapping; nil when the document is empty
	// rewrite: its text cannot be kept, so the document is written anew from root.
	rewrite bool
}

// parse reads a cloud-config; an empty text is an empty one.
func parse(text string) (doc *document, err error) {
	defer contain(&err)
	if text == "" {
		return &document{text: header + "\n"}, nil
	}
	if !isCloudConfig(text) {
		return nil, ErrFormat
	}
	if len(text) > MaxData || separators(text) > maxSeparators {
		return nil, ErrTooLarge
	}
	root, err := load(text)
	if err != nil {
		return nil, err
	}
	doc = &document{text: text, root: root}
	switch {
	case root == nil:
	case root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null":
		doc.root, doc.rewrite = nil, root.Value != ""
	case root.Kind != yaml.MappingNode:
		return nil, fmt.Errorf("%w: its top level is no mapping", ErrShape)
	default:
		doc.rewrite = root.Style&yaml.FlowStyle != 0 || root.Column != 1
		if hasMergeKey(root) {
			doc.rewrite = true
			doc.root, err = expand(root)
		}
	}
	return doc, err
}

// contain turns a panic of the YAML library into an error: one container's
// data must not end the server.
func contain(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: %v", errPanic, r)
	}
}

// isCloudConfig reports whether one of the first two lines is the header. The
// second is it behind "## template: jinja".
func isCloudConfig(text string) bool {
	first, rest, _ := strings.Cut(text, "\n")
	second, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(first) == header || strings.TrimSpace(second) == header
}

// separators counts what may stand between two nodes in text: there are at
// most twice as many nodes, since a JSON key needs no space after its colon.
func separators(text string) (n int) {
	for i := range len(text) {
		switch text[i] {
		case '\n', ',', '[', '{':
			n++
		case '-', ':', '?':
			if i+1 < len(text) && (text[i+1] == ' ' || text[i+1] == '\t') {
				n++
			}
		}
	}
	return n
}

// load returns the top node of the only YAML document in text, nil when there
// is none.
func load(text string) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(strings.NewReader(text))
	var first, second yaml.Node
	if err := decoder.Decode(&first); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: it has several YAML documents", ErrShape) // cloud-init refuses them as well
	}
	if len(first.Content) != 1 {
		return nil, ErrSyntax
	}
	return first.Content[0], nil
}

// hasUsers reports whether the document says anything about users. Nothing is
// said by an empty text, as in LXD.
func (d *document) hasUsers() bool {
	users := get(d.root, "users")
	return users != nil && (users.Kind != yaml.ScalarNode || users.Value != "" || users.ShortTag() != "!!str")
}

// get returns the value of a key of a mapping, nil when there is none. Of
// several the last one counts.
func get(mapping *yaml.Node, key string) *yaml.Node {
	if i := find(mapping, key); i >= 0 {
		return resolve(mapping.Content[i])
	}
	return nil
}

// find returns where in mapping.Content the value of key is, or -1.
func find(mapping *yaml.Node, key string) int {
	if mapping == nil {
		return -1
	}
	for i := len(mapping.Content) - 1; i > 0; i -= 2 {
		if isText(resolve(mapping.Content[i-1]), key) {
			return i
		}
	}
	return -1
}

func isText(n *yaml.Node, text string) bool {
	return n.Kind == yaml.ScalarNode && n.Value == text && n.ShortTag() == "!!str"
}

// resolve returns the node that an alias stands for, and any other node itself.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}
