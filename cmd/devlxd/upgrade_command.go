package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"devlxd/admin/client"
)

// newUpgradeCommand is "devlxd upgrade".
func newUpgradeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Replace the running daemon without losing a connection",
		Long: `Replace the running daemon by the binary that is installed now where it was started
from, or by another one. The new process takes over the sockets and every connection
with all its state; event streams stay open, and no event is lost. Guests wait for
a moment. Changes that are made meanwhile wait until the new process makes them.

If the new process does not start, is of a version whose state differs, or fails to
take over, the daemon goes on as before, and the reason is told.`,
		Example: "  devlxd upgrade\n  devlxd upgrade --binary /opt/devlxd/devlxd",
	}
	binary := cmd.Flags().String("binary", "", "the new devlxd (default: the daemon's own path)")
	format := formatFlag(cmd, formatYAML)
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		path := *binary
		if path != "" {
			var err error
			if path, err = filepath.Abs(path); err != nil {
				return usageError(fmt.Errorf("--binary: %w", err))
			}
		}
		u, err := c.Upgrade(cmd.Context(), path)
		if err != nil {
			return err
		}
		t, err := properties(u)
		if err != nil {
			return err
		}
		return show(cmd, *format, u, t)
	})
}
