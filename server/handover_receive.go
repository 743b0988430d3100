package server

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"devlxd/internal/fdpass"
	"devlxd/peer"
	"devlxd/registry"
)

// Takeover is what a predecessor has handed over, and nobody serves yet. One goroutine at a time.
type Takeover struct {
	srv      *Server
	bindings []*registry.Binding // nil: the container does not run here
	blobs    [][]byte
	conns    []takenConn
	listener int
	socket   socketRecord
	done     bool // committed or closed
}

// takenConn is a connection that no loop has yet.
type takenConn struct {
	*conn
	sub       *subscriberRecord
	remaining int32 // ticks until the deadline, less than 0: none
	stopped   bool  // its container does not run here
}

// TakeOver receives what [Handover] sends, up to the listening socket, and changes nothing that a guest could notice. It restores rings, so
// that the registry must be filled and bound, and nothing may change it until Commit. Call it after Start, in place of Listen and Adopt. On error
// everything that was received is closed, and the server and its registry are of no use. Errors: [ErrHandoverState], or those of
// the connection.
func (s *Server) TakeOver(conn *fdpass.Conn) (*Takeover, error) {
	if err := s.claimListener(); err != nil {
		return nil, err
	}
	t := &Takeover{srv: s, listener: -1}
	for t.listener < 0 {
		m, err := conn.Receive(gatherTime)
		if err == nil {
			err = t.take(&m)
		}
		if err != nil {
			m.Close()
			t.Close()
			return nil, err
		}
	}
	return t, nil
}

// take keeps one message. It takes over its descriptors if it returns no error.
func (t *Takeover) take(m *fdpass.Message) error {
	switch m.Kind {
	case kindRings:
		return t.takeRings(m)
	case kindBindings:
		return t.takeBindings(m)
	case kindBlobs:
		var blobs [][]byte
		if err := decodeRecord(m, &blobs); err != nil {
			return err
		}
		t.blobs = append(t.blobs, blobs...)
		return nil
	case kindConns:
		return t.takeConns(m)
	case kindSocket:
		if err := decodeRecord(m, &t.socket); err != nil {
			return err
		}
		if len(m.FDs) != 1 {
			return fmt.Errorf("%w (no listening socket)", ErrHandoverState)
		}
		t.listener = m.FDs[0]
		return nil
	}
	return fmt.Errorf("%w (message %#x)", ErrHandoverState, m.Kind)
}

// binding finds the same life of a container here.
func (t *Takeover) binding(id *identityRecord) *registry.Binding {
	c, ok := t.srv.reg.Container(id.Name)
	if !ok {
		return nil
	}
	if b := c.Binding(); b != nil && identityOf(b) == *id {
		return b
	}
	return nil
}

// takeRings restores rings. One whose container stopped meanwhile goes with it.
func (t *Takeover) takeRings(m *fdpass.Message) error {
	var records []ringRecord
	if err := decodeRecord(m, &records); err != nil {
		return err
	}
	for i := range records {
		b := t.binding(&records[i].Identity)
		if b == nil {
			continue
		}
		switch err := t.srv.reg.RestoreRing(b, records[i].Ring); {
		case errors.Is(err, registry.ErrStopped):
		case err != nil:
			return fmt.Errorf("%w (ring of container %q: %w)", ErrHandoverState, records[i].Identity.Name, err)
		}
	}
	return nil
}

func (t *Takeover) takeBindings(m *fdpass.Message) error {
	var records []bindingRecord
	if err := decodeRecord(m, &records); err != nil {
		return err
	}
	for i := range records {
		b := t.binding(&records[i].Identity)
		if b != nil {
			b.SetReady(records[i].Ready)
			if epoch, _ := b.RingEpoch(); epoch != records[i].Epoch && !b.Dead() {
				return fmt.Errorf("%w (container %q has another ring)", ErrHandoverState, records[i].Identity.Name)
			}
		}
		t.bindings = append(t.bindings, b)
	}
	return nil
}

