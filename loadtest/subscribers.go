package loadtest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// subscribers are websockets that wait for numbered events. The events of one container are numbered without a gap, or with the gap that
// comes from dealing numbers out to all containers in turn; any other number that comes in is an error.
type subscribers struct {
	*run
	conns []*conn
	ready int // upgraded
	want  want

	base    uint64         // number before the first event
	issued  []atomic.Int64 // when each event was asked for; written by publishers
	left    []int          // subscribers that each event has not reached
	missing int            // deliveries that are still to come
	filling int            // deliveries of fillers that are still to come
	last    *hdrhistogram.Histogram
	gone    func(c *conn, kind failure, detail string) // replaces the count of an error
}

func newSubscribers(r *run) *subscribers {
	return &subscribers{run: r, want: want{status: 101}, last: newHistogram()}
}

func (s *subscribers) connected(c *conn) {
	s.conns = append(s.conns, c)
	c.want, c.inflight = &s.want, 1
	s.loop.send(c, []byte(upgradeRequest))
}

func (s *subscribers) answered(c *conn, _ int) {
	s.ready++
	if s.result.Scenario == string(Idle) {
		s.rec.latency(c.due, s.loop.now)
	}
}

func (s *subscribers) event(c *conn, number uint64) {
	if number == 0 {
		s.filling--
		return
	}
	i := int(number - s.base - 1)
	if i >= len(s.issued) {
		s.rec.fail(failContent, fmt.Sprintf("event %d was not published", number))
		return
	}
	if c.user != nil {
		return // it was stuck, and is late by intention
	}
	issued := s.issued[i].Load()
	s.rec.latency(issued, s.loop.now)
	s.left[i]--
	s.missing--
	if s.left[i] == 0 {
		_ = s.last.RecordValue(min(s.loop.now-issued, maxLatency))
	}
}

func (s *subscribers) ended(c *conn, kind failure, detail string) {
	if s.gone != nil {
		s.gone(c, kind, detail)
		return
	}
	s.rec.fail(kind, detail)
}

// subscribe makes n subscribers; with only, all of that guest.
func (s *subscribers) subscribe(n, only int) error {
	if err := s.connect(n, s, only); err != nil {
		return err
	}
	err := s.loop.wait("subscribing", setupTime, func() bool { return s.ready+int(s.failures()) >= n })
	if err == nil && s.failures() > 0 {
		err = fmt.Errorf("%w: %d of %d subscriptions failed: %v", ErrLost, s.failures(), n, s.rec.examples)
	}
	return err
}

// listenTime is how long after its answer a server may begin to listen for events: LXD adds the listener when it has sent the 101.
const listenTime = 300 * time.Millisecond

// expect says that n events will be published: to the one container of all subscribers, or (each) to all containers in turn.
func (s *subscribers) expect(n int, each bool) {
	s.base = s.fleet.event
	s.fleet.event += uint64(n)
	s.issued, s.left = make([]atomic.Int64, n), make([]int, n)
	guests := s.fleet.Set.Len()
	for _, c := range s.conns {
		c.next, c.stride = s.base+1, 1
		if each {
			c.next, c.stride = s.base+1+uint64(c.guest), uint64(guests)
		}
		if c.state != stateEvents {
			continue // one that is stuck is not waited for
		}
		for i := c.next - s.base - 1; i < uint64(n); i += c.stride {
			s.left[i]++
			s.missing++
		}
	}
}

// publish changes the event key of containers, container(i) for event i, at a rate (0: one after another), from several goroutines. It
// returns a function that drives the loop until all is published, and reports what failed.
func (s *subscribers) publish(writers int, rate float64, container func(i int) string) (await func() error) {
	ctx, cancel := context.WithCancel(s.ctx)
	var wg sync.WaitGroup
	var next atomic.Int64
	errs := make([]error, writers)
	for w := range writers {
		wg.Go(func() {
			var tick *time.Ticker
			if rate > 0 {
				tick = time.NewTicker(time.Duration(1e9 / rate))
				defer tick.Stop()
			}
			for {
				i := int(next.Add(1)) - 1
				if i >= len(s.issued) || ctx.Err() != nil {
					return
				}
				s.issued[i].Store(s.loop.clock.now())
				number := strconv.FormatUint(s.base+1+uint64(i), 10)
				if err := s.target.Set(ctx, container(i), eventKey, number); err != nil {
					errs[w] = err
					return
				}
				if tick != nil {
					<-tick.C
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
		s.loop.wake()
	}()
	return func() error {
		defer wg.Wait()
		defer cancel()
		return errors.Join(s.loop.wait("publishing", 10*time.Minute, func() bool {
			s.progress(float64(next.Load()), float64(len(s.issued)))
			select {
			case <-done:
				return true
			default:
				return false
			}
		}), errors.Join(errs...))
	}
}

// settle waits for the events that are still to come, and counts those that do not as lost.
func (s *subscribers) settle() error {
	err := s.loop.wait("the last events", s.opt.drain, func() bool { return s.missing == 0 })
	s.rec.lost += uint64(s.missing)
	return ignoreTimeout(err)
}
