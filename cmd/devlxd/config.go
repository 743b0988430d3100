package main

import (
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"devlxd/admin"
	"devlxd/admin/client"
)

func newConfigCommand() *cobra.Command {
	return parent("config", "Read and change the configuration of a container", configSet(), configUnset(), configGet(), configShow())
}

func configSet() *cobra.Command {
	cmd := &cobra.Command{Use: "set NAME KEY=VALUE...", Short: "Set keys in one atomic change",
		Long:    "Set keys in one atomic change.\n" + dashHelp + "config set web user.x=-",
		Example: "  devlxd config set web user.role=frontend user.zone=b\n  devlxd config set web cloud-init.user-data=- < user-data"}
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, args []string) error {
		set, err := pairs(args[1:], cmd.InOrStdin())
		if err != nil {
			return err
		}
		return c.UpdateConfig(cmd.Context(), args[0], admin.Change{Set: set})
	})
}

func configUnset() *cobra.Command {
	cmd := &cobra.Command{Use: "unset NAME KEY...", Short: "Unset keys in one atomic change"}
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, args []string) error {
		return c.UpdateConfig(cmd.Context(), args[0], admin.Change{Unset: args[1:]})
	})
}

func configGet() *cobra.Command {
	cmd := &cobra.Command{Use: "get NAME KEY", Short: "Print a value"}
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, args []string) error {
		config, err := c.Config(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		value, ok := config[args[1]]
		if !ok {
			return fmt.Errorf("container %q has no key %q: see devlxd config show %s", args[0], args[1], args[0])
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), value)
		return err
	})
}

func configShow() *cobra.Command {
	cmd := &cobra.Command{Use: "show NAME", Short: "Print all keys"}
	format := formatFlag(cmd, formatYAML)
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, args []string) error {
		config, err := c.Config(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		t := &table{head: []string{"key", "value"}}
		for _, key := range slices.Sorted(maps.Keys(config)) {
			t.add(key, config[key])
		}
		return show(cmd, *format, config, t)
	})
}
