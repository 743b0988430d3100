// Command devlxd serves the LXD guest API to the containers of a host.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"devlxd/internal/demo"
	"devlxd/internal/sandbox"
)

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	sandbox.Main(demo.Roles()) // takes over in the containers of "devlxd demo"
	os.Exit(execute(context.Background(), os.Args[1:]))
}

// usage is an error in how a command was called.
type usage struct{ error }

// Unwrap gives what is wrong.
func (u usage) Unwrap() error { return u.error }

// usageError makes err end the command with exit code 2.
func usageError(err error) error { return usage{err} }

// execute runs one command and returns its exit code.
func execute(ctx context.Context, args []string) int {
	root := newRootCommand()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "devlxd: %v\n", err)
	// An error before a command's own code ran is about its arguments.
	if u := (usage{}); errors.As(err, &u) || !cmd.SilenceUsage {
		return exitUsage
	}
	return exitFailed
}

// newRootCommand lists the commands.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "devlxd",
		Short:         "The LXD guest API for every container of a host",
		Version:       version,
		SilenceErrors: true,
		PersistentPreRun: func(cmd *cobra.Command, _ []string) {
			cmd.SilenceUsage = true
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Args: cobra.NoArgs,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError(err) })
	root.AddCommand(newServeCommand(), newContainerCommand(), newConfigCommand(), newDeviceCommand(), newImageCommand(),
		newMonitorCommand(), newStatusCommand(), newCheckCommand(), newDoctorCommand(), newDemoCommand())
	return root
}
