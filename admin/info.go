package admin

import (
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/valyala/fasthttp"
)

// index: GET /, the versions, as LXD answers it.
func (s *Server) index(*request) (reply, error) {
	return reply{metadata: []string{"/" + APIVersion}}, nil
}

// info: GET /1.0.
func (s *Server) info(*request) (reply, error) {
	status := s.currentStatus()
	return reply{metadata: ServerInfo{
		APIStatus:  "stable",
		APIVersion: APIVersion,
		Auth:       "trusted", // nobody else gets here
		Environment: ServerEnvironment{
			Server:        "devlxd",
			ServerVersion: status.Version,
			ServerPID:     status.PID,
			Dialect:       status.Dialect,
			RunDir:        status.RunDir,
			StateDir:      status.StateDir,
			IdentityLevel: status.Identity.Level,
		},
	}}, nil
}

// status: GET /1.0/status.
func (s *Server) status(*request) (reply, error) {
	status := s.currentStatus()
	status.Health = s.health()
	return reply{metadata: status}, nil
}

func (s *Server) currentStatus() Status {
	if s.options.Status != nil {
		status := s.options.Status()
		status.Ready = s.isReady()
		return status
	}
	stats := s.options.Registry.Stats()
	return Status{
		Ready: s.isReady(), Containers: stats.Containers, Bound: stats.Bound, Images: stats.Images,
		EventsPublished: stats.ConfigEvents + stats.DeviceEvents,
	}
}

func (s *Server) isReady() bool {
	return s.loaded.Load() != nil && (s.options.Ready == nil || s.options.Ready())
}

// healthz: the process answers.
func (s *Server) healthz(r *request) (reply, error) {
	sendText(r.RequestCtx, http.StatusOK, "ok\n")
	return reply{done: true}, nil
}

// readyz: guests are served. They are not before the first full load of
// containers, and no longer once the daemon is ending.
func (s *Server) readyz(r *request) (reply, error) {
	if s.isReady() {
		sendText(r.RequestCtx, http.StatusOK, "ready\n")
	} else {
		sendText(r.RequestCtx, http.StatusServiceUnavailable, "not ready: containers are being loaded, or the server is ending\n")
	}
	return reply{done: true}, nil
}

// showMetrics: GET /metrics in the format that the scraper asks for.
func (s *Server) showMetrics(r *request) (reply, error) {
	if s.options.Gatherer == nil {
		return reply{}, errMetricsOff
	}
	h := promhttp.HandlerFor(s.options.Gatherer, promhttp.HandlerOpts{
		ErrorLog:           slog.NewLogLogger(s.log.Handler(), slog.LevelError),
		DisableCompression: true,
	})
	w := &answerWriter{ctx: r.RequestCtx, header: make(http.Header)}
	h.ServeHTTP(w, &http.Request{Method: http.MethodGet, Header: http.Header{"Accept": {string(r.Request.Header.Peek("Accept"))}}})
	w.WriteHeader(http.StatusOK) // nothing is written where there are no metrics
	return reply{done: true}, nil
}

// answerWriter lets a net/http handler answer a fasthttp request.
type answerWriter struct {
	ctx    *fasthttp.RequestCtx
	header http.Header
	begun  bool
}

func (w *answerWriter) Header() http.Header { return w.header }

func (w *answerWriter) WriteHeader(code int) {
	if w.begun {
		return
	}
	w.begun = true
	w.ctx.SetStatusCode(code)
	for name, values := range w.header {
		for _, value := range values {
			w.ctx.Response.Header.Set(name, value)
		}
	}
}

func (w *answerWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.ctx.Write(p)
}

// serveMetrics answers a request on the listener for metrics, which may be
// open to the network: three paths, plain text, nothing that changes.
func (s *Server) serveMetrics(ctx *fasthttp.RequestCtx) {
	r := &request{RequestCtx: ctx, server: s}
	var serve func(*request) (reply, error)
	switch string(ctx.URI().PathOriginal()) {
	case "/metrics":
		serve = s.showMetrics
	case "/healthz":
		serve = s.healthz
	case "/readyz":
		serve = s.readyz
	default:
		sendText(ctx, http.StatusNotFound, "not found: try /metrics, /healthz or /readyz\n")
		return
	}
	if !ctx.IsGet() && !ctx.IsHead() || r.hasBody() {
		ctx.Response.Header.Set("Allow", "GET, HEAD")
		ctx.SetConnectionClose()
		sendText(ctx, http.StatusMethodNotAllowed, "method not allowed: use GET without a body\n")
		return
	}
	if _, err := serve(r); err != nil {
		sendText(ctx, codeOf(err), oneLine(err.Error())+"\n")
	}
}
