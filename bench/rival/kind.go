package rival

import "slices"

// Kind names a rival.
type Kind string

const (
	// NetHTTP is our own re-creation of LXD's guest API. It does all that LXD's handler does for a request but this, each time in
	// its favour: the walk through /proc ends at the first process that is a registered init, which saves it the status and
	// command line of the monitor above; there is no database, so the instance is not loaded for each request; the root's uid is
	// read once when a container is registered; an event listener takes two goroutines instead of four.
	NetHTTP Kind = "nethttp"
	// Plain is net/http with a fixed answer and no identity.
	Plain Kind = "plain"
	// FastHTTP is fasthttp with a fixed answer and no identity.
	FastHTTP Kind = "fasthttp"
	// GNet is gnet's engine with a fixed answer and no identity.
	GNet Kind = "gnet"
	// Limit is a bare epoll loop in Go.
	Limit Kind = "limit"
	// LimitC is a bare epoll loop in C.
	LimitC Kind = "limit-c"
)

// Kinds returns all rivals, the slowest kind of server first.
func Kinds() []Kind { return []Kind{NetHTTP, Plain, FastHTTP, GNet, Limit, LimitC} }

// ParseKind returns the rival of that name, or ErrKind.
func ParseKind(name string) (Kind, error) {
	if !slices.Contains(Kinds(), Kind(name)) {
		return "", ErrKind
	}
	return Kind(name), nil
}

// Identity reports whether each container is answered with its own values.
func (k Kind) Identity() bool { return k == NetHTTP }

// Routes reports whether there are other paths than the ones under load.
func (k Kind) Routes() bool { return k == NetHTTP }

// Events reports whether changes reach the subscribers.
func (k Kind) Events() bool { return k == NetHTTP || k == GNet || k == Limit }

// Images reports whether a file can be exported.
func (k Kind) Images() bool { return k == NetHTTP || k == Limit }
