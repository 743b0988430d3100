package main

import (
	"github.com/spf13/cobra"

	"devlxd/admin/client"
)

func newStatusCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "status", Short: "Show the state of the daemon", Args: cobra.NoArgs}
	format := cmd.Flags().StringP("format", "f", "yaml", "yaml or json")
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		s, err := c.Status(cmd.Context())
		if err != nil {
			return err
		}
		return printDocument(cmd, *format, s)
	})
}

// newCheckCommand is "devlxd check".
func newCheckCommand() *cobra.Command {
	var s settings
	cmd := &cobra.Command{Use: "check", Short: "Check the settings of serve and print them with their origin", Args: cobra.NoArgs}
	format := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		values, err := s.resolve()
		if err != nil {
			return err
		}
		t := table{head: []string{"name", "value", "origin"}}
		for _, v := range values {
			t.add(v.Name, v.Value, v.Origin)
		}
		return t.print(cmd, *format)
	}
	s.bind(cmd)
	return cmd
}
