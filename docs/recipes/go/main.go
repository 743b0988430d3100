package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"devlxd/guest"
)

var errUsage = errors.New("use: guest read | wait KEY | follow")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	c := guest.New("")
	defer c.Close()
	switch {
	case len(args) == 1 && args[0] == "read":
		return read(ctx, c, "")
	case len(args) == 2 && args[0] == "wait":
		value, err := c.WaitKey(ctx, args[1])
		if err != nil {
			return err
		}
		fmt.Println(value)
		return nil
	case len(args) == 1 && args[0] == "follow":
		return follow(ctx, c)
	}
	return errUsage
}

// read prints each key and its value.
func read(ctx context.Context, c *guest.Client, prefix string) error {
	config, err := c.Config(ctx)
	if err != nil {
		return err
	}
	for key, value := range config {
		fmt.Printf("%s%s %s\n", prefix, key, value)
	}
	return nil
}

// follow prints the configuration, and then what changes.
func follow(ctx context.Context, c *guest.Client) error {
	for event, err := range c.Events(ctx, guest.EventsOptions{Types: []guest.EventType{guest.EventConfig}}) {
		switch {
		case err != nil:
			return err
		case event.Type == guest.EventSync: // the subscription stands: read, and nothing is missed
			if err := read(ctx, c, "read "); err != nil {
				return err
			}
		default:
			fmt.Println("changed", event.Config.Key, event.Config.Value)
		}
	}
	return nil
}
