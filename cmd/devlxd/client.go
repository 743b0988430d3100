package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"devlxd/admin/client"
)

// clientCommand gives cmd the flag that finds the daemon.
func clientCommand(cmd *cobra.Command, run func(cmd *cobra.Command, c *client.Client, args []string) error) *cobra.Command {
	runDir := runDirFlag(cmd, "directory of the daemon's sockets")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkRunDir(*runDir); err != nil {
			return err
		}
		return run(cmd, client.InRunDir(*runDir), args)
	}
	return cmd
}

// runDirFlag declares --run-dir, whose default is of the environment or else the usual directory.
func runDirFlag(cmd *cobra.Command, usage string) *string {
	return cmd.Flags().String("run-dir", defaultRunDir(), usage+" (or DEVLXD_RUN_DIR)")
}

// checkRunDir refuses what would be the directory that the command happens to be started in.
func checkRunDir(dir string) error {
	if dir == "" {
		return usageError(errors.New("--run-dir is empty: give a directory"))
	}
	return nil
}

// parent is a command that only has subcommands.
func parent(use, short string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short}
	cmd.AddCommand(children...)
	return cmd
}

// dashHelp is the help on the value "-".
const dashHelp = `
As with lxc, the value "-" stands for standard input, unless that is a terminal.
To set the value "-" itself, write it there: printf - | devlxd `

// pairs reads KEY=VALUE arguments. The value "-" stands for standard input, which can be used once; as in LXD's client
// (lxc/utils.go, getConfig) it stands for itself where that is a terminal.
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
		if value == "-" && !isTerminal(stdin) {
			if read {
				return nil, usageError(errors.New("standard input (KEY=-) can be the value of one key only"))
			}
			read = true
			data, err := io.ReadAll(stdin)
			if err != nil {
				return nil, fmt.Errorf("cannot read standard input: %w: give it a file or a pipe", err)
			}
			value = string(data)
		}
		set[key] = value
	}
	return set, nil
}

func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
