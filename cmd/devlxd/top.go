package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"devlxd/admin"
	"devlxd/admin/client"
)

// Bounds of --interval. Rates are of a second at least.
const (
	minInterval = 100 * time.Millisecond
	maxInterval = time.Hour
)

// topOptions are what "devlxd top" is called with.
type topOptions struct {
	sort     admin.TopSort
	interval time.Duration
	limit    int // 0: as many as the window has lines
}

func newTopCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show live what the daemon does for which containers",
		Long: `Show live what the daemon does, and the containers that it does most for.

  REQ/S     requests answered a second
  CONNS     open connections
  SUBS      event subscriptions
  EVENTS/S  events sent a second, each subscriber's counted
  BYTES/S   bytes of answers and events sent a second (1K is 1024)
  WAITS/S   times a second that a connection began to wait for a quota
  LAG       events that the slowest subscriber is behind
  LOST      events lost because subscribers read too slowly

Rates are of the interval, and of one second at least. In a terminal, keys choose the
column that the containers are sorted by; "h" lists them, and "q" quits. Where the
output is no terminal, or a dumb one (TERM), a list is printed after each interval.

With --once or -f one list is printed after one interval.`,
		Example: "  devlxd top\n  devlxd top --sort lag --interval 5s\n  devlxd top --once --limit 5\n  devlxd top -f json | jq .daemon",
	}
	format := formatFlag(cmd, formatTable)
	words := make([]string, len(admin.TopSorts()))
	for i, by := range admin.TopSorts() {
		words[i] = string(by)
	}
	sort := choiceFlag(cmd, "sort", "s", string(admin.SortRequests), "what comes first: ", words...)
	interval := cmd.Flags().DurationP("interval", "d", 2*time.Second, "time between two looks")
	limit := cmd.Flags().IntP("limit", "n", 0, fmt.Sprintf("how many containers (default: what the window has room for, else %d)", admin.DefaultTop))
	once := cmd.Flags().Bool("once", false, "print one list and end")
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		o := topOptions{sort: admin.TopSort(*sort), interval: *interval, limit: *limit}
		if o.interval < minInterval || o.interval > maxInterval {
			return usageError(fmt.Errorf("--interval: %s is too short or too long: use %s to %s", o.interval, minInterval, maxInterval))
		}
		if cmd.Flags().Changed("limit") && (o.limit < 1 || o.limit > admin.MaxTop) {
			return usageError(fmt.Errorf("--limit: %d is out of range: use 1 to %d", o.limit, admin.MaxTop))
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
		defer stop()
		switch {
		case *once || cmd.Flags().Changed("format"):
			return topOnce(ctx, cmd, c, o, *format)
		case plainTerminal(cmd.OutOrStdout()):
			return topLists(ctx, cmd.OutOrStdout(), c, o)
		}
		return topLive(ctx, c, o)
	})
}

// plainTerminal reports whether nothing but lines can be shown.
func plainTerminal(out io.Writer) bool {
	name := os.Getenv("TERM")
	f, ok := out.(*os.File)
	return !ok || !term.IsTerminal(int(f.Fd())) || name == "" || name == "dumb"
}

// orDefault is the limit of a list that no window bounds.
func (o *topOptions) orDefault() int {
	if o.limit == 0 {
		return admin.DefaultTop
	}
	return o.limit
}

// topOnce prints what was done in one interval.
func topOnce(ctx context.Context, cmd *cobra.Command, c *client.Client, o topOptions, format string) error {
	// The first look begins the interval.
	if _, err := c.Top(ctx, o.sort, 1); err != nil {
		return err
	}
	if !sleep(ctx, max(o.interval, time.Second)) {
		return errInterrupted
	}
	top, err := c.Top(ctx, o.sort, o.orDefault())
	if err != nil {
		return err
	}
	if format == formatTable {
		v := topView{sort: o.sort, top: &top}
		return v.print(cmd.OutOrStdout())
	}
	return show(cmd, format, top, topTable(&top))
}

var errInterrupted = errors.New("interrupted before there was anything to show")

// topLists prints a list after each interval until ctx ends.
func topLists(ctx context.Context, out io.Writer, c *client.Client, o topOptions) error {
	if _, err := c.Top(ctx, o.sort, 1); err != nil {
		return err
	}
	for sleep(ctx, o.interval) {
		top, err := c.Top(ctx, o.sort, o.orDefault())
		v := topView{sort: o.sort, top: &top}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil: // the daemon may be restarting
			if _, err := fmt.Fprintf(out, "%s\n\n", oneLine(err)); err != nil {
				return fmt.Errorf("cannot write the output: %w", err)
			}
			continue
		}
		if err := v.print(out); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out); err != nil {
			return fmt.Errorf("cannot write the output: %w", err)
		}
	}
	return nil
}

// topTable is the containers with plain numbers, for programs.
func topTable(top *admin.Top) *table {
	t := &table{head: []string{"name", "requests_per_second", "connections", "subscribers", "events_per_second", "bytes_per_second",
		"waits_per_second", "lag", "lost", "requests", "events", "bytes"}}
	rate := func(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }
	for i := range top.Containers {
		c := &top.Containers[i]
		t.add(c.Name, rate(c.RequestsRate), strconv.FormatInt(c.Connections, 10), strconv.FormatInt(c.Subscribers, 10), rate(c.EventsRate),
			rate(c.BytesRate), rate(c.WaitsRate), strconv.FormatUint(c.Lag, 10), strconv.FormatUint(c.Lost, 10),
			strconv.FormatUint(c.Requests, 10), strconv.FormatUint(c.Events, 10), strconv.FormatUint(c.Bytes, 10))
	}
	return t
}
