package target

import "context"

// Bare is a socket of which nothing else is known. Its containers must be known to the server already.
type Bare struct {
	socket string
	pid    int
}

var _ Target = (*Bare)(nil)

// FindSocket uses whatever serves a guest socket.
func FindSocket(socket string) (*Bare, error) {
	pid, err := socketOwner(socket)
	if err != nil {
		return nil, err
	}
	return &Bare{socket, pid}, nil
}

// Name implements Target.
func (b *Bare) Name() string { return b.socket }

// Socket implements Target.
func (b *Bare) Socket() string { return b.socket }

// PID implements Target.
func (b *Bare) PID() int { return b.pid }

// Features implements Target.
func (b *Bare) Features() Feature { return 0 }

// Register implements Target: there is nobody to tell.
func (b *Bare) Register(context.Context, []Container, func(int)) error { return nil }

// Set implements Target.
func (b *Bare) Set(context.Context, string, string, string) error { return ErrUnsupported }

// Bind implements Target.
func (b *Bare) Bind(context.Context, string, int) error { return ErrUnsupported }

// Image implements Target.
func (b *Bare) Image(context.Context, string) (string, error) { return "", ErrUnsupported }

// Counters implements Target.
func (b *Bare) Counters(context.Context) (map[string]float64, error) { return nil, nil }

// Restart implements Target.
func (b *Bare) Restart(context.Context) error { return ErrUnsupported }

// Close implements Target.
func (b *Bare) Close() error { return nil }
