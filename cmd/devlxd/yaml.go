package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Tags of scalars.
const (
	tagString = "!!str"
	tagNull   = "!!null"
	tagBool   = "!!bool"
	tagInt    = "!!int"
	tagFloat  = "!!float"
)

// tree is v as the nodes of a YAML document. It is made from the JSON of v, which keeps the names and the order of the fields
// and is what the admin API promises.
func tree(v any) (*yaml.Node, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // a cgroup id does not fit into a float64
	return next(d)
}

// next is the next value of d.
func next(d *json.Decoder) (*yaml.Node, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch token := token.(type) {
	case json.Delim:
		return collection(d, token)
	case string:
		return text(token), nil
	case json.Number:
		if strings.ContainsAny(token.String(), ".eE") {
			return scalar(tagFloat, token), nil
		}
		return scalar(tagInt, token), nil
	case bool:
		return scalar(tagBool, token), nil
	}
	return scalar(tagNull, "null"), nil
}

// collection is the object or list that has just begun.
func collection(d *json.Decoder, open json.Delim) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.SequenceNode}
	if open == '{' {
		n.Kind = yaml.MappingNode
	}
	for d.More() { // keys and values of an object come in turn, and stand so in a mapping
		item, err := next(d)
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, item)
	}
	if len(n.Content) == 0 {
		n.Style = yaml.FlowStyle // {} and []: there is no other way to write them
	}
	_, err := d.Token() // the end
	return n, err
}

func scalar(tag string, v any) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: fmt.Sprint(v)}
}

// text is a string that a parser reads back as the same string. The encoder's choice of a style is taken if it passes that
// test; a text of several lines that begins with a tab does not, and neither does "<<".
func text(s string) *yaml.Node {
	if isWord(s) {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tagString, Value: s}
	}
	n := new(yaml.Node)
	if err := n.Encode(s); err != nil || n.Value != s || n.Tag != tagString {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tagString, Value: s, Style: yaml.DoubleQuotedStyle}
	}
	return n
}

// isWord reports whether s can be nothing but a string in YAML. Most texts are such words, and the test that text makes is slow.
func isWord(s string) bool {
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || !strings.ContainsRune("0123456789_-./", r)) {
			return false
		}
	}
	switch strings.ToLower(s) {
	case "", "y", "n", "yes", "no", "on", "off", "true", "false", "null": // the words of YAML 1.1 and 1.2
		return false
	}
	return true
}
