package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"devlxd/loadtest"
	"devlxd/loadtest/report"
	"devlxd/loadtest/target"
)

// newScaleCommand is "devlxd-load scale".
func newScaleCommand() *cobra.Command {
	var f flags
	var registered, connections []int
	cmd := &cobra.Command{
		Use:   "scale",
		Short: "Find how the cost of a request and of an event grows with containers and connections",
		Long: `Find how the cost of a request and of an event grows with containers and connections.

The same load is given while more and more containers are registered, of which
--containers run, and then over more and more connections. The cost is the
server's CPU time for each.`,
		Example: "  devlxd-load scale --html scale.html",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return scale(cmd.Context(), &f, registered, connections)
		},
	}
	f.bindCommon(cmd, 100)
	p := cmd.Flags()
	p.IntSliceVar(&registered, "registered", []int{100, 1000, 10_000, 100_000}, "containers that are registered, running or not")
	p.IntSliceVar(&connections, "connections", []int{100, 1000, 5000, 10_000, 18_000}, "connections")
	return cmd
}

// scaler takes measurements one after another.
type scaler struct {
	*session
	t       target.Target
	results []report.Result
}

func scale(ctx context.Context, f *flags, registered, connections []int) (err error) {
	s, err := newSession(ctx, f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.start(ctx); err != nil {
		return err
	}
	t, err := target.StartDevlxd(ctx, target.Options{Binary: f.devlxd})
	if err != nil {
		return err
	}
	if err := s.add(ctx, t); err != nil {
		return err
	}
	sc := &scaler{session: s, t: t}
	byContainers, err := sc.containers(ctx, registered)
	if err != nil {
		return err
	}
	byConnections, err := sc.connections(ctx, connections)
	if err != nil {
		return err
	}
	return f.writeComparison(sc.results, []*report.Chart{
		curve("Cost by registered containers", "containers", byContainers),
		curve("Cost by connections", "connections", byConnections),
	})
}

// costs are lines of a chart: what is counted against the microseconds of each request, connection or event.
type costs map[string][][2]float64

// scaleOptions are the scenarios in which a cost is taken.
func scaleOptions(base loadtest.Options) []loadtest.Options {
	request, connect, fanout := base, base, base
	request.Scenario, connect.Scenario, fanout.Scenario = loadtest.Request, loadtest.Connect, loadtest.Fanout
	return []loadtest.Options{request, connect, fanout}
}

// containers registers more and more of them.
func (s *scaler) containers(ctx context.Context, registered []int) (costs, error) {
	lines := make(costs)
	have := s.fleet.Set.Len()
	for _, n := range registered {
		if n < have {
			return nil, usagef("--registered %d is less than the %d there are: give ascending numbers from --containers on", n, have)
		}
		if err := s.addStopped(ctx, s.t, have, n); err != nil {
			return nil, err
		}
		have = n
		for _, opt := range scaleOptions(s.flags.opt) {
			if err := s.take(ctx, lines, opt, n, fmt.Sprintf("%d registered", n)); err != nil {
				return nil, err
			}
		}
	}
	return lines, nil
}

// connections makes more and more of them.
func (s *scaler) connections(ctx context.Context, connections []int) (costs, error) {
	lines := make(costs)
	for _, n := range connections {
		for _, opt := range scaleOptions(s.flags.opt) {
			if opt.Scenario == loadtest.Connect {
				continue // each of its connections ends at once
			}
			opt.Connections = n
			if err := s.take(ctx, lines, opt, n, fmt.Sprintf("%d connections", n)); err != nil {
				return nil, err
			}
		}
	}
	return lines, nil
}

// take runs a scenario and adds what it cost at x.
func (s *scaler) take(ctx context.Context, lines costs, opt loadtest.Options, x int, variant string) error {
	results, err := loadtest.Run(ctx, s.t, s.fleet, opt, s.bars.begin(fmt.Sprintf("%s, %s", opt.Scenario, variant)))
	if err != nil {
		return err
	}
	for i := range results {
		r := &results[i]
		name := r.Title()
		if r.Server != nil {
			lines[name] = append(lines[name], [2]float64{float64(x), r.Server.CPUPerRequest})
		}
		r.Variant = variant + " " + r.Variant
	}
	s.results = append(s.results, results...)
	return nil
}

// curve draws costs over a logarithmic axis.
func curve(title, label string, lines costs) *report.Chart {
	c := &report.Chart{
		Title: title, X: report.Axis{Label: label, Log: true}, Y: report.Axis{Label: "server CPU each", Format: report.Micros},
	}
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		c.Lines = append(c.Lines, report.Line{Name: name, Points: lines[name]})
	}
	return c
}
