package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"devlxd/admin"
	"devlxd/admin/client"
)

func newContainerCommand() *cobra.Command {
	return parent("container", "Register containers and bind them to their init process",
		containerAdd(), containerBind(), containerList(), containerShow(), containerRemove())
}

func containerAdd() *cobra.Command {
	cmd := &cobra.Command{Use: "add NAME", Short: "Register a container", Args: cobra.ExactArgs(1),
		Example: "  devlxd container add web\n  devlxd container add web --pid 4242"}
	pid := cmd.Flags().Int("pid", 0, "init process to bind the container to at once")
	cgroup := cmd.Flags().String("cgroup", "", "payload cgroup, for this and later binds (default: the one of the init process)")
	uid := rootUIDFlag(cmd)
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, args []string) error {
		return c.AddContainer(cmd.Context(), admin.ContainersPost{Name: args[0], PID: *pid, Cgroup: *cgroup, RootUID: uid()})
	})
}

func containerBind() *cobra.Command {
	cmd := &cobra.Command{Use: "bind NAME --pid PID", Short: "Bind a (re)started container to its init process", Args: cobra.ExactArgs(1)}
	pid := cmd.Flags().Int("pid", 0, "init process of the container")
	cgroup := cmd.Flags().String("cgroup", "", "payload cgroup (default: that of container add, or of the init process)")
	uid := rootUIDFlag(cmd)
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, args []string) error {
		if *pid <= 0 {
			return usageError(fmt.Errorf("--pid is missing: give the init process of the container"))
		}
		return c.Bind(cmd.Context(), args[0], admin.BindPost{PID: *pid, Cgroup: *cgroup, RootUID: uid()})
	})
}

func containerList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List containers", Args: cobra.NoArgs}
	format := formatFlag(cmd)
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		list, err := c.Containers(cmd.Context())
		if err != nil {
			return err
		}
		t := table{head: []string{"name", "state", "pid", "access", "images"}}
		for _, k := range list {
			pid := ""
			if k.State != nil {
				pid = strconv.Itoa(k.State.PID)
			}
			t.add(k.Name, k.Status, pid, strconv.FormatBool(k.Access), strconv.FormatBool(k.Images))
		}
		return t.print(cmd, *format)
	})
}

func containerShow() *cobra.Command {
	cmd := &cobra.Command{Use: "show NAME", Short: "Show a container with its config and devices", Args: cobra.ExactArgs(1)}
	format := cmd.Flags().StringP("format", "f", "yaml", "yaml or json")
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, args []string) error {
		k, err := c.Container(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return printDocument(cmd, *format, k)
	})
}

func containerRemove() *cobra.Command {
	cmd := &cobra.Command{Use: "remove NAME", Short: "Forget a container", Args: cobra.ExactArgs(1)}
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, args []string) error {
		return c.RemoveContainer(cmd.Context(), args[0])
	})
}
