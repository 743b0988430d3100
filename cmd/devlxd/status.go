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
