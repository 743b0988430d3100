package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"devlxd/admin"
	"devlxd/admin/client"
)

func newDeviceCommand() *cobra.Command {
	return parent("device", "Change the devices of a container", deviceAdd(), deviceSet(), deviceRemove(), deviceList())
}

func deviceAdd() *cobra.Command {
	cmd := &cobra.Command{Use: "add NAME DEVICE TYPE [KEY=VALUE...]", Short: "Add a device",
		Example: "  devlxd device add web eth0 nic network=br0"}
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, args []string) error {
		config, err := pairs(args[3:], cmd.InOrStdin())
		if err != nil {
			return err
		}
		if _, twice := config["type"]; twice {
			return usageError(fmt.Errorf("type is given twice: as an argument and as a property"))
		}
		config["type"] = args[2]
		return c.AddDevice(cmd.Context(), args[0], args[1], config)
	})
}

func deviceSet() *cobra.Command {
	cmd := &cobra.Command{Use: "set NAME DEVICE KEY=VALUE...", Short: "Set properties of a device",
		Long:    "Set properties of a device in one atomic change.\n" + dashHelp + "device set web eth0 user.x=-",
		Example: "  devlxd device set web eth0 network=br1 mtu=9000"}
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, args []string) error {
		set, err := pairs(args[2:], cmd.InOrStdin())
		if err != nil {
			return err
		}
		return c.SetDevice(cmd.Context(), args[0], args[1], admin.Change{Set: set})
	})
}

func deviceRemove() *cobra.Command {
	cmd := &cobra.Command{Use: "remove NAME DEVICE", Short: "Remove a device"}
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, args []string) error {
		return c.RemoveDevice(cmd.Context(), args[0], args[1])
	})
}

func deviceList() *cobra.Command {
	cmd := &cobra.Command{Use: "list NAME", Short: "List devices"}
	format := formatFlag(cmd, formatTable)
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, args []string) error {
		devices, err := c.Devices(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		t := &table{head: []string{"name", "type", "config"}}
		for _, name := range slices.Sorted(maps.Keys(devices)) {
			var config []string
			for _, key := range slices.Sorted(maps.Keys(devices[name])) {
				if key != "type" {
					config = append(config, key+"="+devices[name][key])
				}
			}
			t.add(name, devices[name]["type"], strings.Join(config, " "))
		}
		return show(cmd, *format, devices, t)
	})
}
