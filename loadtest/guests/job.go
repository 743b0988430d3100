package guests

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// Kinds of jobs, as in helper/guest.h.
const (
	jobConnect = iota
	jobFlood
	jobProbe
	jobRest
)

// SecretLen is the length of a secret in bytes.
const SecretLen = 32

// Mix is a bit set of what a flood is made of: a process of the guest for each.
type Mix uint32

// What there is. All connect without end; none waits for an answer.
const (
	// Pipeline: batches of requests on kept connections.
	Pipeline Mix = 1 << iota
	// Storm: connections that ask once or not at all.
	Storm
	// Subscribe: subscriptions to events that nobody reads.
	Subscribe
	// Half: requests that are never finished.
	Half

	// Everything is all of them.
	Everything = Pipeline | Storm | Subscribe | Half
)

// Flood is a job: do as much harm as a container can.
type Flood struct {
	Mix         Mix
	Connections int           // that each process holds, up to 256
	Pipeline    int           // requests in a batch, up to 128
	Period      time.Duration // of each process from one connection or batch to the next; 0: as fast as it goes
}

// Probe is a job: ask for the value of user.load from processes of the container, each on a connection of its own, some on a kept one, and
// some from a process that exits at once, and compare the answers with the secret.
type Probe struct {
	Secret    string        // SecretLen bytes
	Processes int           // up to 64
	Period    time.Duration // of each process from one connection to the next; 0: as fast as it goes
}

// Counts are what a guest's jobs have seen in all its lives. What is "settled" is said by [Set.Settle].
type Counts struct {
	Connected     uint64 // connections
	NoConnect     uint64 // connect(2) failed
	Right         uint64 // answers: 200 and, of a probe, with the secret
	Refused       uint64 // 401, 403 or 500; of a probe while it was not settled
	Cut           uint64 // connections closed by the server; of a probe while it was not settled
	ExitedRight   uint64 // as Right, of a peer that had exited before it could be looked at
	ExitedRefused uint64 // as Refused or Cut, of such a peer
	Wrong         uint64 // 200 with anything else than the secret: an answer for another container
	Denied        uint64 // refused while settled
	Dropped       uint64 // closed while settled
	Broken        uint64 // another status, or no HTTP
	Unanswered    uint64 // nothing came for 10 s
}

// counters is how many there are.
const counters = 12

// fields has them in the order of helper/guest.h.
func (c *Counts) fields() [counters]*uint64 {
	return [...]*uint64{
		&c.Connected, &c.NoConnect, &c.Right, &c.Refused, &c.Cut, &c.ExitedRight, &c.ExitedRefused, &c.Wrong, &c.Denied, &c.Dropped,
		&c.Broken, &c.Unanswered,
	}
}

// Add adds those of another guest.
func (c *Counts) Add(o Counts) {
	from := o.fields()
	for i, sum := range c.fields() {
		*sum += *from[i]
	}
}

// Counts reads what guest i has seen.
func (s *Set) Counts(i int) (c Counts) {
	for j, field := range c.fields() {
		*field = atomic.LoadUint64(&s.memory.slots[i].counts[j])
	}
	return c
}

// Total is the sum over all guests.
func (s *Set) Total() (sum Counts) {
	for i := range s.guests {
		sum.Add(s.Counts(i))
	}
	return sum
}

// Wrong returns the beginning of the first answer to a probe of guest i that was wrong; "" when none was. It is for a guest that counts
// one, which was written before.
func (s *Set) Wrong(i int) string {
	text := s.memory.slots[i].wrong[:]
	n := 0
	for n < len(text) && text[n] != 0 {
		n++
	}
	return string(text[:n])
}

// Settle says, with a number other than 0, that from now on guest i has to be answered with its secret, and with 0 that it may be refused.
// An answer counts as one that had to be right when the number was the same before the connection and after the answer.
func (s *Set) Settle(i int, number uint32) {
	atomic.StoreUint32(&s.memory.slots[i].job.settled, number)
}

// Launch has guest i do a [Flood] or a [Probe] until Halt, Connect or the guest's end, and returns at once. A job that is under way ends
// first.
//
// Errors: [ErrJob], [ErrAttached], [ErrBusy], [ErrStopped], [ErrNoSocket], [ErrClosed], [ErrEnded].
func (s *Set) Launch(i int, work any) error {
	var j job
	switch w := work.(type) {
	case Flood:
		if w.Mix == 0 || w.Mix > Everything || w.Connections < 1 || w.Connections > 256 || w.Pipeline < 1 || w.Pipeline > 128 || !periodOK(w.Period) {
			return fmt.Errorf("%+v: %w", w, ErrJob)
		}
		j = job{kind: jobFlood, mix: uint32(w.Mix), connections: uint32(w.Connections), pipeline: uint32(w.Pipeline), period: uint32(w.Period)}
	case Probe:
		if w.Processes < 1 || w.Processes > 64 || len(w.Secret) != SecretLen || !periodOK(w.Period) {
			return fmt.Errorf("%+v: %w", w, ErrJob)
		}
		j = job{kind: jobProbe, mix: uint32(w.Processes), period: uint32(w.Period)}
		copy(j.secret[:], w.Secret)
	default:
		return fmt.Errorf("%T: %w", work, ErrJob)
	}
	g := &s.guests[i]
	g.mu.Lock()
	working := g.working
	g.mu.Unlock()
	if working { // its processes look at what is written here
		if err := s.Halt(i); err != nil {
			return err
		}
	}
	_, err := s.work(i, func(p *job) {
		p.kind, p.mix, p.connections, p.pipeline, p.period, p.secret = j.kind, j.mix, j.connections, j.pipeline, j.period, j.secret
	})
	return err
}

func periodOK(d time.Duration) bool { return d >= 0 && d <= math.MaxUint32 }

// haltTime is how long the processes of a job may take to see that it is over.
const haltTime = 15 * time.Second

// Halt ends the jobs of guests, of all at once, and returns when their processes have ended. A guest that has stopped does none.
//
// Errors: [ErrWorking], and as of Launch.
func (s *Set) Halt(guests ...int) error {
	orders := make(map[int]uint32)
	for _, i := range guests {
		seq, err := s.work(i, func(p *job) { p.kind = jobRest })
		if errors.Is(err, ErrStopped) {
			continue
		}
		if err != nil {
			return err
		}
		orders[i] = seq
	}
	deadline := time.Now().Add(haltTime)
	for i, seq := range orders {
		for s.PID(i) != 0 && atomic.LoadUint32(&s.memory.slots[i].done) != seq {
			if time.Now().After(deadline) {
				return fmt.Errorf("guest %d: %w", i, ErrWorking)
			}
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

// work gives guest i the job that write writes.
func (s *Set) work(i int, write func(*job)) (seq uint32, err error) {
	switch {
	case s.closed.Load():
		return 0, ErrClosed
	case len(s.attach) > 0:
		return 0, ErrAttached
	case s.memory.header.addrLen == 0:
		return 0, ErrNoSocket
	}
	g := &s.guests[i]
	if g.left > 0 {
		return 0, ErrBusy
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.running {
		return 0, s.notRunning()
	}
	g.seq++
	p := &s.memory.slots[i].job
	write(p)
	g.working = p.kind != jobRest
	return g.seq, s.memory.order(i, g.seq)
}

// notRunning says why a guest does not run.
func (s *Set) notRunning() error {
	select {
	case <-s.lost:
		return ErrEnded
	default:
		return ErrStopped
	}
}
