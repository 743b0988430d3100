package admin

import (
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"devlxd/internal/logging"
)

// handler answers one method of one resource.
type handler struct {
	method string
	serve  func(r *request) (reply, error)
	// query names the parameters that are understood.
	query []string
	// body says that the request has a body that the handler reads.
	body bool
	// writes says that the handler changes something.
	writes bool
}

// route is one resource. A segment "{}" matches any name.
type route struct {
	segments []string
	handlers []handler
	// held says that the route is about containers or images, and so says
	// nothing true before all of them are loaded.
	held bool
}

// reply is what a handler answers with. The zero value is success without metadata.
type reply struct {
	metadata any
	location string // of what was created: the answer is 201
	done     bool   // the handler has answered by itself
}

// request is one request on its way to a handler.
type request struct {
	*fasthttp.RequestCtx
	server *Server
	args   []string // what "{}" stood for, decoded
	query  url.Values
}

func get(serve func(*request) (reply, error), query ...string) handler {
	return handler{method: http.MethodGet, serve: serve, query: query}
}

func change(method string, serve func(*request) (reply, error)) handler {
	return handler{method: method, serve: serve, body: method != http.MethodDelete, writes: true}
}

// table lists every resource.
func (s *Server) table() []route {
	resource := func(path string, handlers ...handler) route {
		return route{segments: strings.Split(path, "/"), handlers: handlers}
	}
	held := func(path string, handlers ...handler) route {
		rt := resource(path, handlers...)
		rt.held = true
		return rt
	}
	importing := change(http.MethodPost, s.importImage)
	importing.query = []string{"public", "cached", "type"}
	upgrade := handler{method: http.MethodPost, serve: s.upgrade, body: true}
	return []route{
		resource("", get(s.index)),
		resource("healthz", get(s.healthz)),
		resource("readyz", get(s.readyz)),
		resource("metrics", get(s.showMetrics)),
		resource("1.0", get(s.info)),
		resource("1.0/status", get(s.status)),
		resource("1.0/log-level", get(s.showLogLevel), handler{method: http.MethodPut, serve: s.setLogLevel, body: true}),
		resource("1.0/health", get(s.showHealth)),
		resource("1.0/upgrade", upgrade),
		held("1.0/top", get(s.top, "sort", "limit")),
		held("1.0/containers", get(s.listContainers, "recursion", "summary"), change(http.MethodPost, s.addContainer)),
		held("1.0/containers/{}", get(s.showContainer), change(http.MethodDelete, s.removeContainer)),
		held("1.0/containers/{}/bind", change(http.MethodPost, s.bindContainer)),
		held("1.0/containers/{}/config", get(s.showConfig), change(http.MethodPatch, s.updateConfig)),
		held("1.0/containers/{}/devices", get(s.listDevices), change(http.MethodPost, s.addDevice)),
		held("1.0/containers/{}/devices/{}", get(s.showDevice), change(http.MethodPut, s.putDevice),
			change(http.MethodPatch, s.setDevice), change(http.MethodDelete, s.removeDevice)),
		held("1.0/containers/{}/events", get(s.streamEvents, "type", "position", "since")),
		held("1.0/images", get(s.listImages, "recursion"), importing),
		held("1.0/images/{}", get(s.showImage), change(http.MethodDelete, s.removeImage)),
	}
}

// match returns what the wildcards of the route stand for.
func (rt *route) match(segments []string) (args []string, ok bool) {
	if len(segments) != len(rt.segments) {
		return nil, false
	}
	for i, want := range rt.segments {
		switch {
		case want == "{}" && segments[i] != "":
			args = append(args, segments[i])
		case want != segments[i]:
			return nil, false
		}
	}
	return args, true
}

// allow lists the methods of the route for the Allow field.
func (rt *route) allow() string {
	methods := make([]string, len(rt.handlers))
	for i, h := range rt.handlers {
		methods[i] = h.method
	}
	return strings.Join(methods, ", ")
}

