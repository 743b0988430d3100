package main

import (
	"github.com/spf13/cobra"

	"devlxd/admin/client"
)

func newStatusCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "status", Short: "Show the state of the daemon"}
	format := formatFlag(cmd, formatYAML)
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		s, err := c.Status(cmd.Context())
		if err != nil {
			return err
		}
		t, err := properties(s)
		if err != nil {
			return err
		}
		return show(cmd, *format, s, t)
	})
}

// newCheckCommand is "devlxd check".
func newCheckCommand() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the settings of serve and print them with their origin",
		Long: `Check the settings that serve would run with, from its flags and the environment,
and print each with its origin. A setting that is wrong ends it with exit code 2.
Whether the host is fit for them is what "devlxd doctor" says.`,
		Example: "  devlxd check\n  DEVLXD_DIALECT=lxd devlxd check --metrics off -f json",
	}
	format := formatFlag(cmd, formatTable)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		values, err := s.resolve()
		if err != nil {
			return err
		}
		t := &table{head: []string{"name", "value", "origin"}}
		for _, v := range values {
			t.add(v.Name, v.Value, v.Origin)
		}
		return show(cmd, *format, values, t)
	}
	s.bind(cmd)
	return cmd
}
