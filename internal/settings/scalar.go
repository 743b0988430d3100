package settings

import (
	"errors"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Why a value of the file is not of the kind that it has to be.
var (
	errNoValue   = errors.New("has no value: give one, or put # before the line")
	errWantText  = errors.New("has to be text: put it in quotes")
	errWantNum   = errors.New("has to be a whole number, in plain decimal digits")
	errWantList  = errors.New("has to be a list of words: write [A, B]")
	errWantLimit = errors.New("has to be a whole number, in plain decimal digits, or unlimited")
	errReference = errors.New("anchors, aliases and tags are not understood: write the value itself")
)

// scalar is a value of the file as a flag has it.
func scalar(s *Setting, n ast.Node) (string, error) {
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return "", errNoValue
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		return "", errReference
	case *ast.BoolNode:
		if s.Yes != "" && n.Value {
			return s.Yes, nil
		}
		if s.Yes != "" {
			return "0", nil
		}
	}
	switch s.Kind {
	case KindText:
		if s, ok := n.(*ast.StringNode); ok {
			return s.Value, nil
		}
		return "", errWantText
	case KindNumber:
		return digits(n, errWantNum)
	case KindLimit:
		if s, ok := n.(*ast.StringNode); ok {
			return s.Value, nil // the word, or what the setting refuses
		}
		return digits(n, errWantLimit)
	case KindList:
		return list(n)
	}
	return "", errNoValue
}

// digits takes decimal numbers only: 010, 0x10 and 1_000 mean something else to other readers of YAML.
func digits(n ast.Node, otherwise error) (string, error) {
	i, ok := n.(*ast.IntegerNode)
	if !ok {
		return "", otherwise
	}
	text := i.GetToken().Value
	if len(text) > 1 && text[0] == '0' || strings.Trim(text, "0123456789") != "" && strings.Trim(text[1:], "0123456789") != "" || text[0] == '+' {
		return "", otherwise
	}
	return text, nil
}

// list joins the words of a list.
func list(n ast.Node) (string, error) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		return "", errWantList
	}
	words := make([]string, len(seq.Values))
	for i, v := range seq.Values {
		s, ok := v.(*ast.StringNode)
		if !ok || s.Value == "" || strings.Contains(s.Value, ",") {
			return "", errWantList
		}
		words[i] = s.Value
	}
	return strings.Join(words, ","), nil
}
