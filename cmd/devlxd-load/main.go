// Command devlxd-load drives a server of the guest API as thousands of real
// containers would, and says what it held.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"devlxd/loadtest"
)

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	os.Exit(execute(ctx, os.Args[1:]))
}

// errWrong ends a run in which the server answered wrongly; the summary says how.
var errWrong = errors.New("the server did not pass: see the errors above")

// execute runs one command and returns its exit code.
func execute(ctx context.Context, args []string) int {
	root := newRootCommand()
	root.SetArgs(args)
	started := false
	root.PersistentPreRun = func(*cobra.Command, []string) { started = true }
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	if ctx.Err() != nil {
		fmt.Fprintln(os.Stderr, "devlxd-load: interrupted")
		return exitFailed
	}
	if !started {
		fmt.Fprintf(os.Stderr, "devlxd-load: %v: see '%s --help'\n", err, cmd.CommandPath())
		return exitUsage
	}
	fmt.Fprintf(os.Stderr, "devlxd-load: %v\n", err)
	if errors.Is(err, loadtest.ErrUsage) {
		return exitUsage
	}
	return exitFailed
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "devlxd-load",
		Short: "Load a guest API server as thousands of real containers would",
		Long: `Load a guest API server as thousands of real containers would.

Each emulated container is a process in a cgroup, a pid namespace and a user
namespace of its own, which connects from inside. Every answer is checked for
content and belonging, every event for order and loss. Without --socket or
--run-dir a devlxd of its own is started and ended. As another user than root
fewer containers fit, and they have no cgroup.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, s := range loadtest.Scenarios() {
		root.AddCommand(newScenarioCommand(s))
	}
	root.AddCommand(newCompareCommand(), newScaleCommand(), newRivalCommand())
	return root
}
