package server

import (
	"context"
	"errors"
	"testing"

	"devlxd/internal/fdpass"
	"devlxd/registry"
)

// link is the connection between two processes, in one.
func link(t testing.TB) (old, successor *fdpass.Conn) {
	t.Helper()
	old, f, err := fdpass.Pair()
	if err != nil {
		t.Fatal(err)
	}
	if successor, err = fdpass.New(f); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = old.Close()
		_ = successor.Close()
	})
	return old, successor
}

// successor is a server with the same containers that does not listen yet.
func (r *rig) successor(o Options) *rig {
	r.t.Helper()
	if r.clock != nil {
		o.Now = r.clock.Now
	}
	next := newIdleRig(r.t, o)
	next.clock = r.clock
	next.srv.Start()
	for _, c := range r.reg.Containers() { // in the order of their names, which is that of their identities
		next.container(c.Name(), configOf(c))
	}
	for _, image := range r.reg.Images() {
		if err := next.reg.PutImage(*image); err != nil {
			r.t.Fatal(err)
		}
	}
	return next
}

func configOf(c *registry.Container) map[string]string {
	config := make(map[string]string)
	for _, e := range c.Snapshot().Config() {
		config[e.Key] = string(e.Value())
	}
	return config
}

// send sends everything and pauses the server.
func (r *rig) send(conn *fdpass.Conn) (*Handover, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	h := r.srv.NewHandover(conn)
	if err := h.SendRings(ctx); err != nil {
		return h, err
	}
	if err := h.Pause(ctx); err != nil {
		return h, err
	}
	return h, h.SendConnections(ctx)
}

// offer sends everything that r serves to next, which has it but does not go on with it yet.
func (r *rig) offer(next *rig) (h *Handover, taken *Takeover) {
	r.t.Helper()
	old, successor := link(r.t)
	received := make(chan error, 1)
	go func() {
		var err error
		taken, err = next.srv.TakeOver(successor)
		received <- err
	}()
	h, err := r.send(old)
	if err := errors.Join(err, <-received); err != nil {
		r.t.Fatal(err)
	}
	return h, taken
}

// handOver makes next serve everything that r has served.
func (r *rig) handOver(next *rig) {
	r.t.Helper()
	h, taken := r.offer(next)
	h.Finish()
	if err := taken.Commit(); err != nil {
		r.t.Fatal(err)
	}
	taken.Close() // does nothing any more
	if r.srv.Connections() != 0 || r.srv.Subscribers() != 0 {
		r.t.Errorf("%d connections and %d subscribers stay behind", r.srv.Connections(), r.srv.Subscribers())
	}
	next.path = r.path
	if err := r.shutdown(patience); err != nil {
		r.t.Errorf("Shutdown = %v", err)
	}
}
