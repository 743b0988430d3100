package cloudinit

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// mark is LXD's comment behind each key that was added.
const mark = "#lxd:cloud-init.ssh-keys"

// Both spellings of the fields: cloud-init takes either, newer releases
// deprecate the second one.
var (
	publicKeyFields = [2]string{"ssh-authorized-keys", "ssh_authorized_keys"} // read only
	importIDFields  = [2]string{"ssh-import-id", "ssh_import_id"}             // read only
)

// users returns a list of the users in the document that may be changed: a copy
// in block style.
func (d *document) users() (*yaml.Node, error) {
	users := get(d.root, "users")
	if users == nil {
		return newList(), nil
	}
	copied, err := expand(users)
	if err != nil {
		return nil, err
	}
	return asList(copied, "users")
}

// asList returns a list, or a list of the one text that stands for it.
func asList(n *yaml.Node, field string) (*yaml.Node, error) {
	switch {
	case n.Kind == yaml.SequenceNode:
		n.Style &^= yaml.FlowStyle
		return n, nil
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str":
		return newList(n), nil
	}
	return nil, fmt.Errorf("%w: %s is neither a list nor a text", ErrShape, field)
}

// addKeys adds the keys of each account to its entry in users.
func addKeys(users *yaml.Node, accounts []*account) error {
	for _, a := range accounts {
		entry, err := entryOf(users, a.name)
		if err != nil {
			return err
		}
		if err := addToFields(entry, publicKeyFields, a.publicKeys); err != nil {
			return err
		}
		if err := addToFields(entry, importIDFields, a.importIDs); err != nil {
			return err
		}
	}
	return nil
}

// entryOf returns the mapping that describes a user. A bare name becomes a
// mapping; a user that is not there is added.
func entryOf(users *yaml.Node, name string) (*yaml.Node, error) {
	for i, item := range users.Content {
		switch {
		case item.Kind == yaml.MappingNode:
			if n := get(item, "name"); n != nil && isText(n, name) {
				item.Style &^= yaml.FlowStyle
				return item, nil
			}
		case isText(item, name):
			users.Content[i] = newMapping("name", item)
			return users.Content[i], nil
		case item.Kind != yaml.ScalarNode || item.ShortTag() != "!!str":
			return nil, fmt.Errorf("%w: an item of users is neither a mapping nor a name", ErrShape)
		}
	}
	entry := newMapping("name", newText(name))
	users.Content = append(users.Content, entry)
	return entry, nil
}

// addToFields adds values to the lists under both spellings of a field. Where
// a spelling is new, its list begins with what the other one holds: cloud-init
// takes both for the same field, and the last one replaces the first.
func addToFields(entry *yaml.Node, fields [2]string, values []string) error {
	if len(values) == 0 {
		return nil
	}
	var lists [2]*yaml.Node
	for i, field := range fields {
		n := get(entry, field)
		if n == nil {
			continue
		}
		list, err := asList(n, field)
		if err != nil {
			return err
		}
		lists[i] = list
	}
	for i := range lists {
		other := lists[1-i]
		if lists[i] != nil || other == nil {
			continue
		}
		lists[i] = newList(slices.Clone(other.Content)...)
	}
	for i, field := range fields {
		if lists[i] == nil {
			lists[i] = newList()
		}
		appendNew(lists[i], values)
		set(entry, field, lists[i])
	}
	return nil
}

// appendNew appends the values that a list does not have.
func appendNew(list *yaml.Node, values []string) {
	had := make(map[string]bool, len(list.Content))
	for _, n := range list.Content {
		if n.Kind == yaml.ScalarNode {
			had[n.Value] = true
		}
	}
	for _, value := range values {
		if !had[value] {
			n := newText(value)
			n.LineComment = mark
			list.Content = append(list.Content, n)
		}
	}
}

// set puts value under a key of a mapping, in place or at the end.
func set(mapping *yaml.Node, key string, value *yaml.Node) {
	if i := find(mapping, key); i >= 0 {
		mapping.Content[i] = value
		return
	}
	mapping.Content = append(mapping.Content, newText(key), value)
}

func newList(items ...*yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: items}
}

func newMapping(key string, value *yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{newText(key), value}}
}

// plain matches text that needs no quotes in any YAML, unless it is a word of isWord.
var plain = regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9 @._+/=-]|:[A-Za-z0-9@._+/=-])*$`)

// isWord reports whether YAML 1.1, which cloud-init reads, has another meaning
// for a plain text than the text.
func isWord(s string) bool {
	switch strings.ToLower(s) {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null":
		return true
	}
	return false
}

func newText(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
	if !plain.MatchString(s) || isWord(s) || strings.HasSuffix(s, " ") {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}
