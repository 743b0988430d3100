package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// usage is an error in how a command was called.
type usage struct{ error }

// Unwrap gives what is wrong.
func (u usage) Unwrap() error { return u.error }

// usageError makes err end the command with exit code 2. The command's name is put in front and a hint at its help behind.
func usageError(err error) error { return usage{err} }

// checkUsage makes every mistake in calling cmd, or a command below it, a usage error of one line. Cobra's own checks print
// pages and differ from one command to the next.
func checkUsage(cmd *cobra.Command) {
	if !cmd.HasSubCommands() {
		cmd.Args = checkArguments
		return
	}
	cmd.Args = cobra.ArbitraryArgs // needsCommand says it better
	if !cmd.Runnable() {
		cmd.RunE = needsCommand
	}
	for _, sub := range cmd.Commands() {
		checkUsage(sub)
	}
}

// checkArguments compares the arguments with the usage line, such as "add NAME DEVICE TYPE [KEY=VALUE...]", so that the two
// cannot differ. What begins with a dash ends the arguments of a usage line.
func checkArguments(cmd *cobra.Command, args []string) error {
	var names, needed []string
	endless := false
	for _, word := range strings.Fields(cmd.Use)[1:] {
		if strings.HasPrefix(word, "-") {
			break
		}
		name := strings.Trim(word, "[.]")
		names = append(names, name)
		endless = endless || strings.Contains(word, "...")
		if !strings.HasPrefix(word, "[") {
			needed = append(needed, name)
		}
	}
	switch {
	case len(args) < len(needed):
		return usageError(fmt.Errorf("needs %s", enumerate(needed, "and")))
	case len(names) == 0 && len(args) > 0:
		return usageError(fmt.Errorf("takes no arguments, %q is too much", args[0]))
	case len(args) > len(names) && !endless:
		return usageError(fmt.Errorf("takes only %s, %q is too much", enumerate(names, "and"), args[len(names)]))
	}
	for i, arg := range args {
		if arg == "" {
			return usageError(fmt.Errorf("%s is empty", names[min(i, len(names)-1)]))
		}
	}
	return nil
}

// enumerate writes "A, B and C", or with another word.
func enumerate(names []string, word string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " " + word + " " + names[last]
}

// needsCommand is what a command does that only has subcommands.
func needsCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usageError(errors.New("needs a command"))
	}
	cmd.SuggestionsMinimumDistance = 2 // cobra's default, which it sets in a place that is not passed here
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usageError(fmt.Errorf("unknown command %q, perhaps %s", args[0], enumerate(near, "or")))
	}
	return usageError(fmt.Errorf("unknown command %q", args[0]))
}

// flagError takes the names of Go functions out of an error about a flag.
func flagError(err error) error {
	var number *strconv.NumError
	if !errors.As(err, &number) {
		return err
	}
	advice := "give a whole number"
	switch {
	case number.Func == "ParseBool":
		advice = "give true or false"
	case errors.Is(err, strconv.ErrRange):
		advice = "it is out of range"
	}
	return errors.New(strings.Replace(err.Error(), number.Error(), advice, 1))
}

// newHelpCommand is "devlxd help". Cobra's own succeeds with a topic that it does not know.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{Use: "help [COMMAND...]", Short: "Help about any command", RunE: func(cmd *cobra.Command, args []string) error {
		topic, rest, err := cmd.Root().Find(args)
		if err != nil {
			return usageError(err)
		}
		if len(rest) > 0 {
			return needsCommand(topic, rest)
		}
		topic.InitDefaultHelpFlag() // as cobra does before it prints a help
		return topic.Help()
	}}
}

// oneLine is the text of an error with its lines joined.
func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
