package main

import (
	"github.com/spf13/cobra"

	"devlxd/bench/rival"
)

// newRivalCommand is what a rival's process runs: the server of that kind, until its standard input ends.
func newRivalCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rival KIND SOCKET", Short: "Serve as a rival of devlxd", Hidden: true, Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, err := rival.ParseKind(args[0])
			if err != nil {
				return err
			}
			return rival.Main(cmd.Context(), kind, args[1])
		},
	}
}