// serveAPI answers a request on the admin socket.
func (s *Server) serveAPI(ctx *fasthttp.RequestCtx) {
	start := time.Now()
	c, ok := ctx.Conn().(*conn)
	if !ok || c.cred == nil || c.refused {
		if ok && c.cred != nil {
			s.log.Warn("admin request refused", "uid", c.cred.Uid, "pid", c.cred.Pid)
		}
		ctx.SetConnectionClose()
		sendError(ctx, errPeer)
		return
	}
	if socket, ok := s.changes.successor(); ok {
		s.relay(ctx, socket)
		return
	}
	h, err := s.route(&request{RequestCtx: ctx, server: s})
	log := s.log.With("method", logging.Guest(string(ctx.Method())), "path", logging.Guest(string(ctx.URI().PathOriginal())), "uid", c.cred.Uid, "pid", c.cred.Pid)
	if err != nil {
		sendError(ctx, err)
		log = log.With("error", logging.GuestError(err))
	}
	took := time.Since(start).Round(time.Microsecond)
	switch code := ctx.Response.StatusCode(); {
	case code == http.StatusInternalServerError, code == http.StatusInsufficientStorage:
		log.Error("admin request failed", "code", code, "took", took)
	case h != nil && h.writes:
		log.Info("admin change", "code", code, "took", took)
	default:
		log.Debug("admin request", "code", code, "took", took)
	}
}

// route finds the handler of a request and answers what it returns. The
// handler is nil when there is none.
func (s *Server) route(r *request) (*handler, error) {
	segments, err := split(string(r.URI().PathOriginal()))
	if err != nil {
		return nil, err
	}
	for i := range s.routes {
		args, ok := s.routes[i].match(segments)
		if !ok {
			continue
		}
		r.args = args
		method := string(r.Method())
		for j := range s.routes[i].handlers {
			if h := &s.routes[i].handlers[j]; h.method == method {
				return h, s.run(&s.routes[i], h, r)
			}
		}
		allow := s.routes[i].allow()
		r.Response.Header.Set("Allow", allow)
		return nil, errorf(http.StatusMethodNotAllowed, "method %q is not allowed here: use %s", method, allow)
	}
	return nil, errNoPath
}

// run checks what all requests have in common, and calls the handler.
func (s *Server) run(rt *route, h *handler, r *request) error {
	var err error
	if r.query, err = url.ParseQuery(string(r.URI().QueryString())); err != nil {
		return errorf(http.StatusBadRequest, "query is malformed: %v", err)
	}
	for name, values := range r.query {
		if !slices.Contains(h.query, name) {
			return errorf(http.StatusBadRequest, "unknown parameter %q", name)
		}
		if len(values) > 1 {
			return errorf(http.StatusBadRequest, "parameter %q is given more than once", name)
		}
	}
	if !h.body && r.hasBody() {
		return errorf(http.StatusBadRequest, "%s takes no body: send none", h.method)
	}
	if rt.held && s.loaded.Load() == nil {
		return errLoading
	}
	if h.writes && s.writer() == nil {
		return errReadOnly
	}
	if h.writes {
		socket, err := s.changes.enter(s.stopping)
		if err != nil {
			return err
		}
		if socket != "" {
			s.relay(r.RequestCtx, socket)
			return nil
		}
		defer s.changes.leave()
	}
	answer, err := h.serve(r)
	if err != nil || answer.done {
		return err
	}
	return sendSync(r.RequestCtx, answer)
}

// split returns the decoded segments of a path.
func split(path string) ([]string, error) {
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, segment := range segments {
		decoded, err := url.PathUnescape(segment)
		if err != nil {
			return nil, errPath
		}
		segments[i] = decoded
	}
	return segments, nil
}

// recovered keeps a mistake in a handler from ending the daemon: fasthttp
// itself does not recover.
func (s *Server) recovered(h fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		defer func() {
			if p := recover(); p != nil {
				s.panicked(p)
				ctx.Response.Reset()
				ctx.SetConnectionClose()
				sendError(ctx, errInternal)
			}
		}()
		h(ctx)
	}
}

func (s *Server) panicked(p any) {
	s.log.Error("panic in the admin API", "panic", logging.Guest(fmt.Sprint(p)), "stack", string(debug.Stack()))
}

// badRequest answers what could not be parsed as a request.
func (s *Server) badRequest(ctx *fasthttp.RequestCtx, err error) {
	code := http.StatusBadRequest
	if _, ok := err.(*fasthttp.ErrSmallBuffer); ok {
		code = http.StatusRequestHeaderFieldsTooLarge
	} else if timeout, ok := err.(interface{ Timeout() bool }); ok && timeout.Timeout() {
		code = http.StatusRequestTimeout
	}
	s.log.Debug("admin request malformed", "code", code, "error", logging.GuestError(err))
	ctx.SetConnectionClose()
	sendError(ctx, errorf(code, "request is malformed: %s", oneLine(err.Error())))
}
