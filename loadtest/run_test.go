package loadtest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"devlxd/loadtest/guests"
	"devlxd/loadtest/report"
	"devlxd/loadtest/target"
)

func TestMain(m *testing.M) {
	// gnet, of which the rivals are made, starts a pool of workers when it is linked.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"))
}

// newFleet starts guests that end with the test.
func newFleet(t *testing.T, n int) *Fleet {
	t.Helper()
	set, err := guests.Start(context.Background(), guests.Options{Count: n})
	if errors.Is(err, guests.ErrUnavailable) {
		t.Skipf("needs user and pid namespaces: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := set.Close(); err != nil {
			t.Error(err)
		}
	})
	return NewFleet(set, 3)
}

func runAgainst(t *testing.T, fleet *Fleet, f fault, o Options) []report.Result {
	t.Helper()
	s := newFake(t, f)
	if err := s.Register(context.Background(), fleet.Containers(), nil); err != nil {
		t.Fatal(err)
	}
	if o.Duration == 0 {
		o.Duration = 200 * time.Millisecond
	}
	if o.drain == 0 {
		o.drain = 500 * time.Millisecond
	}
	o.Warmup = time.Millisecond
	results, err := Run(context.Background(), s, fleet, o, nil)
	if err != nil && !errors.Is(err, ErrLost) {
		t.Fatal(err)
	}
	if err != nil {
		// A scenario that could not begin has found the fault too.
		return []report.Result{{Errors: 1, ByKind: map[string]uint64{"lost": 1}}}
	}
	return results
}

// TestFaults: whatever a server does wrong is found, and named.
func TestFaults(t *testing.T) {
	fleet := newFleet(t, 3)
	for _, c := range []struct {
		fault    fault
		scenario Scenario
		kind     failure // "": nothing is wrong
	}{
		{faultNone, Request, ""}, {faultNone, Connect, ""}, {faultNone, Fanout, ""}, {faultNone, Idle, ""},
		{faultOther, Request, failContent}, {faultOther, Connect, failContent},
		{faultLonger, Request, failContent}, {faultStatus, Request, failStatus}, {faultStatus, Connect, failStatus},
		{faultClose, Request, failClosed}, {faultClose, Connect, failClosed},
		{faultSilent, Request, failUnanswered}, {faultSilent, Connect, failUnanswered},
		{faultGarbage, Request, failProtocol}, {faultTwice, Request, failProtocol},
		{faultAccept, Idle, "lost"}, {faultCount, Request, failDisagree},
		{faultDrop, Fanout, failContent}, {faultSwap, Fanout, failContent}, {faultDouble, Fanout, failContent}, {faultOverrun, Fanout, failOverrun},
	} {
		t.Run(string(c.scenario)+" "+string(c.fault), func(t *testing.T) {
			results := runAgainst(t, fleet, c.fault, Options{Scenario: c.scenario, Connections: 5, Events: 10, EventRate: 200})
			found := map[string]uint64{}
			for _, r := range results {
				for kind, n := range r.ByKind {
					found[kind] += n
				}
				if c.kind == "" && !r.OK() {
					t.Errorf("%s: %d requests, %d errors %v %v, %d lost", r.Title(), r.Requests, r.Errors, r.ByKind, r.Examples, r.Lost)
				}
			}
			if c.kind != "" && found[string(c.kind)] == 0 {
				t.Errorf("errors = %v; want one of kind %q", found, c.kind)
			}
		})
	}
}

