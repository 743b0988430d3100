package cloudinit

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// withKeys returns the text of the document with the keys added.
func (d *document) withKeys(accounts []*account) (text string, err error) {
	defer contain(&err)
	users, err := d.users()
	if err != nil {
		return "", err
	}
	if err := addKeys(users, accounts); err != nil {
		return "", err
	}
	if !d.rewrite && !d.sharesUsers() {
		text, err = d.splice(users)
		if err == nil && sameText(text, d.withUsers(users)) {
			return text, nil
		}
	}
	return d.write(users)
}

// withUsers returns a copy of the top level with the given users.
func (d *document) withUsers(users *yaml.Node) *yaml.Node {
	if d.root == nil {
		return newMapping("users", users)
	}
	root := *d.root
	root.Content = slices.Clone(root.Content)
	set(&root, "users", users)
	return &root
}

// splice replaces the lines of "users" in the text, or adds them at its end. Where the lines are not what they seem, as when one
// holds two keys, the result is wrong: the caller compares it.
func (d *document) splice(users *yaml.Node) (string, error) {
	block, err := encode(newMapping("users", users))
	if err != nil {
		return "", err
	}
	from, to := len(d.text), len(d.text)
	if i := find(d.root, "users"); i >= 0 {
		from = lineStart(d.text, d.root.Content[i-1].Line)
		if i+1 < len(d.root.Content) {
			to = lineStart(d.text, d.root.Content[i+1].Line)
		}
		if from >= to {
			return "", ErrShape
		}
		to = from + len(withoutTail(d.text[from:to]))
	}
	head := d.text[:from]
	if !strings.HasSuffix(head, "\n") {
		head += "\n"
	}
	return head + block + d.text[to:], nil
}

// lineStart returns where the line of a number, from 1, begins in text.
func lineStart(text string, line int) int {
	start := 0
	for ; line > 1; line-- {
		n := strings.IndexByte(text[start:], '\n')
		if n < 0 {
			return len(text)
		}
		start += n + 1
	}
	return start
}

// withoutTail cuts off the empty lines and the comments at the end of a block:
// they belong to what follows.
func withoutTail(block string) string {
	for {
		start := strings.LastIndexByte(strings.TrimSuffix(block, "\n"), '\n') + 1
		if last := block[start:]; start == 0 || strings.TrimSpace(last) != "" && last[0] != '#' {
			return block
		}
		block = block[:start]
	}
}

// write makes the document anew from its nodes. Of its comments only those
// before anything else stay.
func (d *document) write(users *yaml.Node) (string, error) {
	root := newMapping("users", users)
	if d.root != nil {
		var err error
		if root, err = expand(d.root); err != nil {
			return "", err
		}
		root.Style &^= yaml.FlowStyle
		set(root, "users", users)
	}
	var text strings.Builder
	for line := range strings.Lines(d.text) {
		if !strings.HasPrefix(line, "#") {
			break
		}
		text.WriteString(line)
	}
	if !isCloudConfig(text.String()) {
		text.Reset()
		text.WriteString(header)
	}
	if !strings.HasSuffix(text.String(), "\n") {
		text.WriteByte('\n')
	}
	body, err := encode(root)
	if err != nil {
		return "", err
	}
	text.WriteString(body)
	if !sameText(text.String(), root) {
		return "", fmt.Errorf("%w: it would change when written again", ErrSyntax)
	}
	return text.String(), nil
}

func encode(n *yaml.Node) (string, error) {
	var text strings.Builder
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	encoder.CompactSeqIndent()
	if err := encoder.Encode(n); err != nil {
		return "", fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	if err := encoder.Close(); err != nil {
		return "", fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	return text.String(), nil
}

// sharesUsers reports whether anything outside of "users" refers to an anchor
// inside, which would be lost or show the added keys.
func (d *document) sharesUsers() bool {
	i := find(d.root, "users")
	if i < 0 {
		return false
	}
	inside := make(map[*yaml.Node]bool)
	for _, n := range d.root.Content[i-1 : i+1] {
		walk(n, func(n *yaml.Node) {
			if n.Anchor != "" {
				inside[n] = true
			}
		})
	}
	shared := false
	for j, n := range d.root.Content {
		if len(inside) > 0 && j != i-1 && j != i {
			walk(n, func(n *yaml.Node) { shared = shared || n.Kind == yaml.AliasNode && inside[n.Alias] })
		}
	}
	return shared
}

// walk calls visit for n and everything in it; it does not follow aliases.
func walk(n *yaml.Node, visit func(*yaml.Node)) {
	visit(n)
	for _, child := range n.Content {
		walk(child, visit)
	}
}

// sameText reports whether text says what root does.
func sameText(text string, root *yaml.Node) bool {
	got, err := load(text)
	return err == nil && got != nil && same(got, root)
}

func same(a, b *yaml.Node) bool {
	return a.Kind == b.Kind && a.Value == b.Value && a.Anchor == b.Anchor && a.ShortTag() == b.ShortTag() &&
		slices.EqualFunc(a.Content, b.Content, same)
}
