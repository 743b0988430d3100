package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"devlxd/bench/rival"
	"devlxd/loadtest"
	"devlxd/loadtest/report"
	"devlxd/loadtest/target"
)

// targetDevlxd and targetSocket are the targets of a comparison besides the rivals.
const (
	targetDevlxd = "devlxd"
	targetSocket = "socket"
)

// targetNames are what --targets takes.
func targetNames() []string {
	names := []string{targetDevlxd}
	for _, kind := range rival.Kinds() {
		names = append(names, string(kind))
	}
	return append(names, targetSocket)
}

// otherBuild is the path of a target devlxd=PATH.
func otherBuild(name string) (path string, ok bool) { return strings.CutPrefix(name, targetDevlxd+"=") }

// newCompareCommand is "devlxd-load compare".
func newCompareCommand() *cobra.Command {
	var f flags
	var targets, scenarios []string
	var rounds int
	cmd := &cobra.Command{
		Use:   "compare",
		Short: "Give devlxd and other servers the same load in one run",
		Long: `Give devlxd and other servers the same load in one run, and print how they compare.

The servers run side by side, and each scenario is done in rounds, one server
after the other, so that a machine that gets slower meanwhile does so for all.
What is printed is the median of the rounds.

  devlxd    this project; devlxd=PATH another build of it, such as that of before
            a change
  nethttp   what LXD does: net/http, a goroutine per connection, a walk through
            /proc for each request, a goroutine per event and listener
  plain     net/http with a fixed answer
  fasthttp  fasthttp with a fixed answer
  gnet      gnet's engine with a fixed answer
  limit     a bare epoll loop in Go: fixed bytes, nothing parsed
  limit-c   the same in C (needs a compiler)
  socket    what serves --socket, such as a real LXD`,
		Example: "  devlxd-load compare\n  devlxd-load compare --targets devlxd,nethttp --scenarios request,fanout --rounds 5 --html compare.html",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return compare(cmd.Context(), &f, targets, scenarios, rounds)
		},
	}
	f.bindCommon(cmd, 500)
	f.bindServer(cmd)
	p := cmd.Flags()
	p.IntVar(&f.opt.Connections, "connections", 0, "connections of all containers (default: one each)")
	p.IntVar(&f.opt.Pipeline, "pipeline", 0, "requests under way on a connection of the scenario request (default: 1, and then 16)")
	f.bindFlood(cmd)
	p.StringSliceVar(&targets, "targets", []string{targetDevlxd, "nethttp", "plain", "fasthttp", "gnet", "limit"}, "of "+strings.Join(targetNames(), ", "))
	p.StringSliceVar(&scenarios, "scenarios", []string{"request", "connect", "bootstorm", "idle", "fanout"}, "what is done")
	p.IntVar(&rounds, "rounds", 3, "how often")
	return cmd
}

// comparison is one command's run.
type comparison struct {
	*session
	rounds  int
	gone    map[string]bool // targets that failed
	results []report.Result
}