// TestOpenLoop: what waits for a connection counts from when it was due. The server answers nothing for a while.
func TestOpenLoop(t *testing.T) {
	fleet := newFleet(t, 2)
	s := newFake(t, faultNone)
	if err := s.Register(context.Background(), fleet.Containers(), nil); err != nil {
		t.Fatal(err)
	}
	const stall = 300 * time.Millisecond
	s.mu.Lock()
	time.AfterFunc(stall, s.mu.Unlock)
	o := Options{Scenario: Request, Connections: 2, Rate: 500, Duration: time.Second, Warmup: time.Nanosecond}
	results, err := Run(context.Background(), s, fleet, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &results[0]
	if !r.OK() || r.Requests < 450 {
		t.Fatalf("%d requests, errors %v %v; want about 500", r.Requests, r.ByKind, r.Examples)
	}
	// Of 500 arrivals 150 were due while nothing was answered. A closed loop would have seen 2 late ones.
	late := 0.0
	for _, p := range r.Distribution {
		if p.Micros < 20e3 {
			late = 1 - p.Quantile
		}
	}
	if late < 0.1 {
		t.Errorf("%.1f %% of the requests were late; want more than 10 %%", late*100)
	}
}

// TestAfterUnfinished: a run waits for the connections that an earlier one has left under way, to a server that accepts late.
func TestAfterUnfinished(t *testing.T) {
	fleet := newFleet(t, 1)
	path := filepath.Join(guestDir(t), "sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	const connects = 5
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 1), os.Chmod(path, 0o666),
		fleet.Set.SetSocket(path), fleet.Set.Connect(0, connects)); err != nil {
		t.Fatal(err)
	}
	accepted := make(chan error)
	go func() {
		time.Sleep(100 * time.Millisecond)
		for range connects {
			nfd, _, err := unix.Accept(fd)
			if err != nil {
				accepted <- err
				return
			}
			_ = unix.Close(nfd)
		}
		accepted <- nil
	}()
	for _, r := range runAgainst(t, fleet, faultNone, Options{Scenario: Request}) {
		if !r.OK() {
			t.Errorf("errors = %v %v", r.ByKind, r.Examples)
		}
	}
	if err := <-accepted; err != nil {
		t.Fatal(err)
	}
}

// TestInterrupt: a run ends when its context does.
func TestInterrupt(t *testing.T) {
	fleet := newFleet(t, 1)
	s := newFake(t, faultNone)
	if err := s.Register(context.Background(), fleet.Containers(), nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	interrupted := errors.New("interrupted")
	time.AfterFunc(50*time.Millisecond, func() { cancel(interrupted) })
	_, err := Run(ctx, s, fleet, Options{Scenario: Request, Duration: time.Minute}, nil)
	if !errors.Is(err, interrupted) {
		t.Errorf("error = %v; want %v", err, interrupted)
	}
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"scenario": {Scenario: "dance"}, "connections": {Scenario: Request, Connections: -1}, "pipeline": {Scenario: Request, Pipeline: 1000},
		"value": {Scenario: Request, ValueSize: 1}, "large value": {Scenario: Request, ValueSize: 1 << 30}, "rate": {Scenario: Request, Rate: -1},
		"mix": {Scenario: Flood, Flood: FloodOptions{Mix: "connect,dance"}}, "held": {Scenario: Flood, Flood: FloodOptions{Connections: 257}},
		"flooding": {Scenario: Flood, Flood: FloodOptions{Containers: -1}}, "batch": {Scenario: Flood, Flood: FloodOptions{Pipeline: 129}},
		"ratio": {Scenario: Flood, Flood: FloodOptions{MaxRatio: -1}}, "period": {Scenario: Flood, Flood: FloodOptions{Period: time.Minute}},
		"sample": {Scenario: Soak, Duration: time.Second, Soak: SoakOptions{Sample: time.Second}},
		"stuck":  {Scenario: Slow, Stuck: 1}, "image": {Scenario: Image, ImageSize: -1}, "duration": {Scenario: Request, Duration: -1},
	} {
		if err := o.fill(1); !errors.Is(err, ErrUsage) {
			t.Errorf("%s: error = %v; want %v", name, err, ErrUsage)
		}
	}
	o := Options{Scenario: Request}
	if err := o.fill(7); err != nil || o.Connections != 7 || o.Pipeline != 1 || o.ValueSize != 3 {
		t.Errorf("defaults = %+v, %v", o, err)
	}
}

// TestUnsupported: a scenario that a target cannot do is refused.
func TestUnsupported(t *testing.T) {
	fleet := newFleet(t, 1)
	if _, err := Run(context.Background(), newFake(t, faultNone), fleet, Options{Scenario: Image}, nil); !errors.Is(err, target.ErrUnsupported) {
		t.Errorf("error = %v; want %v", err, target.ErrUnsupported)
	}
}