func (t *Takeover) takeConns(m *fdpass.Message) error {
	var records []connRecord
	if err := decodeRecord(m, &records); err != nil {
		return err
	}
	fds := m.FDs
	for i := range records {
		files := 0
		if records[i].Out != nil {
			files = int(records[i].Out.Files)
		}
		if files < 0 || len(fds) < 1+files {
			return fmt.Errorf("%w (descriptors are missing)", ErrHandoverState)
		}
		c, err := t.restore(&records[i], fds[1:1+files])
		if err != nil {
			return err
		}
		c.fd = int32(fds[0])
		taken := takenConn{conn: c, sub: records[i].Sub, remaining: -1, stopped: records[i].Binding >= 0 && c.binding == nil}
		if records[i].Armed {
			taken.remaining = max(records[i].Remaining, 0)
		}
		t.conns = append(t.conns, taken)
		// What t has is closed by its Close.
		fds = fds[1+files:]
		m.FDs = fds
	}
	if len(fds) > 0 {
		return fmt.Errorf("%w (%d descriptors too many)", ErrHandoverState, len(fds))
	}
	return nil
}

// restore makes a connection of its record, but for its subscription, which its loop makes, and its descriptor. Unless it fails it owns
// the files.
func (t *Takeover) restore(r *connRecord, files []int) (*conn, error) {
	if connState(r.State) >= stateClosed || int(r.Reject) >= len(peer.AllRejects()) || CloseReason(r.Closing) >= numCloseReasons ||
		timerKind(r.Timer) > timerClose || int(r.Binding) >= len(t.bindings) || len(r.In) > readBuffer {
		return nil, fmt.Errorf("%w (a connection)", ErrHandoverState)
	}
	c := &conn{
		state: connState(r.State), reject: peer.Reject(r.Reject), closing: CloseReason(r.Closing), timer: timerKind(r.Timer),
		ending: r.Ending, eof: r.EOF,
	}
	if len(r.In) > 0 {
		c.in = r.In
	}
	if r.Binding >= 0 {
		c.binding = t.bindings[r.Binding]
	}
	if b := r.Body; b != nil {
		c.body = &bodyState{patch: b.Patch, data: b.Data, policy: versionPolicy{close: b.Close, keep: b.Keep, head: b.Head}}
		if err := c.body.decoder.UnmarshalBinary(b.Decoder); err != nil {
			return nil, fmt.Errorf("%w (%w)", ErrHandoverState, err)
		}
	}
	subscribes := c.state == stateWS || c.state == stateStream
	if (c.state == stateBody) != (c.body != nil) || subscribes && r.Sub == nil {
		return nil, fmt.Errorf("%w (a connection lacks a part)", ErrHandoverState)
	}
	if s := r.Sub; s != nil {
		c.sub = &subscriber{position: s.Position, pings: s.Pings}
		if err := c.sub.decoder.UnmarshalBinary(s.Decoder); err != nil {
			return nil, fmt.Errorf("%w (%w)", ErrHandoverState, err)
		}
	}
	if r.Out != nil {
		var err error
		if c.out, err = t.pending(r.Out, files); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// pending makes the pending output of a connection; on error the files are not taken over.
func (t *Takeover) pending(r *pendingRecord, files []int) (*pending, error) {
	p := &pending{}
	var err error
	if p.tail, err = t.part(&r.Tail); err != nil {
		return nil, err
	}
	for i := range r.Segments {
		s := &r.Segments[i]
		if s.File < 0 {
			b, err := t.part(s)
			if err != nil {
				return nil, err
			}
			p.segments = append(p.segments, segment{bytes: b, length: int64(len(b))})
			continue
		}
		if int(s.File) >= len(files) || s.Offset < 0 || s.Length < 0 {
			return nil, fmt.Errorf("%w (a part of a file)", ErrHandoverState)
		}
		p.segments = append(p.segments, segment{offset: s.Offset, length: s.Length})
	}
	budget := &t.srv.budget
	for _, fd := range files {
		// They are open already, so the limit is not asked.
		budget.images.Add(1)
		p.files = append(p.files, &imageFile{File: os.NewFile(uintptr(fd), "image"), budget: budget})
	}
	for i := range r.Segments {
		if f := r.Segments[i].File; f >= 0 {
			p.segments[i].file = p.files[f]
		}
	}
	return p, nil
}

// part is the end of a blob.
func (t *Takeover) part(r *segmentRecord) ([]byte, error) {
	if r.Length == 0 {
		return nil, nil
	}
	if r.Blob < 0 || int(r.Blob) >= len(t.blobs) || r.Length < 0 || r.Length > int64(len(t.blobs[r.Blob])) {
		return nil, fmt.Errorf("%w (a part of an answer)", ErrHandoverState)
	}
	b := t.blobs[r.Blob]
	return b[len(b)-int(r.Length):], nil
}

// Connections is how many connections were handed over.
func (t *Takeover) Connections() int { return len(t.conns) }

// Close closes everything that was handed over, without a word to the clients: the predecessor has it too. After Commit it does nothing.
func (t *Takeover) Close() {
	if t.done {
		return
	}
	t.done = true
	for i := range t.conns {
		t.conns[i].out.release()
		_ = unix.Close(int(t.conns[i].fd))
	}
	if t.listener >= 0 {
		_ = unix.Close(t.listener)
	}
	t.conns, t.listener = nil, -1
	t.srv.listening.Store(false)
}

// Commit serves the connections and accepts new ones. The predecessor must have let go of them for good. Those whose container does not run
// here are closed as if it had stopped now.
func (t *Takeover) Commit() error {
	s := t.srv
	var ready sync.WaitGroup
	for _, l := range s.loops {
		ready.Add(1)
		l.post(func() {
			defer ready.Done()
			for i := l.id; i < len(t.conns); i += len(s.loops) {
				l.takeOver(&t.conns[i])
			}
			for _, g := range l.groups {
				if g.subs > 0 {
					l.wake(g) // events may have come between the last look of the predecessor and now
				}
			}
		})
	}
	ready.Wait()
	if t.socket.Path != "" {
		s.socket = &socketFile{path: t.socket.Path, dev: t.socket.Dev, ino: t.socket.Ino}
	}
	fd := t.listener
	t.conns, t.blobs, t.listener, t.done = nil, nil, -1, true
	return s.accept(fd)
}

// takeOver makes the loop the owner of a connection of a predecessor. It counts in the quotas of its container, whatever they are by now.
func (l *loop) takeOver(t *takenConn) {
	c := t.conn
	l.own(c)
	l.join(c)
	l.srv.open.Add(1)
	l.stats.takenOver.Add(1)
	defer l.recoverConn(c)
	l.setTicking(true)
	if t.remaining >= 0 {
		c.deadline = l.wheel.now + uint32(t.remaining)
		l.wheel.link(c)
	}
	c.interest = unwatched
	what := interestRead
	if c.out != nil {
		what = interestWrite
		c.out.download(c.group.account)
	}
	if l.watch(c, what); c.state == stateClosed {
		return
	}
	l.recharge(c)
	if c.binding != nil && t.sub != nil && t.sub.Live {
		l.resubscribe(c, t.sub)
	}
	// A container that stops is dead before the loops are told: see join.
	if t.stopped || c.binding != nil && c.binding.Dead() {
		l.endStopped(c)
	}
	if c.state != stateClosed && c.out == nil {
		l.goOn(c)
	}
}

// download counts p in as a download of a, if it sends files.
func (p *pending) download(a *account) {
	if len(p.files) > 0 {
		a.images.Add(1)
		p.files[0].place = a
	}
}

// goOn has a connection that has nothing to write take its turn with what it holds: it may have waited for a quota, which is another one
// here, and without a deadline.
func (l *loop) goOn(c *conn) {
	switch {
	case len(c.in) > 0:
		l.wait(c, waitTurn, true)
	case c.inWheel:
	case c.state == stateHead: // its request is in its socket, or about to be
		l.arm(c, timerHead)
	default:
		l.deadlineAfter(c)
	}
}

// resubscribe continues the subscription of c where it stood.
func (l *loop) resubscribe(c *conn, r *subscriberRecord) {
	epoch, ok := c.binding.RingEpoch()
	if !ok || epoch != r.Epoch {
		l.goodbye(c, CloseRevoked)
		return
	}
	ring := c.binding.Ring()
	cursor, err := ring.RestoreCursor(r.Cursor)
	if err != nil {
		l.lost(c, registry.ErrOverrun)
		return
	}
	sub := c.sub
	sub.ring, sub.cursor = ring, cursor
	l.subscribe(c, sub)
	if c.out != nil {
		l.watchLag(c.group)
	}
}

// endStopped ends a connection whose container has stopped.
func (l *loop) endStopped(c *conn) {
	if c.state == stateWS {
		l.goodbye(c, CloseStopped)
	} else {
		l.close(c, CloseStopped)
	}
}
