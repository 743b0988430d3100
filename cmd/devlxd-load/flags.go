package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"devlxd/loadtest"
)

// flags are what the commands have in common.
type flags struct {
	containers int
	registered int
	attach     []int
	devlxd     string
	runDir     string
	socket     string
	admin      string
	pin        bool
	jsonFile   string
	htmlFile   string
	opt        loadtest.Options
}

// bindCommon adds the flags that every command has.
func (f *flags) bindCommon(cmd *cobra.Command, containers int) {
	p := cmd.Flags()
	p.IntVar(&f.containers, "containers", containers, "emulated containers")
	p.DurationVar(&f.opt.Duration, "duration", 0, "how long is measured (default 10s)")
	p.DurationVar(&f.opt.Warmup, "warmup", 0, "load before it that is not measured (default 1s)")
	p.DurationVar(&f.opt.Settle, "settle", 0, "how long the server may rest before its memory is read (default 2s)")
	p.IntVar(&f.opt.ValueSize, "value-size", 0, "bytes of the configuration value that is read (default 3)")
	p.StringVar(&f.devlxd, "devlxd", "", "devlxd binary to start (default: beside this program, on the PATH, or built from the checkout)")
	p.BoolVar(&f.pin, "pin", false, "give the server the first CPU alone, and the load the others")
	p.StringVar(&f.jsonFile, "json", "", "write the result to a file, - for standard output")
	p.StringVar(&f.htmlFile, "html", "", "write a page with plots to a file")
	_ = cmd.MarkFlagFilename("json")
	_ = cmd.MarkFlagFilename("html", "html")
}

// bindServer adds the flags that name a server that runs already.
func (f *flags) bindServer(cmd *cobra.Command) {
	p := cmd.Flags()
	p.IntVar(&f.registered, "registered", 0, "containers that are registered in all, running or not (default: those that run)")
	p.StringVar(&f.runDir, "run-dir", "", "load the devlxd daemon with this run directory instead of starting one")
	p.StringVar(&f.socket, "socket", "", "load whatever serves this guest socket")
	p.StringVar(&f.admin, "admin", "", "its admin API, to make events: devlxd:PATH, lxd:PATH or incus:PATH of the API socket")
	p.IntSliceVar(&f.attach, "attach", nil, "init processes of containers that exist, to connect from, instead of emulated ones")
}

// bindAttack adds the flags of the scenarios in which containers work by themselves.
func (f *flags) bindAttack(cmd *cobra.Command) {
	p, o := cmd.Flags(), &f.opt
	rate := "requests of all quiet containers a second (default: 10 of each)"
	if o.Scenario == loadtest.Identity {
		rate = "connections a second (default 10000)"
	}
	p.Float64Var(&o.Rate, "rate", 0, rate)
	switch o.Scenario {
	case loadtest.Identity:
		cmd.Flag("duration").Usage = "how long (default 5m0s)"
		return
	case loadtest.Flood:
		p.Float64Var(&o.Flood.MaxRatio, "max-ratio", 0, "fail when p99 of the quiet ones is more times as long as alone (default: any will do)")
	case loadtest.Soak:
		p.DurationVar(&o.Soak.Sample, "sample", 0, "from one flood and one look at the server to the next (default: 10s, or a twelfth of the duration)")
		p.BoolVar(&o.Soak.Upgrade, "upgrade", false, "have the server hand over to a new process once a minute in the first half of the run, if it can")
		p.Int64Var(&o.ImageSize, "image-size", 0, "bytes of the image (default 4 MiB)")
		p.Float64Var(&o.EventRate, "event-rate", 0, "events a second (default 20)")
		cmd.Flag("duration").Usage = "how long (default 30m0s)"
	}
	f.bindFlood(cmd)
}

// bindFlood adds the flags that say who floods, and how.
func (f *flags) bindFlood(cmd *cobra.Command) {
	p, o := cmd.Flags(), &f.opt
	flooding := "containers that flood, beside the quiet ones (default 50)"
	if o.Scenario == loadtest.Soak {
		flooding = "containers that flood in bursts, beside the others (default 3)"
	}
	p.IntVar(&o.Flood.Containers, "flooding", 0, flooding)
	p.StringVar(&o.Flood.Mix, "mix", "", "what a flood is made of: some of pipeline, connect, subscribe, half (default all)")
	p.IntVar(&o.Flood.Connections, "flood-connections", 0, "that a flooding container holds for each part of the mix (default 80)")
	p.IntVar(&o.Flood.Pipeline, "flood-pipeline", 0, "requests that a flooding container sends at once (default 16)")
	p.DurationVar(&o.Flood.Period, "flood-period", 0, "from one connection or batch of a part of the mix to the next (default: as fast as it goes)")
}

// check refuses flags that contradict each other.
func (f *flags) check() error {
	switch {
	case f.containers < 1:
		return usagef("--containers is %d: give at least 1", f.containers)
	case f.containers > loadtest.MaxContainers:
		return usagef("--containers is %d: at most %d", f.containers, loadtest.MaxContainers)
	case f.registered != 0 && (f.registered < f.containers || f.registered > loadtest.MaxContainers):
		return usagef("--registered is %d: give --containers at least and %d at most", f.registered, loadtest.MaxContainers)
	case f.runDir != "" && (f.socket != "" || f.admin != ""):
		return usagef("--run-dir names the sockets already: leave --socket and --admin out")
	case f.admin != "" && f.socket == "" && !strings.HasPrefix(f.admin, "devlxd:"):
		return usagef("--admin needs --socket, the guest socket as seen from the host")
	}
	return nil
}

func usagef(format string, args ...any) error {
	return fmt.Errorf("%w: %s", loadtest.ErrUsage, fmt.Sprintf(format, args...))
}

// commandLine is what was run, for the report.
func commandLine() []string {
	line := []string{"devlxd-load"}
	for _, arg := range os.Args[1:] {
		if strings.ContainsAny(arg, " \t'\"") {
			arg = strconv.Quote(arg)
		}
		line = append(line, arg)
	}
	return line
}
