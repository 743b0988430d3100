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
	"devlxd/internal/settings"
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

// execute runs one command and returns its exit code. An error is one line on standard error, whatever its text has in it.
func execute(ctx context.Context, args []string) int {
	root := newRootCommand()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	if bad := new(settings.FileError); errors.As(err, &bad) {
		for _, p := range bad.Problems {
			fmt.Fprintf(os.Stderr, "%s: %s\n", cmd.CommandPath(), oneLine(errors.New(p.String())))
		}
		return exitUsage
	}
	if errors.As(err, new(usage)) {
		path := cmd.CommandPath()
		fmt.Fprintf(os.Stderr, "%s: %s: see '%s --help'\n", path, oneLine(err), path)
		return exitUsage
	}
	fmt.Fprintf(os.Stderr, "devlxd: %s\n", oneLine(err))
	return exitFailed
}

// newRootCommand lists the commands.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "devlxd",
		Short: "The LXD guest API for every container of a host",
		Long: `The LXD guest API for every container of a host.

Exit codes: 0 done, 1 failed, 2 wrong usage. An error is one line on standard error.`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return needsCommand(cmd, args)
			}
			return cmd.Help()
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError(flagError(err)) })
	root.AddCommand(newServeCommand(), newContainerCommand(), newConfigCommand(), newDeviceCommand(), newImageCommand(),
		newMonitorCommand(), newStatusCommand(), newTopCommand(), newLogLevelCommand(), newUpgradeCommand(), newAttachCommand(), newDetachCommand(), newCheckCommand(), newDoctorCommand(), newDemoCommand())
	root.SetHelpCommand(newHelpCommand())
	// Cobra adds these two when a command is run, which is too late for checkUsage.
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	checkUsage(root)
	return root
}
