package server

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestResponsive: one loop that is stuck is enough, whatever the others do.
func TestResponsive(t *testing.T) {
	r := newRig(t, Options{Loops: 3})
	if err := r.srv.Responsive(t.Context()); err != nil {
		t.Fatal(err)
	}
	held, release := make(chan struct{}), make(chan struct{})
	r.srv.loops[2].post(func() {
		close(held)
		<-release
	})
	<-held
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.srv.Responsive(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a loop that is stuck: %v", err)
	}
	close(release)
	if err := r.srv.Responsive(t.Context()); err != nil {
		t.Error(err)
	}
	if err := r.shutdown(patience); err != nil {
		t.Fatal(err)
	}
	if err := r.srv.Responsive(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}
