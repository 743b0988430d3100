package admin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// gate holds changes back while a successor process prepares to take over: they wait, and are made here when it does not, or there when it
// does. Safe for concurrent use.
type gate struct {
	mu     sync.Mutex
	active int           // changes under way
	idle   chan struct{} // closed when active becomes 0; nil: nobody waits
	frozen chan struct{} // closed when the gate opens again; nil: it is open
	next   string        // admin socket of the process that serves now; "": this one
}

// enter waits until a change may be made. It returns the socket of a successor that is to make it, or counts it in: leave ends it.
func (g *gate) enter(stopping <-chan struct{}) (successor string, err error) {
	for {
		g.mu.Lock()
		frozen := g.frozen
		if frozen == nil || g.next != "" {
			defer g.mu.Unlock()
			if g.next == "" {
				g.active++
			}
			return g.next, nil
		}
		g.mu.Unlock()
		select {
		case <-frozen:
		case <-stopping:
			if next, ok := g.successor(); ok {
				return next, nil
			}
			return "", errStopping
		}
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.active--; g.active == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// freeze lets no change begin, and waits for those under way.
func (g *gate) freeze(ctx context.Context) error {
	g.mu.Lock()
	if g.frozen != nil {
		g.mu.Unlock()
		return errRelay
	}
	g.frozen = make(chan struct{})
	if g.active == 0 {
		g.mu.Unlock()
		return nil
	}
	idle := make(chan struct{})
	g.idle = idle
	g.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		g.open("")
		return errBusy
	}
}

// open lets changes go on, here or at a successor.
func (g *gate) open(successor string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.next = successor
	if g.frozen != nil {
		close(g.frozen)
		g.frozen = nil
	}
	g.idle = nil
}

func (g *gate) successor() (socket string, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.next, g.next != ""
}

// Freeze holds changes back from now on and returns when none is under way, or an error, and then nothing is held back, when ctx is done
// before that. Reads are answered as ever.
func (s *Server) Freeze(ctx context.Context) error { return s.changes.freeze(ctx) }

// Thaw ends Freeze: what was held back is done now.
func (s *Server) Thaw() { s.changes.open("") }

// Retire leaves the admin API to a successor process that serves on the same sockets by now, socket being that of the admin API: it stops to
// accept, gives what was held back and what still comes on open connections to the successor, each connection's last answer, ends event
// streams with an error line, and returns when no connection is left or ctx is done. Shutdown is to be called then.
func (s *Server) Retire(ctx context.Context, socket string) {
	s.changes.open(socket)
	_ = s.stopAccepting() // the successor has the listeners too
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for s.conns.count() > 0 {
		select {
		case <-poll.C:
		case <-ctx.Done():
			return
		}
	}
}

// upgrade: POST /1.0/upgrade.
func (s *Server) upgrade(r *request) (reply, error) {
	if s.options.Upgrade == nil {
		return reply{}, errUpgradeOff
	}
	var post UpgradePost
	if r.hasBody() {
		if err := r.decode(&post); err != nil {
			return reply{}, err
		}
	}
	if post.Binary != "" && !strings.HasPrefix(post.Binary, "/") {
		return reply{}, errorf(http.StatusBadRequest, "binary %q is not an absolute path: give one", post.Binary)
	}
	// Not the context of the request: the upgrade goes on when its client hangs up.
	upgraded, err := s.options.Upgrade(context.Background(), post.Binary)
	if err != nil {
		return reply{}, err
	}
	r.SetConnectionClose()
	return reply{metadata: upgraded}, nil
}

// relayTime is how long a successor may take for an answer.
const relayTime = 60 * time.Second

// relay has the process on another socket answer a request, and ends the connection, so that the client's next one goes there by itself.
func (s *Server) relay(ctx *fasthttp.RequestCtx, socket string) {
	ctx.SetConnectionClose()
	r := &request{RequestCtx: ctx, server: s}
	if strings.HasSuffix(string(ctx.Path()), "/events") {
		sendError(ctx, errRelay) // a stream has no end that could be waited for
		return
	}
	if err := r.relay(socket); err != nil {
		s.log.Warn("cannot pass an admin request on to the new process", "error", err)
		sendError(ctx, errRelay)
	}
}

func (r *request) relay(socket string) error {
	timeout, cancel := context.WithTimeout(context.Background(), relayTime)
	defer cancel()
	var body io.Reader
	if r.hasBody() {
		body = r.reader()
	}
	req, err := http.NewRequestWithContext(timeout, string(r.Method()), "http://devlxd"+string(r.RequestURI()), body)
	if err != nil {
		return err
	}
	if body != nil {
		req.ContentLength = int64(r.Request.Header.ContentLength()) // -1: chunked, here and there
		req.Header.Set("Content-Type", string(r.Request.Header.ContentType()))
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return errors.Join(err, errRelay)
	}
	r.SetStatusCode(resp.StatusCode)
	for _, name := range []string{"Content-Type", "Location", "Allow"} {
		if value := resp.Header.Get(name); value != "" {
			r.Response.Header.Set(name, value)
		}
	}
	r.SetBody(answer)
	return nil
}
