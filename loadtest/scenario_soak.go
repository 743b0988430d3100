package loadtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"devlxd/loadtest/report"
	"devlxd/loadtest/target"
)

// SoakOptions of a soak. The zero value of each field is its default.
type SoakOptions struct {
	Sample  time.Duration // from one look at the server, and one flood, to the next; default: 10 s, or a twelfth of the duration
	Upgrade bool          // have the server hand over to a new process once a minute in the first half, where it can
	// Report is told of each sample, in a line. nil: nobody is.
	Report func(line string)
}

// minSamples are needed for a judgement: each third of those after the warm-up has three.
const minSamples = 10

func (o *SoakOptions) fill(duration time.Duration) error {
	if o.Sample == 0 {
		o.Sample = min(10*time.Second, duration/12)
	}
	if o.Sample < 0 || duration < minSamples*o.Sample {
		return usagef("--sample is %v: give a tenth of --duration at most", o.Sample)
	}
	if o.Report == nil {
		o.Report = func(string) {}
	}
	return nil
}

// minSoak is how many containers a soak needs: there is one at least for each part.
const minSoak = 21

// soak is all scenarios at once. It is the loop's handler and passes on what happens to the part that the container belongs to.
type soak struct {
	*run
	scripts  // what runs beside the loop
	owners   []handler
	quiet    *quiet
	listener *listener
	storm    *storm
	prober   *prober
	flood    *crowd
	handing  sync.Mutex // while the server hands over to a new process, or is looked at
	samples  []sample
	counts   soakCounts
}

// soakCounts is how often faults were injected. Owned by the loop.
type soakCounts struct{ killed, cut, aborted, stuck, told, stopped, upgraded, floods, images, storms uint64 }

func (s *soak) connected(c *conn)                          { s.owners[c.guest].connected(c) }
func (s *soak) answered(c *conn, status int)               { s.owners[c.guest].answered(c, status) }
func (s *soak) event(c *conn, number uint64)               { s.owners[c.guest].event(c, number) }
func (s *soak) ended(c *conn, kind failure, detail string) { s.owners[c.guest].ended(c, kind, detail) }

// scripts are goroutines that do something over and over until they are told to stop; the first that fails ends them all.
type scripts struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	failed error
	left   int // that run; owned by the loop
}

// script starts one. It returns when its context is done.
func (s *soak) script(name string, do func(ctx context.Context) error) {
	s.left++
	s.wg.Go(func() {
		err := do(s.scripts.ctx)
		if err != nil && s.scripts.ctx.Err() == nil {
			s.mu.Lock()
			s.failed = errors.Join(s.failed, fmt.Errorf("%s: %w", name, err))
			s.mu.Unlock()
			s.cancel(err)
		}
		s.loop.post(func() { s.left-- })
	})
}

