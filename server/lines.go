package server

import (
	"context"
	"log/slog"
	"strings"

	"devlxd/httpparse"
	"devlxd/internal/logging"
	"devlxd/peer"
	"devlxd/registry"
)

// quotaOfLines is that of the container of b. The peers that belong to no container share one, as they share an account.
func (s *Server) quotaOfLines(b *registry.Binding) *logging.Quota {
	if b == nil {
		return &s.lines
	}
	return logging.QuotaOf(b.Container())
}

// nameOf is the name of the container of b, "" for nil.
func nameOf(b *registry.Binding) string {
	if b == nil {
		return ""
	}
	return b.Container().Name()
}

// logRefused tells of a peer that is not served; b is its container where that is known.
func (s *Server) logRefused(b *registry.Binding, p peer.Peer, reason peer.Reject) {
	s.opts.Lines.Log(s.quotaOfLines(b), slog.LevelInfo, "connection refused",
		"reason", reason.String(), "pid", p.PID, "uid", p.UID, "container", nameOf(b), "path", p.Path.String())
}

// debugging reports whether lines of level debug are written. It costs an atomic load.
func (s *Server) debugging() bool { return s.log.Enabled(context.Background(), slog.LevelDebug) }

// logRequest tells at level debug of a request that was handled. Of one whose body is awaited logPatch does.
func (l *loop) logRequest(c *conn, req *httpparse.Request) {
	if c.reject != peer.RejectNone || l.code == 0 || l.route == routeMalformed {
		return // the others have told of it
	}
	var agent string
	for _, f := range req.Fields() {
		if strings.EqualFold(string(f.Name), "User-Agent") {
			agent = string(f.Value)
			break
		}
	}
	l.debugLine(c, "request", "route", l.route.String(), "method", logging.Guest(string(req.Method)), "target", logging.Guest(string(req.Target)),
		"user_agent", logging.Guest(agent), "code", l.code)
}

// logPatch tells of a request that had to wait for its body.
func (l *loop) logPatch(c *conn) {
	l.debugLine(c, "request", "route", l.route.String(), "method", "PATCH", "code", l.code)
}

// logMalformed tells of a request that the parser refused.
func (l *loop) logMalformed(c *conn, err error) {
	l.debugLine(c, "request malformed", "error", logging.GuestError(err))
}

// logClosed tells why a connection has ended.
func (l *loop) logClosed(c *conn, reason CloseReason) {
	l.debugLine(c, "connection closed", "reason", reason.String())
}

// debugLine tells of c.
func (l *loop) debugLine(c *conn, msg string, args ...any) {
	l.srv.opts.Lines.Log(l.srv.quotaOfLines(c.binding), slog.LevelDebug, msg, append([]any{"container", nameOf(c.binding)}, args...)...)
}
