package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
)

// choice is the value of a flag that takes one of few words. A wrong one is refused before the command does anything.
type choice struct {
	value   string
	allowed []string
}

// String gives the word.
func (c *choice) String() string { return c.value }

// Type is what help prints for the value.
func (c *choice) Type() string { return "string" }

// Set takes a word.
func (c *choice) Set(word string) error {
	if !slices.Contains(c.allowed, word) {
		return fmt.Errorf("use %s", enumerate(c.allowed, "or"))
	}
	c.value = word
	return nil
}

// choiceFlag declares a flag that takes one of the allowed words, which a shell can complete.
func choiceFlag(cmd *cobra.Command, name, short, value, usage string, allowed ...string) *string {
	c := &choice{value: value, allowed: allowed}
	cmd.Flags().VarP(c, name, short, usage+enumerate(allowed, "or"))
	if err := cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(allowed, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag does not exist, or has a completion already
	}
	return &c.value
}

// pid is the value of --pid; 0 when it is not given.
type pid int

// String gives the number, or "0" for none, which help leaves out.
func (p *pid) String() string { return strconv.Itoa(int(*p)) }

// Type is what help prints for the value.
func (p *pid) Type() string { return "int" }

// Set takes a number above 0: the kernel reads others as groups and as the caller.
func (p *pid) Set(text string) error {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n <= 0 {
		return errors.New("give the process id of the container's init, as the host sees it")
	}
	*p = pid(n)
	return nil
}

// pidFlag declares --pid on cmd.
func pidFlag(cmd *cobra.Command, usage string) *pid {
	p := new(pid)
	cmd.Flags().Var(p, "pid", usage)
	return p
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