// on has the loop run f, and returns when it has.
func (s *soak) on(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	s.loop.post(func() { done <- f() })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// rest pauses a script; false: it has to end.
func rest(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// runSoak does everything at once for a long time, with faults, and looks at what the server needs meanwhile.
func runSoak(r *run) (results []report.Result, err error) {
	if r.fleet.Set.Len() < minSoak {
		return nil, usagef("--containers is %d: soak needs %d", r.fleet.Set.Len(), minSoak)
	}
	if r.target.PID() == 0 {
		return nil, fmt.Errorf("a server whose process is not known: %w", target.ErrUnsupported)
	}
	r.begin("requests", "")
	s := &soak{run: r}
	s.scripts.ctx, s.cancel = context.WithCancelCause(r.ctx)
	file, content, err := r.imageFile()
	if err != nil {
		return nil, err
	}
	defer os.Remove(file)
	defer func() {
		s.cancel(nil)
		s.wg.Wait()
		for _, c := range []*crowd{s.flood, s.crowdOfProber()} {
			if c != nil {
				err = errors.Join(err, c.close())
			}
		}
	}()
	fingerprint, err := r.target.Image(r.ctx, file)
	if err != nil {
		return nil, err
	}
	if err := s.prepare(fingerprint, content); err != nil {
		return nil, err
	}
	if err := s.load(); err != nil {
		return nil, err
	}
	return s.finish()
}

func (s *soak) crowdOfProber() *crowd {
	if s.prober == nil {
		return nil
	}
	return s.prober.crowd
}

// prepare shares the containers out to the parts of the soak: of a hundred, 40 are quiet, 20 boot, 20 listen, 10 are killed, and the rest
// cut connections off, do not read, or download.
func (s *soak) prepare(fingerprint string, content []byte) (err error) {
	n := s.fleet.Set.Len()
	s.owners = make([]handler, n)
	next := 0
	take := func(count int) []int {
		part := make([]int, count)
		for i := range part {
			part[i] = next
			next++
		}
		return part
	}
	s.quiet = newQuiet(s.run, len(take(n*4/10)))
	storm, listening, mortal := take(n/5), take(n/5), take(n/10)
	s.listener, s.storm = newListener(s, listening), newStorm(s, storm)
	stuck, download := take(1), take(1)
	own := func(guests []int, h handler) {
		for _, i := range guests {
			s.owners[i] = h
		}
	}
	for i := range s.quiet.askers {
		s.owners[i] = s.quiet
	}
	k, d := newStucker(s, stuck[0]), newFetcher(s, download[0], fingerprint, content)
	own(storm, s.storm)
	own(listening, s.listener)
	m := newMortals(s, mortal)
	own(mortal, m)
	own(stuck, k)
	own(download, d)
	cutting := take(n - next)
	own(cutting, newCutter(s, cutting, d))
	if err := s.quiet.keep(s); err != nil {
		return err
	}
	s.script("listeners", s.listener.publish)
	if err := s.loop.wait("events that fill the rings", setupTime, func() bool { return s.listener.full || s.scripts.ctx.Err() != nil }); err != nil {
		return err
	}
	if err := s.crowds(); err != nil {
		return err
	}
	s.script("stuck readers", k.play)
	s.script("killed containers", m.play)
	return nil
}

// crowds starts the containers that work by themselves.
func (s *soak) crowds() error {
	const probing, probes = 10, 500 // connections per second
	config := func(int) map[string]string { return map[string]string{target.Key: "soak"} }
	c, err := s.newCrowd("probe", probing, config)
	if err != nil {
		return err
	}
	if s.prober, err = newProber(c, probing*time.Second/probes); err != nil {
		return errors.Join(err, c.close())
	}
	if s.flood, err = s.newCrowd("flood", s.opt.Flood.Containers, config); err != nil {
		return err
	}
	if err := s.prober.start(s.scripts.ctx); err != nil {
		return err
	}
	s.script("renamed containers", func(ctx context.Context) error { return s.prober.churn(ctx, 0, 1, 200*time.Millisecond) })
	return nil
}

// load lets everything run for the duration, and then ends it part by part.
func (s *soak) load() error {
	rate := s.opt.Rate
	if rate == 0 {
		rate = 10 * float64(len(s.quiet.askers))
	}
	s.openWindow()
	if err := s.startServer(); err != nil {
		return err
	}
	s.script("floods", s.floods)
	s.script("pauses of the server", s.pauses)
	if s.opt.Soak.Upgrade {
		s.script("upgrades", s.upgrades)
	}
	s.quiet.start(rate)
	s.storm.start()
	end := s.loop.now + int64(s.opt.Duration)
	over := false
	s.loop.at(end, func() { over = true })
	if err := s.loop.wait("the load", s.opt.Duration+time.Minute, func() bool {
		s.progress(float64(s.loop.now-s.rec.from), float64(s.opt.Duration))
		return over || s.scripts.ctx.Err() != nil
	}); err != nil {
		return err
	}
	s.cancel(nil)
	if err := s.loop.wait("the last faults", time.Minute, func() bool { return s.left == 0 }); err != nil {
		return err
	}
	s.wg.Wait()
	if s.failed != nil {
		return s.failed
	}
	s.closeWindow()
	if err := errors.Join(s.quiet.stop(), s.storm.stop(), s.listener.settle()); err != nil {
		return err
	}
	return errors.Join(s.prober.halt(), s.endServer(s.before.RSS))
}

// finish judges.
func (s *soak) finish() ([]report.Result, error) {
	s.prober.judge(s.prober.set.Total())
	s.judgeSamples()
	if server := s.result.Server; server != nil {
		server.CPUPerRequest, server.BytesPerConnection = 0, 0 // of everything at once they say nothing
	}
	for _, v := range []struct {
		name string
		n    uint64
	}{
		{"events delivered", s.listener.delivered}, {"images downloaded", s.counts.images}, {"storms of booting containers", s.counts.storms},
		{"containers killed", s.counts.killed}, {"connections cut in a request", s.counts.cut}, {"downloads aborted", s.counts.aborted},
		{"stuck readers", s.counts.stuck}, {"of these, told that they lost events", s.counts.told}, {"pauses of the server", s.counts.stopped},
		{"upgrades of the server", s.counts.upgraded}, {"bursts of a flood", s.counts.floods},
	} {
		s.value(v.name, "", float64(v.n))
	}
	s.prober.values(s.prober.set.Total())
	s.result.Curves = s.curves()
	return []report.Result{s.run.finish()}, nil
}
