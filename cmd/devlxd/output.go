package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// Formats of -f.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatYAML  = "yaml"
	formatCSV   = "csv"
)

// formatFlag declares -f on cmd.
func formatFlag(cmd *cobra.Command, value string) *string {
	return choiceFlag(cmd, "format", "f", value, "", formatTable, formatJSON, formatYAML, formatCSV)
}

// table is how a value looks to a reader of rows.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(row ...string) { t.rows = append(t.rows, row) }

// show prints v with its own types as json and yaml, and t, which shows the same, as table and csv.
func show(cmd *cobra.Command, format string, v any, t *table) error {
	var out bytes.Buffer
	if err := encode(&out, format, v, t); err != nil {
		return err
	}
	if _, err := out.WriteTo(cmd.OutOrStdout()); err != nil {
		return fmt.Errorf("cannot write the output: %w", err)
	}
	return nil
}

func encode(out io.Writer, format string, v any, t *table) error {
	switch format {
	case formatJSON:
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false) // it is read by people and jq, not put into a page
		return encoder.Encode(v)
	case formatYAML:
		n, err := tree(v)
		if err != nil {
			return err
		}
		encoder := yaml.NewEncoder(out)
		encoder.SetIndent(2)
		if err := encoder.Encode(n); err != nil {
			return err
		}
		return encoder.Close()
	case formatCSV:
		return csv.NewWriter(out).WriteAll(append([][]string{t.head}, t.rows...)) // it flushes
	}
	return t.print(out)
}

// print writes t with columns. A cell that would break them is quoted as Go does.
func (t *table) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.ToUpper(strings.Join(t.head, "\t")))
	for _, row := range t.rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			if strings.ContainsFunc(cell, unprintable) {
				cell = strconv.Quote(cell)
			}
			cells[i] = cell
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// properties is v, an object in JSON, as a table of its members: what is inside of one has a name such as "state.pid", and
// what stands in a list one such as "checks.0".
func properties(v any) (*table, error) {
	n, err := tree(v)
	if err != nil {
		return nil, err
	}
	t := &table{head: []string{"key", "value"}}
	t.flatten(n, "")
	return t, nil
}

// flatten adds n, which is called name.
func (t *table) flatten(n *yaml.Node, name string) {
	prefix := name
	if name != "" {
		prefix += "."
	}
	switch {
	case n.Kind == yaml.MappingNode:
		for i := 0; i < len(n.Content); i += 2 {
			t.flatten(n.Content[i+1], prefix+n.Content[i].Value)
		}
	case n.Kind == yaml.SequenceNode:
		for i, item := range n.Content {
			t.flatten(item, prefix+strconv.Itoa(i))
		}
	case n.Tag == tagNull:
		t.add(name, "")
	default:
		t.add(name, n.Value)
	}
}
