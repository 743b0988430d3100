package loadtest

import (
	"context"
	"errors"
	"slices"
	"time"

	"devlxd/loadtest/report"
	"devlxd/loadtest/target"
)

// MaxContainers is how many containers can be told apart by their values, and how many devlxd takes.
const MaxContainers = 100_000

// Scenario is what is done to the server: a closed set.
type Scenario string

// The scenarios.
const (
	Request   Scenario = "request"   // keep-alive reads of a configuration value
	Connect   Scenario = "connect"   // connect, identify, one request, close
	Bootstorm Scenario = "bootstorm" // every container does what cloud-init does, all at once
	Idle      Scenario = "idle"      // subscribed websockets that wait
	Fanout    Scenario = "fanout"    // events to all subscribers of one container, and one event to each of all
	Slow      Scenario = "slow"      // a share of the subscribers does not read
	Churn     Scenario = "churn"     // containers stop and start again under load
	Image     Scenario = "image"     // downloads beside requests
	Flood     Scenario = "flood"     // containers that flood the server beside quiet ones
	Identity  Scenario = "identity"  // containers that check who they are taken for, while they come, go and change names
	Soak      Scenario = "soak"      // everything at once for a long time, with faults
)

// Scenarios lists them all.
func Scenarios() []Scenario {
	return []Scenario{Request, Connect, Bootstorm, Idle, Fanout, Slow, Churn, Image, Flood, Identity, Soak}
}

// plan is how a scenario is done, and what it needs of the target.
func (s Scenario) plan() (do func(*run) ([]report.Result, error), needs target.Feature) {
	switch s {
	case Request:
		return runRequest, 0
	case Connect:
		return runConnect, 0
	case Bootstorm:
		return runBootstorm, target.Identity | target.Routes
	case Idle:
		return runIdle, 0
	case Fanout:
		return runFanout, target.Events
	case Slow:
		return runSlow, target.Events
	case Churn:
		return runChurn, target.Identity | target.Lifecycle
	case Image:
		return runImage, target.Images
	case Flood:
		return runFlood, 0
	case Identity:
		return runIdentity, target.Identity | target.Lifecycle
	case Soak:
		return runSoak, target.Identity | target.Routes | target.Events | target.Images | target.Lifecycle
	}
	return func(*run) ([]report.Result, error) { return nil, target.ErrUnsupported }, 0
}

// duration is how long is measured by default.
func (s Scenario) duration() time.Duration {
	switch s {
	case Identity:
		return 5 * time.Minute
	case Soak:
		return 30 * time.Minute
	default:
		return 10 * time.Second
	}
}

// Options of a run. The zero value of each field is its default.
type Options struct {
	Scenario    Scenario
	Connections int           // default: one of each container
	Duration    time.Duration // that is measured; default: 10 s
	Warmup      time.Duration // before it; default: 1 s
	Pipeline    int           // requests under way on a connection; default: 1
	ValueSize   int           // bytes of the configuration value; default: 3
	Rate        float64       // arrivals per second, whatever the server does; 0: as fast as it answers
	Events      int           // events of each phase of fanout and slow; default: 50
	EventRate   float64       // events per second; default: 20
	Stuck       float64       // share of the subscribers that do not read (slow); default: 0.1
	Downloads   int           // at once (image); default: 4
	ImageSize   int64         // bytes (image); default: 64 MiB
	Flood       FloodOptions  // flood, soak
	Soak        SoakOptions   // soak
	Settle      time.Duration // how long the server may collect its garbage before its memory is read (idle); default: 2 s
	// Hold is called when all connections are there and the server's memory was read (idle); the connections stay until it returns.
	Hold func(context.Context) error

	drain time.Duration // how late answers and events may be at the end; default: drainTime
}

// fill sets the defaults and checks the values.
func (o *Options) fill(containers int) error {
	if !slices.Contains(Scenarios(), o.Scenario) {
		return usagef("unknown scenario %q: use one of %v", o.Scenario, Scenarios())
	}
	for _, f := range []struct {
		name  string
		value *int
		or    int
	}{
		{"connections", &o.Connections, containers}, {"pipeline", &o.Pipeline, 1}, {"value-size", &o.ValueSize, 3},
		{"events", &o.Events, 50}, {"downloads", &o.Downloads, 4},
	} {
		if *f.value < 0 {
			return usagef("--%s is %d: give a positive number", f.name, *f.value)
		}
		if *f.value == 0 {
			*f.value = f.or
		}
	}
	if o.Duration == 0 {
		o.Duration = o.Scenario.duration()
	}
	if o.Warmup == 0 {
		o.Warmup = time.Second
	}
	if o.EventRate == 0 {
		o.EventRate = 20
	}
	if o.Stuck == 0 {
		o.Stuck = 0.1
	}
	if o.ImageSize == 0 {
		if o.ImageSize = 64 << 20; o.Scenario == Soak {
			o.ImageSize = 4 << 20
		}
	}
	if o.Settle == 0 {
		o.Settle = 2 * time.Second
	}
	if o.drain == 0 {
		o.drain = drainTime
	}
	switch {
	case o.Duration < 0 || o.Warmup < 0 || o.Settle < 0:
		return usagef("--duration, --warmup and --settle have to be positive")
	case o.Rate < 0 || o.EventRate < 0:
		return usagef("--rate and --event-rate have to be positive")
	case o.Pipeline > 128:
		return usagef("--pipeline is %d: at most 128", o.Pipeline)
	case o.ValueSize > maxValue:
		return usagef("--value-size is %d: at most %d", o.ValueSize, maxValue)
	case o.ValueSize < 3:
		return usagef("--value-size is %d: at least 3 bytes are needed to tell containers apart", o.ValueSize)
	case o.Stuck < 0 || o.Stuck >= 1:
		return usagef("--stuck is %g: give a share from 0 to 1", o.Stuck)
	case o.ImageSize < 1 || o.ImageSize > 1<<30:
		return usagef("--image-size is %d: give 1 byte to 1 GiB", o.ImageSize)
	}
	flooding := 50
	if o.Scenario == Soak {
		flooding = 3
	}
	return errors.Join(o.Flood.fill(flooding), o.Soak.fill(o.Duration))
}

// maxValue is the longest configuration value that can be set (source.MaxValueLen of devlxd, and what fits into the loop's buffer).
const maxValue = 512 << 10
