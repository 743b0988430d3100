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
	case loadtest.Flood:
		return "Ask now and then beside containers that flood the server", "devlxd-load flood --flooding 50\n  devlxd-load flood --mix connect,half --max-ratio 2"
	case loadtest.Identity:
		return "Check who containers are taken for, while they come, go and change names", "devlxd-load identity --duration 5m"
	case loadtest.Soak:
		return "Do everything at once for a long time, with faults, and see whether the server needs more and more",
			"devlxd-load soak --html soak.html\n  devlxd-load soak --duration 12h --upgrade"
	default:
		return "Download an image beside requests", "devlxd-load image --downloads 4"
	}
}

// explain is what has to be known of a scenario beyond its line; "" for most.
func explain(s loadtest.Scenario) string {
	switch s {
	case loadtest.Flood:
		return `Ask now and then beside containers that flood the server, after the same
without them, and say how many times as long the quiet ones wait.

Each of --containers asks in turn on a connection that it keeps and on one that
it makes for the request. Each of --flooding does all of --mix at once, in a
process for each: pipelined requests, connections without end, subscriptions
that nobody reads, requests that are never finished. They may be made to wait,
refused and cut off; a quiet container that is not answered is an error.

So that the server is judged, and not the scheduler, the flooding processes run
with the policy SCHED_IDLE: they get the CPU time that the server and the quiet
containers leave. What the load generator itself is late by, and what the server
says that requests took, is told beside the latencies.`
	case loadtest.Identity:
		return `Check who containers are taken for, while they come, go and change names.

Each container knows a secret of its present life, asks for it from inside and
compares. Meanwhile containers are stopped and started again with the pids that
others had a moment before, removed and added under other names, renamed while
they run, given each other's names, and their processes are moved to new cgroups.
A container that the server was not told of yet may be refused. One that is
answered with another's secret ends the run, and the exit code is 1.`
	case loadtest.Soak:
		return `Do everything at once for a long time, with faults, and see whether the server
needs more and more.

Containers ask, boot, listen to events, download, flood and change their names,
while some are killed, connections are cut in the middle of requests, downloads
are aborted, readers stop reading and the server is stopped for 200 ms. Nothing
but what was done on purpose may go wrong: no error, no lost event. Between
two floods there is a calm of four fifths of --sample, in which the server is
looked at. The lower quartiles of resident memory, open files and goroutines in
the last third of the run may be 5 % above those of the first third at most, and
a little (4 MiB, 32, 8). With --upgrade the server is replaced while it serves, in
the first half of the run; its last process is judged by itself as well. The
exit code is 1 otherwise.`
	default:
		return ""
	}
}

// newScenarioCommand is "devlxd-load SCENARIO".
func newScenarioCommand(scenario loadtest.Scenario) *cobra.Command {
	var f flags
	f.opt.Scenario = scenario
	short, example := describe(scenario)
	var servers, hold int
	cmd := &cobra.Command{
		Use: string(scenario), Short: short, Long: explain(scenario), Example: "  " + example, Args: cobra.NoArgs,
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
	containers := 100
	if scenario == loadtest.Flood {
		containers = 50
	}
	f.bindCommon(cmd, containers)
	f.bindServer(cmd)
	p := cmd.Flags()
	switch scenario {
	case loadtest.Flood, loadtest.Identity, loadtest.Soak: // their containers have as many as they make
		f.bindAttack(cmd)
	default:
		p.IntVar(&f.opt.Connections, "connections", 0, "connections of all containers (default: one each)")
	}
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
	f.opt.Soak.Report = s.note
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
