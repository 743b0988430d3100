package loadtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/loadtest/guests"
	"devlxd/loadtest/target"
)

// mortals are containers that are killed and started again, with a connection open: the server must close it, and know the next life.
type mortals struct {
	*soak
	guests []int
	states map[int]*mortal // owned by the loop
}

type mortal struct {
	dying  bool // its connection has to be closed
	closed bool
	up     bool // it was answered in this life
}

func newMortals(s *soak, guests []int) *mortals {
	m := &mortals{soak: s, guests: guests, states: make(map[int]*mortal)}
	for _, i := range guests {
		m.states[i] = &mortal{}
	}
	return m
}

func (m *mortals) connected(c *conn) {
	c.want, c.inflight = m.fleet.want(c.guest), 1
	m.loop.send(c, []byte(keyRequest))
}

func (m *mortals) answered(c *conn, _ int) { m.states[int(c.guest)].up = true }
func (m *mortals) event(*conn, uint64)     {}
func (m *mortals) ended(c *conn, kind failure, detail string) {
	state := m.states[int(c.guest)]
	if state.dying && kind == failClosed {
		state.closed = true
		return
	}
	state.up = true // nobody waits for it
	m.rec.fail(kind, "container that was started again: "+detail)
}

// play kills them one after another, as the kernel would for want of memory and as a runtime would.
func (m *mortals) play(ctx context.Context) error {
	for n := 0; ; n++ {
		i := m.guests[n%len(m.guests)]
		state := m.states[i]
		if err := m.on(ctx, func() error {
			*state = mortal{}
			return m.fleet.Set.Connect(i, 1)
		}); err != nil {
			return err
		}
		if err := m.until(ctx, m.opt.drain, "a container that was started again", func() bool { return state.up }); err != nil {
			return err
		}
		if err := m.kill(ctx, i, n%2 == 0); err != nil {
			return err
		}
		if !rest(ctx, 200*time.Millisecond) {
			return nil
		}
	}
}

// kill ends a container by itself or by the set, and starts it again.
func (m *mortals) kill(ctx context.Context, i int, self bool) error {
	state := m.states[i]
	if err := m.on(ctx, func() error {
		state.dying = true
		m.counts.killed++
		return nil
	}); err != nil {
		return err
	}
	// From here on it is done to the end, so that nothing is left half way.
	whole := context.WithoutCancel(ctx)
	if self {
		// The helper collects it, which is told by its pid: until then the pid is nobody else's.
		if pid := m.fleet.Set.PID(i); pid != 0 {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill: %w", err)
			}
		}
	} else if err := m.fleet.Set.Stop(i); err != nil {
		return err
	}
	err := m.until(whole, m.opt.drain, "the end of a connection of a container that was killed", func() bool { return state.closed })
	if errors.Is(err, ErrTimeout) {
		return m.on(whole, func() error {
			m.rec.fail(failUnanswered, err.Error())
			return err
		})
	}
	pid, err := m.fleet.Set.Restart(i)
	if err != nil {
		return err
	}
	return m.target.Bind(whole, m.fleet.names[i], pid)
}

// cutter is containers that cut their connections: in the middle of a request, before its answer, and in the middle of a download.
type cutter struct {
	*soak
	fetch *fetcher
	turn  int
}

const (
	cutEvery = 100 * time.Millisecond
	cutAfter = 20 * time.Millisecond
)

func newCutter(s *soak, among []int, fetch *fetcher) *cutter {
	k := &cutter{soak: s, fetch: fetch}
	s.script("cut connections", func(ctx context.Context) error {
		for n := 0; rest(ctx, cutEvery); n++ {
			err := s.on(ctx, func() error { return s.fleet.Set.Connect(among[n%len(among)], 1) })
			if err != nil && !errors.Is(err, guests.ErrBusy) { // beside a flood its last connection may still wait in the backlog
				return err
			}
		}
		return nil
	})
	return k
}

func (k *cutter) connected(c *conn) {
	k.turn++
	switch k.turn % 3 {
	case 0:
		c.want, c.inflight = k.fleet.want(c.guest), 1
		k.loop.send(c, []byte(keyRequest[:len(keyRequest)/2]))
		k.counts.cut++
	case 1:
		k.loop.send(c, []byte(keyRequest))
		k.counts.cut++
		k.loop.close(c)
		return
	case 2:
		c.want, c.inflight = &k.fetch.image, 1
		k.loop.send(c, k.fetch.request)
		k.counts.aborted++
	}
	k.loop.after(cutAfter, func() { k.loop.close(c) })
}

func (k *cutter) answered(*conn, int) {} // a download that was faster
func (k *cutter) event(*conn, uint64) {}
func (k *cutter) ended(_ *conn, kind failure, detail string) {
	k.rec.fail(kind, "container that cuts its connections: "+detail)
}

// floods has the crowd flood the server in bursts, and looks at the server in the second half of each calm between them: what it holds for
// a flood is gone by then, so that looks can be compared.
func (s *soak) floods(ctx context.Context) error {
	burst, calm := s.opt.Soak.Sample/5, s.opt.Soak.Sample*2/5
	for rest(ctx, calm) {
		if err := s.look(ctx, calm); err != nil {
			return err
		}
		if err := s.on(ctx, func() error { s.counts.floods++; return nil }); err != nil {
			return err
		}
		if err := s.flood.attack(s.opt.Flood.work()); err != nil {
			return err
		}
		rest(ctx, burst)
		if err := s.flood.halt(); err != nil {
			return err
		}
	}
	return nil
}

// pauses has the server stand still now and then, as on a host that is short of CPU time or memory.
func (s *soak) pauses(ctx context.Context) error {
	const pause, between = 200 * time.Millisecond, 11 * time.Second
	for rest(ctx, between) {
		pid := s.target.PID()
		err := unix.Kill(pid, unix.SIGSTOP)
		if err == unix.ESRCH && s.opt.Soak.Upgrade {
			continue // another process has taken over just now
		}
		if err != nil {
			return fmt.Errorf("SIGSTOP to the server: %w", err)
		}
		time.Sleep(pause)
		if err := unix.Kill(pid, unix.SIGCONT); err != nil && (err != unix.ESRCH || !s.opt.Soak.Upgrade) {
			return fmt.Errorf("SIGCONT to the server: %w", err)
		}
		if err := s.on(ctx, func() error { s.counts.stopped++; return nil }); err != nil {
			return err
		}
	}
	return nil
}

// upgrades has the server hand over to a new process now and then; where it cannot, it is let be. The process of the second half is left
// alone, so that what a process needs more and more is seen as well as what is handed over.
func (s *soak) upgrades(ctx context.Context) error {
	upgrader, ok := s.target.(target.Upgrader)
	between := min(time.Minute, s.opt.Duration/4)
	for left := s.opt.Duration / 2 / between; ok && left > 0 && rest(ctx, between); left-- {
		err := s.upgrade(ctx, upgrader)
		if isUnsupported(err) {
			break
		}
		if err != nil {
			return err
		}
		if err := s.on(ctx, func() error {
			s.counts.upgraded++
			s.counters = nil // those of another process
			return nil
		}); err != nil {
			return err
		}
	}
	if s.counts.upgraded == 0 && ctx.Err() == nil {
		s.opt.Soak.Report("this server has no upgrade: it is left out")
	}
	return nil
}

func (s *soak) upgrade(ctx context.Context, upgrader target.Upgrader) error {
	s.handing.Lock()
	defer s.handing.Unlock()
	return upgrader.Upgrade(context.WithoutCancel(ctx))
}
