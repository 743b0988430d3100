package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"devlxd/admin/client"
)

// clientCommand gives cmd the flag that finds the daemon.
func clientCommand(cmd *cobra.Command, run func(cmd *cobra.Command, c *client.Client, args []string) error) *cobra.Command {
	dir := defaultRunDir
	if env := os.Getenv("DEVLXD_RUN_DIR"); env != "" {
		dir = env
	}
	runDir := cmd.Flags().String("run-dir", dir, "directory of the daemon's sockets (or DEVLXD_RUN_DIR)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return run(cmd, client.InRunDir(*runDir), args) }
	return cmd
}

// parent is a command that only has subcommands.
func parent(use, short string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return usageError(fmt.Errorf("%s needs a subcommand: see devlxd %s --help", cmd.Name(), cmd.Name()))
	}}
	cmd.AddCommand(children...)
	return cmd
}

// pairs reads KEY=VALUE arguments. The value "-" stands for standard input,
// which can be used once.
func pairs(args []string, stdin io.Reader) (map[string]string, error) {
	set := make(map[string]string, len(args))
	read := false
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok || key == "" {
			return nil, usageError(fmt.Errorf("%q is not KEY=VALUE", arg))
		}
		if _, twice := set[key]; twice {
			return nil, usageError(fmt.Errorf("key %q is given twice", key))
		}
		if value == "-" {
			if read {
				return nil, usageError(errors.New("standard input (KEY=-) can be the value of one key only"))
			}
			read = true
			data, err := io.ReadAll(stdin)
			if err != nil {
				return nil, fmt.Errorf("cannot read standard input: %w", err)
			}
			value = string(data)
		}
		set[key] = value
	}
	return set, nil
}

// rootUIDFlag is --root-uid: nil when it is not given.
func rootUIDFlag(cmd *cobra.Command) func() *uint32 {
	uid := cmd.Flags().Uint32("root-uid", 0, "host uid of the container's root (default: read from the process)")
	return func() *uint32 {
		if !cmd.Flags().Changed("root-uid") {
			return nil
		}
		return uid
	}
}
