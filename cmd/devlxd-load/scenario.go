package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"devlxd/loadtest"
)

// describe is the help of a scenario's command.
func describe(s loadtest.Scenario) (short, example string) {
	switch s {
	case loadtest.Request:
		return "Read a configuration value over keep-alive connections", "devlxd-load request --containers 4200 --pipeline 16\n  devlxd-load request --rate 20000"
	case loadtest.Connect:
		return "Connect, be identified, ask once, close", "devlxd-load connect --containers 1000"
	case loadtest.Bootstorm:
		return "Have every container do what cloud-init does, all at once", "devlxd-load bootstorm --containers 4200"
	case loadtest.Idle:
		return "Subscribe to events and wait", "devlxd-load idle --containers 4200 --connections 18000"
	case loadtest.Fanout:
		return "Send events to all subscribers of one container, and one to each of all", "devlxd-load fanout --connections 10000"
	case loadtest.Slow:
		return "Send events while a share of the subscribers does not read", "devlxd-load slow --connections 2000 --stuck 0.1"
	case loadtest.Churn:
		return "Stop and start containers under load", "devlxd-load churn --containers 1000"
	default:
		return "Download an image beside requests", "devlxd-load image --downloads 4"
	}
}

// newScenarioCommand is "devlxd-load SCENARIO".
func newScenarioCommand(scenario loadtest.Scenario) *cobra.Command {
	var f flags
	f.opt.Scenario = scenario
	short, example := describe(scenario)
	var servers, hold int
	cmd := &cobra.Command{
		Use: string(scenario), Short: short, Example: "  " + example, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if servers > 1 {
				return runServers(cmd.Context(), &f, servers)
			}
			if hold > 0 {
				f.opt.Hold = holdOn(hold)
			}
			return runScenario(cmd.Context(), &f)
		},
	}
	f.bindCommon(cmd, 100)
	f.bindServer(cmd)
	p := cmd.Flags()
	p.IntVar(&f.opt.Connections, "connections", 0, "connections of all containers (default: one each)")
	switch scenario {
	case loadtest.Request, loadtest.Connect, loadtest.Churn, loadtest.Image:
		p.Float64Var(&f.opt.Rate, "rate", 0, "requests that are due a second, whatever the server does (default: as fast as it answers)")
	case loadtest.Fanout, loadtest.Slow:
		p.IntVar(&f.opt.Events, "events", 0, "events to one container (default 50)")
		p.Float64Var(&f.opt.EventRate, "event-rate", 0, "of them a second (default 20)")
	case loadtest.Idle:
		p.IntVar(&servers, "servers", 1, "share the connections out to so many servers, each loaded by a process of its own")
		p.IntVar(&hold, "hold", 0, "descriptor of a pipe to wait at")
		_ = p.MarkHidden("hold")
	}
	switch scenario {
	case loadtest.Request:
		p.IntVar(&f.opt.Pipeline, "pipeline", 0, "requests under way on a connection (default 1)")
	case loadtest.Slow:
		p.Float64Var(&f.opt.Stuck, "stuck", 0, "share of the subscribers that do not read (default 0.1)")
	case loadtest.Image:
		p.IntVar(&f.opt.Downloads, "downloads", 0, "downloads at once (default 4)")
		p.Int64Var(&f.opt.ImageSize, "image-size", 0, "bytes of the image (default 64 MiB)")
	}
	return cmd
}

func runScenario(ctx context.Context, f *flags) (err error) {
	s, err := newSession(ctx, f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	t, err := s.open(ctx)
	if err != nil {
		return err
	}
	if err := s.start(ctx); err != nil {
		return errors.Join(err, t.Close())
	}
	if err := s.add(ctx, t); err != nil {
		return err
	}
	if err := s.addStopped(ctx, t, s.fleet.Set.Len(), f.registered); err != nil {
		return err
	}
	results, err := loadtest.Run(ctx, t, s.fleet, f.opt, s.bars.begin(string(f.opt.Scenario)))
	s.bars.end()
	if err != nil {
		return err
	}
	if err := f.writeResults(results); err != nil {
		return err
	}
	return passed(results)
}