func compare(ctx context.Context, f *flags, targets, scenarios []string, rounds int) (err error) {
	for _, name := range targets {
		if _, other := otherBuild(name); !other && !slices.Contains(targetNames(), name) {
			return usagef("unknown target %q: use %s", name, strings.Join(targetNames(), ", "))
		}
	}
	if rounds < 1 || rounds%2 == 0 {
		return usagef("--rounds is %d: give an odd number, whose middle one is taken", rounds)
	}
	if slices.Contains(scenarios, string(loadtest.Flood)) {
		if len(scenarios) > 1 {
			return usagef("--scenarios has flood and others: compare flood by itself, because the quotas of devlxd hold in it alone")
		}
		f.opt.Scenario = loadtest.Flood
	}
	plans, err := comparePlans(f.opt, scenarios)
	if err != nil {
		return err
	}
	s, err := newSession(ctx, f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.start(ctx); err != nil {
		return err
	}
	for _, name := range targets {
		t, err := s.openNamed(ctx, name)
		if err != nil {
			return err
		}
		if err := s.add(ctx, t); err != nil {
			return err
		}
	}
	c := &comparison{session: s, rounds: rounds, gone: make(map[string]bool)}
	for _, opt := range plans {
		if err := c.scenario(ctx, opt); err != nil {
			return err
		}
	}
	s.bars.end()
	return f.writeComparison(c.results, nil)
}

// comparePlans are the options of each scenario; requests are made one at a time and, unless a pipeline was asked for, 16 at a time too.
func comparePlans(base loadtest.Options, scenarios []string) ([]loadtest.Options, error) {
	var plans []loadtest.Options
	for _, name := range scenarios {
		opt := base
		opt.Scenario = loadtest.Scenario(name)
		if !slices.Contains(loadtest.Scenarios(), opt.Scenario) {
			return nil, usagef("unknown scenario %q: use one of %v", name, loadtest.Scenarios())
		}
		if opt.Scenario == loadtest.Identity || opt.Scenario == loadtest.Soak {
			return nil, usagef("%s is for one server: run devlxd-load %s", name, name)
		}
		plans = append(plans, opt)
		if opt.Scenario == loadtest.Request && base.Pipeline == 0 {
			opt.Pipeline = 16
			plans = append(plans, opt)
		}
	}
	return plans, nil
}

// openNamed starts or finds one target.
func (s *session) openNamed(ctx context.Context, name string) (target.Target, error) {
	if path, ok := otherBuild(name); ok {
		d, err := s.startDevlxd(ctx, path)
		if err != nil {
			return nil, err
		}
		return target.Named(d, name), nil
	}
	switch name {
	case targetDevlxd:
		return s.startDevlxd(ctx, s.flags.devlxd)
	case targetSocket:
		if s.flags.socket == "" {
			return nil, usagef("the target %s needs --socket", targetSocket)
		}
		return s.open(ctx)
	}
	return target.StartRival(ctx, rival.Kind(name))
}

// scenario does one scenario in rounds against all targets that can do it.
func (c *comparison) scenario(ctx context.Context, opt loadtest.Options) error {
	rounds := make(map[string][][]report.Result)
	for round := range c.rounds {
		for _, t := range c.targets {
			if c.gone[t.Name()] {
				continue
			}
			step := c.bars.begin(fmt.Sprintf("%s, round %d of %d, %s", opt.Scenario, round+1, c.rounds, t.Name()))
			results, err := loadtest.Run(ctx, t, c.fleet, opt, step)
			if errors.Is(err, target.ErrUnsupported) {
				continue
			}
			if err != nil && t.Name() != targetDevlxd && ctx.Err() == nil {
				// LXD dies of connections that come at once: what was measured until then stays.
				c.note(fmt.Sprintf("%s is left out from here on: %v", t.Name(), err))
				c.gone[t.Name()] = true
				continue
			}
			if err != nil {
				return err
			}
			rounds[t.Name()] = append(rounds[t.Name()], results)
		}
	}
	phases := 0
	for _, results := range rounds {
		phases = max(phases, len(results[0]))
	}
	for phase := range phases {
		for _, t := range c.targets {
			var same []report.Result
			for _, results := range rounds[t.Name()] {
				same = append(same, results[phase])
			}
			if len(same) > 0 {
				c.results = append(c.results, report.Median(same))
			}
		}
	}
	return nil
}

// writeComparison writes ratios for people, and the files that are asked for.
func (f *flags) writeComparison(results []report.Result, charts []*report.Chart) error {
	c := report.Comparison{Machine: report.ThisMachine(commandLine()), Results: results, Curves: charts}
	summary := io.Writer(os.Stdout)
	if f.jsonFile == "-" {
		summary = os.Stderr
	}
	if err := report.WriteTable(summary, &c); err != nil {
		return err
	}
	if f.jsonFile != "" {
		if err := writeFile(f.jsonFile, func(w io.Writer) error { return report.WriteJSON(w, &c) }); err != nil {
			return err
		}
	}
	if f.htmlFile != "" {
		if err := writeFile(f.htmlFile, func(w io.Writer) error { return report.WriteComparisonHTML(w, &c) }); err != nil {
			return err
		}
	}
	// What a rival gets wrong is in the table, and no reason to fail.
	return passed(slices.DeleteFunc(slices.Clone(results), func(r report.Result) bool { return r.Target != targetDevlxd }))
}
