package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"devlxd/admin/client"
)

// Types of events.
const (
	eventConfig = "config"
	eventDevice = "device"
)

func newMonitorCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "monitor NAME", Short: "Print the events of a running container, one JSON object a line"}
	types := cmd.Flags().StringSlice("type", nil, "config, device, or both separated by a comma (default: both)")
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, args []string) error {
		for _, t := range *types {
			if t != eventConfig && t != eventDevice {
				return usageError(fmt.Errorf("--type: unknown event type %q: use config, device or both with a comma", t))
			}
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM)
		defer stop()
		stream, err := c.Monitor(ctx, args[0], client.MonitorOptions{Types: *types})
		if err != nil {
			return err
		}
		defer stream.Close()
		for {
			line, err := stream.Next()
			switch {
			case errors.Is(err, io.EOF), errors.Is(err, context.Canceled):
				return nil
			case err != nil:
				return err
			}
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", line); err != nil {
				return err
			}
		}
	})
}
