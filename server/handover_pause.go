package server

import (
	"context"
	"sync"
)

// pause is a time in which no loop serves anybody.
type pause struct {
	srv     *Server
	release chan struct{} // closed at the end
	gone    bool          // the connections are another process's; set before release is closed
	ended   sync.WaitGroup
}

// pauseLoops brings the loops to rest, the one that accepts first, so that none deals connections out to one that rests already.
func (s *Server) pauseLoops(ctx context.Context) (*pause, error) {
	if s.phase.Load() != phaseRunning || !s.listening.Load() {
		return nil, ErrClosed
	}
	p := &pause{srv: s, release: make(chan struct{})}
	for _, l := range s.loops {
		resting := make(chan struct{})
		p.ended.Add(1)
		l.post(func() {
			defer p.ended.Done()
			began := s.opts.Now()
			close(resting)
			<-p.release
			if p.gone {
				l.letGo()
				return
			}
			// As if no time had passed: neither for deadlines nor for the time that a request took.
			l.started = l.started.Add(s.opts.Now().Sub(began))
		})
		select {
		case <-resting:
		case <-l.ended:
			p.ended.Done()
			p.end(false)
			return nil, ErrClosed
		case <-ctx.Done():
			p.end(false)
			return nil, context.Cause(ctx)
		}
	}
	return p, nil
}

// end lets the loops go on. With gone they have lost everything by the time it returns.
func (p *pause) end(gone bool) {
	p.gone = gone
	close(p.release)
	if gone {
		p.ended.Wait()
		p.srv.socket = nil
	}
}

// letGo forgets all connections of the loop without a word to their clients, who are another process's now.
func (l *loop) letGo() {
	for _, c := range l.conns {
		if c != nil {
			l.guard(c, func() { l.forget(c) })
		}
	}
	if l.listener >= 0 {
		l.closeListener()
	}
}

// forget closes the descriptor of a connection that goes on elsewhere. Its events are not lost.
func (l *loop) forget(c *conn) {
	if c.subscribed() {
		c.sub.live = false
		l.stats.subscribers.Add(-1)
		g := c.group
		g.account.subscribers.Add(-1)
		if g.subs--; g.subs == 0 {
			g.watch.Close()
			g.watch = nil
		}
	}
	// The file stays open in the other process, so that closing it does not end its registration.
	_ = l.poller.remove(int(c.fd))
	l.close(c, CloseHandedOver)
}
