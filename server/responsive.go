package server

import (
	"context"
	"fmt"
)

// Responsive returns nil when every loop has taken up a task since the call, which is within one turn of
// its connections, and an error when ctx ends before that or a loop has ended. It is
// for a watchdog, and may be called from any goroutine, but from a loop's own.
func (s *Server) Responsive(ctx context.Context) error {
	for _, l := range s.loops {
		ran := make(chan struct{})
		l.post(func() { close(ran) })
		select {
		case <-ran:
		case <-l.ended:
			return fmt.Errorf("loop %d: %w", l.id, ErrClosed)
		case <-ctx.Done():
			return fmt.Errorf("loop %d does not take up its work: %w", l.id, ctx.Err())
		}
	}
	return nil
}
