package main

import (
	"errors"
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
	cmd := &cobra.Command{Use: "add NAME", Short: "Register a container",
		Example: "  devlxd container add web\n  devlxd container add web --pid 4242"}
	pid := pidFlag(cmd, "init process to bind the container to at once")
	cgroup := cmd.Flags().String("cgroup", "", "payload cgroup, for this and later binds (default: the one of the init process)")
	uid := rootUIDFlag(cmd)
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, args []string) error {
		return c.AddContainer(cmd.Context(), admin.ContainersPost{Name: args[0], PID: int(*pid), Cgroup: *cgroup, RootUID: uid()})
	})
}

func containerBind() *cobra.Command {
	cmd := &cobra.Command{Use: "bind NAME --pid PID", Short: "Bind a (re)started container to its init process"}
	pid := pidFlag(cmd, "init process of the container, needed")
	cgroup := cmd.Flags().String("cgroup", "", "payload cgroup (default: that of container add, or of the init process)")
	uid := rootUIDFlag(cmd)
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, args []string) error {
		if *pid == 0 {
			return usageError(errors.New("needs --pid: give the process id of the container's init, as the host sees it"))
		}
		return c.Bind(cmd.Context(), args[0], admin.BindPost{PID: int(*pid), Cgroup: *cgroup, RootUID: uid()})
	})
}

func containerList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List containers"}
	format := formatFlag(cmd, formatTable)
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		list, err := c.Containers(cmd.Context())
		if err != nil {
			return err
		}
		t := &table{head: []string{"name", "state", "pid", "access", "images"}}
		for _, k := range list {
			pid := ""
			if k.State != nil {
				pid = strconv.Itoa(k.State.PID)
			}
			t.add(k.Name, k.Status, pid, strconv.FormatBool(k.Access), strconv.FormatBool(k.Images))
		}
		return show(cmd, *format, list, t)
	})
}

func containerShow() *cobra.Command {
	cmd := &cobra.Command{Use: "show NAME", Short: "Show a container with its config and devices"}
	format := formatFlag(cmd, formatYAML)
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, args []string) error {
		k, err := c.Container(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		t, err := properties(k)
		if err != nil {
			return err
		}
		return show(cmd, *format, k, t)
	})
}

func containerRemove() *cobra.Command {
	cmd := &cobra.Command{Use: "remove NAME", Short: "Forget a container"}
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, args []string) error {
		return c.RemoveContainer(cmd.Context(), args[0])
	})
}
