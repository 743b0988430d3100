package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"devlxd/admin"
	"devlxd/admin/client"
)

func newStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the state of the daemon",
		Long: `Show the state of the daemon, with its health:

  ok        all is well
  degraded  guests are served, but something does not work or is about to end
  failing   guests are not served, or not all of them

and for each thing that is wrong its name, what it is and what to do. The names are
those of devlxd_fault_active, or not_ready (containers are being loaded, or the
daemon is ending), event_loop (one does not take up its work) and connections
(nearly as many are open as may be).

The exit code is 0 when the daemon answers, whatever its health is. With --check
it is 1 unless the health is ok, for scripts and monitoring.`,
		Example: "  devlxd status\n  devlxd status --check > /dev/null",
	}
	format := formatFlag(cmd, formatYAML)
	check := cmd.Flags().Bool("check", false, "fail unless the health is ok")
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		s, err := c.Status(cmd.Context())
		if err != nil {
			return err
		}
		t, err := properties(s)
		if err != nil {
			return err
		}
		if err := show(cmd, *format, s, t); err != nil || !*check {
			return err
		}
		return healthError(&s.Health)
	})
}

// healthError is nil if the health is ok.
func healthError(h *admin.Health) error {
	if h.State == admin.HealthOK {
		return nil
	}
	details := make([]string, len(h.Reasons))
	for i, r := range h.Reasons {
		details[i] = r.Name + ": " + r.Detail
	}
	return fmt.Errorf("health is %s: %s", h.State, strings.Join(details, "; "))
}
