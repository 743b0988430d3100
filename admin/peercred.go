package admin

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/fault"
)

// credentials returns who connected: the credentials that connect(2) recorded
// (SO_PEERCRED, unix(7)). They do not follow the descriptor to another
// process.
func credentials(c syscall.Conn) (*unix.Ucred, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil {
		return nil, cerr
	}
	return cred, os.NewSyscallError("getsockopt", err)
}

// allowed reports whether a peer may use the admin API: root, and the user
// that the server itself runs as.
func allowed(cred *unix.Ucred, self uint32) bool {
	return cred.Uid == 0 || cred.Uid == self
}

// conn is an accepted connection.
type conn struct {
	net.Conn
	owner *connections
	cred  *unix.Ucred // nil on a listener that does not ask
	// refused: the peer gets no answer but 403.
	refused bool
	// used: the peer has sent something.
	used atomic.Bool
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.used.Store(true)
	}
	return n, err
}

func (c *conn) Close() error {
	c.owner.forget(c)
	return c.Conn.Close()
}

// connections are the open ones of a server. Safe for concurrent use.
type connections struct {
	mu   sync.Mutex
	open map[*conn]struct{}
}

func (cs *connections) add(c *conn) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.open == nil {
		cs.open = make(map[*conn]struct{})
	}
	cs.open[c] = struct{}{}
}

func (cs *connections) forget(c *conn) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	delete(cs.open, c)
}

func (cs *connections) count() int {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return len(cs.open)
}

// end closes those connections that which says.
func (cs *connections) end(which func(*conn) bool) {
	cs.mu.Lock()
	var chosen []*conn
	for c := range cs.open {
		if which(c) {
			chosen = append(chosen, c)
		}
	}
	cs.mu.Unlock()
	for _, c := range chosen {
		_ = c.Close()
	}
}

// guard wraps a listener: it notes each connection and, where it asks, who
// the peer is.
type guard struct {
	net.Listener
	owner  *connections
	faults *fault.Board
	paused bool // the last accept failed
	ask    bool
	self   uint32
	once   sync.Once
	err    error
}

// Close implements net.Listener. It may be called more than once, as both the
// server and fasthttp do.
func (g *guard) Close() error {
	g.once.Do(func() { g.err = g.Listener.Close() })
	return g.err
}

// Accept implements net.Listener. A peer whose credentials cannot be read is
// disconnected.
func (g *guard) Accept() (net.Conn, error) {
	for {
		inner, err := g.Listener.Accept()
		if g.paused && (err == nil || errors.Is(err, os.ErrDeadlineExceeded)) {
			g.paused = false
			g.patience(time.Time{})
			g.faults.Leave(fault.AdminAccept)
		}
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				continue
			}
			if transient(err) {
				if !errors.Is(err, unix.ECONNABORTED) { // that is the client's doing
					g.paused = true
					g.faults.Enter(fault.AdminAccept, "listener", g.Addr().String(), "error", err)
				}
				time.Sleep(acceptPause)
				if g.paused {
					g.patience(time.Now().Add(acceptPause))
				}
				continue
			}
			return nil, err
		}
		c := &conn{Conn: inner, owner: g.owner}
		if g.ask {
			if c.cred, err = credentials(inner.(syscall.Conn)); err != nil {
				_ = inner.Close()
				continue
			}
			c.refused = !allowed(c.cred, g.self)
		}
		g.owner.add(c)
		return c, nil
	}
}

// patience bounds the wait of Accept. accept(2) fails for want of a descriptor before it looks whether anybody waits, so one that
// has nothing to do but wait is one that works again.
func (g *guard) patience(until time.Time) {
	if l, ok := g.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		_ = l.SetDeadline(until)
	}
}

// acceptPause is how long to wait when a connection cannot be accepted now.
const acceptPause = 50 * time.Millisecond

// transient reports an error of accept(2) that passes: the process or the host
// is out of descriptors or memory. The connection waits in the backlog.
func transient(err error) bool {
	for _, errno := range [...]unix.Errno{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS, unix.ECONNABORTED} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
