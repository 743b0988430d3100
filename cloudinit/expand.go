package cloudinit

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"
)

// Bounds of an expanded node. A cloud-config has a dozen levels.
const (
	maxDepth = 64
	maxNodes = 1 << 16
)

// expander copies nodes and counts what it makes.
type expander struct{ nodes, bytes int }

// expand returns a copy of n that shares nothing with it: without comments,
// anchors, aliases and merge keys ("<<"), each replaced by what it stands for.
func expand(n *yaml.Node) (*yaml.Node, error) { return new(expander).copy(n, 0) }

func (e *expander) copy(n *yaml.Node, depth int) (*yaml.Node, error) {
	n = resolve(n)
	e.nodes++
	e.bytes += len(n.Value)
	// An alias within what it stands for has no end, and ends here.
	if depth > maxDepth || e.nodes > maxNodes || e.bytes > MaxData {
		return nil, ErrTooLarge
	}
	c := &yaml.Node{Kind: n.Kind, Style: n.Style, Tag: n.Tag, Value: n.Value}
	if n.Kind == yaml.ScalarNode && n.Value == "" && n.ShortTag() == "!!null" {
		c.Value = "null" // the encoder makes an empty text of it in flow style
	}
	if n.Kind == yaml.MappingNode && hasMergeKey(n) {
		return c, e.flatten(c, n, depth)
	}
	for _, child := range n.Content {
		copied, err := e.copy(child, depth+1)
		if err != nil {
			return nil, err
		}
		c.Content = append(c.Content, copied)
	}
	return c, nil
}

func isMergeKey(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Value == "<<" && n.ShortTag() == "!!merge"
}

func hasMergeKey(mapping *yaml.Node) bool {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if isMergeKey(mapping.Content[i]) {
			return true
		}
	}
	return false
}

// flatten copies the pairs of the mapping n to c, then the pairs that n merges
// in under keys that it does not have itself (yaml.org/type/merge.html).
func (e *expander) flatten(c, n *yaml.Node, depth int) error {
	var sources []*yaml.Node
	taken := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		if isMergeKey(n.Content[i]) {
			sources = append(sources, n.Content[i+1])
			continue
		}
		for _, child := range n.Content[i : i+2] {
			copied, err := e.copy(child, depth+1)
			if err != nil {
				return err
			}
			c.Content = append(c.Content, copied)
		}
		taken[identity(c.Content[len(c.Content)-2])] = true
	}
	for _, source := range slices.Backward(sources) { // the last of several merge keys has precedence
		if err := e.mergeIn(c, source, taken, depth); err != nil {
			return err
		}
	}
	return nil
}

// mergeIn adds what the value of one merge key holds: a mapping, or a list of
// mappings of which the first has precedence.
func (e *expander) mergeIn(c, source *yaml.Node, taken map[string]bool, depth int) error {
	merged, err := e.copy(source, depth+1)
	if err != nil {
		return err
	}
	mappings := []*yaml.Node{merged}
	if merged.Kind == yaml.SequenceNode {
		mappings = merged.Content
	}
	for _, m := range mappings {
		if m.Kind != yaml.MappingNode {
			return fmt.Errorf("%w: a merge key does not name a mapping", ErrShape)
		}
		for i := 0; i+1 < len(m.Content); i += 2 {
			if key := identity(m.Content[i]); key == "" || !taken[key] {
				taken[key] = true
				c.Content = append(c.Content, m.Content[i], m.Content[i+1])
			}
		}
	}
	return nil
}

// identity tells scalar keys apart; it is "" for a key that is a collection.
func identity(key *yaml.Node) string {
	if key.Kind != yaml.ScalarNode {
		return ""
	}
	return key.ShortTag() + " " + key.Value
}
