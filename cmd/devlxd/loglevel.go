package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"devlxd/admin"
	"devlxd/admin/client"
	"devlxd/internal/logging"
)

// newLogLevelCommand is "devlxd log-level".
func newLogLevelCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log-level [LEVEL]",
		Short: "Show or change which lines the daemon logs",
		Long: `Show the level of the daemon's log, or change it at once: debug, info, warn or error.
It counts until the daemon reads its settings again (SIGHUP), is upgraded or ends;
the key log.level of the configuration file stays.

At level debug there is a line for each guest request, and for each connection that
ends, with the reason; for each container no more than 5 a second, and 50 at once.`,
		Example:   "  devlxd log-level\n  devlxd log-level debug",
		ValidArgs: logging.Levels(),
	}
	format := formatFlag(cmd, formatYAML)
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, args []string) error {
		if len(args) > 0 {
			if _, err := logging.ParseLevel(args[0]); err != nil {
				return usageError(fmt.Errorf("LEVEL: %w", err))
			}
			return c.SetLogLevel(cmd.Context(), args[0])
		}
		level, err := c.LogLevel(cmd.Context())
		if err != nil {
			return err
		}
		v := admin.LogLevelPut{Level: level}
		t, err := properties(v)
		if err != nil {
			return err
		}
		return show(cmd, *format, v, t)
	})
}
