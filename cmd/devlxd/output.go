package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// formatFlag declares -f on cmd.
func formatFlag(cmd *cobra.Command) *string {
	return cmd.Flags().StringP("format", "f", "table", "table, json, yaml or csv")
}

// table is a list that can be printed in every format.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(row ...string) { t.rows = append(t.rows, row) }

func (t *table) print(cmd *cobra.Command, format string) error {
	out := cmd.OutOrStdout()
	switch format {
	case "table":
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, strings.ToUpper(strings.Join(t.head, "\t")))
		for _, row := range t.rows {
			fmt.Fprintln(w, strings.Join(row, "\t"))
		}
		return w.Flush()
	case "csv":
		w := csv.NewWriter(out)
		if err := w.WriteAll(append([][]string{t.head}, t.rows...)); err != nil {
			return err
		}
		return w.Error()
	}
	objects := make([]map[string]string, 0, len(t.rows))
	for _, row := range t.rows {
		object := make(map[string]string, len(row))
		for i, name := range t.head {
			object[name] = row[i]
		}
		objects = append(objects, object)
	}
	return printDocument(cmd, format, objects)
}

// printDocument prints v as yaml or json.
func printDocument(cmd *cobra.Command, format string, v any) error {
	switch format {
	case "json":
		return json.NewEncoder(cmd.OutOrStdout()).Encode(v)
	case "yaml":
		data, err := yaml.MarshalWithOptions(v, yaml.UseJSONMarshaler())
		if err != nil {
			return err
		}
		_, err = cmd.OutOrStdout().Write(data)
		return err
	}
	return usageError(fmt.Errorf("unknown format %q: see --help", format))
}
