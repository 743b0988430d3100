package server

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"

	"devlxd/httpparse"
	"devlxd/peer"
	"devlxd/registry"
)

// Names of the guest's state in GET and PATCH /1.0 (shared/api/devlxd.go).
const (
	stateStarted = "Started"
	stateReady   = "Ready"
)

// handle answers one request head. The order of the checks is LXD's
// (devLXDAPIHandler): peer, uid, method, gate, resource. Where the router of a
// dialect has no handler for every path, an unknown one comes before all of them.
func (l *loop) handle(c *conn, req *httpparse.Request) {
	v := policyOf(req)
	wanted := v // what the client asked for
	// Whoever is answered without "100 Continue" may send the body or not.
	v.close = v.close || req.Expect100
	var param []byte
	var err error
	if l.route, param, err = match(req.Path, l.param[:0]); err != nil {
		l.refuse(c, err)
		return
	}
	if (l.route == routeUbuntuPro || l.route == routeUbuntuProToken) && !l.srv.texts.ubuntuPro {
		l.route = routeOther
	}
	r := l.route
	if !(r == routeOther && l.srv.texts.unknownFirst) && l.identityRefusal(c, v) {
		l.discardBody(c, req)
		return
	}
	method := methodName(req.Method)
	switch {
	case r == routeOther:
		l.respondText(c, 404, "404 page not found", v)
	case l.methodRefusal(c, r, method, v):
	case !c.binding.Container().Snapshot().Allowed() && !(l.srv.texts.rootUngated && (r == routeRoot || r == routeAPI && method != "PATCH")):
		l.respondGate(c, r, v)
	case r == routeAPI && method == "PATCH":
		l.awaitBody(c, req, wanted)
		return
	default:
		l.serve(c, req, r, param, v)
		if c.claim != 0 && l.waits(c) != waitNone {
			return // it is handled again in its turn
		}
	}
	l.discardBody(c, req)
}

// serve answers a GET (or what the dialect treats as one).
func (l *loop) serve(c *conn, req *httpparse.Request, r route, param []byte, v versionPolicy) {
	snap := c.binding.Container().Snapshot()
	switch r {
	case routeConfigKey:
		l.serveKey(c, snap, param, v)
	case routeRoot:
		l.respondBody(c, 200, typeJSON, rootBody, v)
	case routeAPI:
		l.respondBody(c, 200, typeJSON, l.srv.apiBody(c.binding.Ready()), v)
	case routeConfig:
		l.respondComposite(c, snap.Rendered(registry.RenderConfigList, l.srv.renderConfigList), v)
	case routeMetaData:
		l.respondComposite(c, snap.Rendered(registry.RenderMetaData, l.srv.renderMetaData), v)
	case routeDevices:
		l.respondComposite(c, snap.Rendered(registry.RenderDevices, renderDevices), v)
	case routeEvents:
		l.serveEvents(c, req, v)
	case routeImage:
		l.serveImage(c, req, snap, param, v)
	case routeUbuntuPro:
		l.respondBody(c, 200, typeJSON, ubuntuProBody, v)
	case routeUbuntuProToken:
		l.respondText(c, 403, "Failed getting an Ubuntu Pro guest token: Guest attachment not allowed", v)
	}
}

var (
	rootBody      = []byte(`["/1.0"]` + "\n")
	ubuntuProBody = []byte(`{"guest_attach":"off"}` + "\n")
)

// methodName avoids an allocation for the methods that occur.
func methodName(m []byte) string {
	switch string(m) {
	case "GET":
		return "GET"
	case "HEAD":
		return "HEAD"
	case "PATCH":
		return "PATCH"
	}
	return string(m)
}

// identityRefusal answers a peer that is no container's root.
func (l *loop) identityRefusal(c *conn, v versionPolicy) bool {
	switch {
	case c.reject == peer.RejectUID:
		l.respondText(c, 401, "Access denied for non-root user", v)
	case c.reject != peer.RejectNone || c.binding.Dead():
		// 500, not 403: cloud-init retries on 500, and its container may be
		// registered a moment later. The next try is a new connection.
		v.close = true
		l.end(c, CloseRefused)
		l.respondText(c, 500, l.srv.texts.unidentified, v)
	default:
		return false
	}
	return true
}

func (l *loop) methodRefusal(c *conn, r route, method string, v versionPolicy) bool {
	status, text, allow, refused := l.srv.opts.Dialect.methodRefusal(r, method)
	if !refused {
		return false
	}
	if allow != "" {
		l.respondText(c, status, text, v, "Allow: "+allow+"\r\n")
	} else {
		l.respondText(c, status, text, v)
	}
	return true
}

// respondGate answers 403 while security.devlxd is off.
func (l *loop) respondGate(c *conn, r route, v versionPolicy) {
	if r == routeImage && l.srv.texts.imageJSON {
		l.respondImageError(c, 403, l.srv.texts.forbidden, v)
		return
	}
	l.respondText(c, 403, l.srv.texts.forbidden, v)
}

// serveKey answers GET /1.0/config/KEY. A key outside of the guest's
// namespaces is refused alike whether it exists or not.
func (l *loop) serveKey(c *conn, snap *registry.Snapshot, key []byte, v versionPolicy) {
	if !guestKey(key) {
		l.respondText(c, 403, l.srv.texts.forbidden, v)
		return
	}
	response, ok := snap.Lookup(key)
	if !ok {
		l.respondText(c, 404, l.srv.texts.notFound, v)
		return
	}
	body := bodyLen(response)
	if body == 0 && l.srv.texts.emptyIsGone {
		l.respondText(c, 404, l.srv.texts.notFound, v)
		return
	}
	l.respondRendered(c, response, body, v)
}

// guestKey says whether a guest may read a key: a test of the prefix only, as
// in LXD (devLXDConfigKeyGetHandler).
func guestKey[S ~string | ~[]byte](key S) bool {
	const user, cloudInit = "user.", "cloud-init."
	return len(key) >= len(user) && string(key[:len(user)]) == user ||
		len(key) >= len(cloudInit) && string(key[:len(cloudInit)]) == cloudInit
}

// bodyLen is the length of the body of a rendered response.
func bodyLen(rendered []byte) int {
	return len(rendered) - bytes.Index(rendered, []byte("\r\n\r\n")) - 4
}

func (l *loop) respondComposite(c *conn, rendered []byte, v versionPolicy) {
	l.respondRendered(c, rendered, bodyLen(rendered), v)
}

// renderConfigList is the body of GET /1.0/config: keys raw (cloud-init quotes
// them itself) and sorted.
func (s *Server) renderConfigList(snap *registry.Snapshot) []byte {
	b := []byte{'['}
	for _, key := range s.readableKeys(snap) {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = registry.AppendJSONString(b, configPrefix+key)
	}
	return renderWith(jsonHead, append(b, "]\n"...))
}

func (s *Server) readableKeys(snap *registry.Snapshot) []string {
	keys := make([]string, 0, len(snap.Config()))
	for _, e := range snap.Config() {
		if guestKey(e.Key) {
			keys = append(keys, e.Key)
		}
	}
	if s.texts.sshKeys {
		keys = listSeedKeys(keys)
	}
	return keys
}

// renderMetaData is the body of GET /1.0/meta-data. user.meta-data is appended
// as it is, not merged (LXD devLXDMetadataGetHandler).
func (s *Server) renderMetaData(snap *registry.Snapshot) []byte {
	var b []byte
	if s.texts.cloudConfig {
		b = append(b, "#cloud-config\n"...)
	}
	id := snap.Hostname()
	if s.texts.instanceUUID && snap.InstanceID() != "" {
		id = snap.InstanceID()
	}
	b = append(b, "instance-id: "+id+"\nlocal-hostname: "+snap.Hostname()+"\n"...)
	user, _ := snap.Value("user.meta-data")
	return renderWith(rawHead, append(b, user...))
}

// renderDevices is the body of GET /1.0/devices.
func renderDevices(s *registry.Snapshot) []byte {
	b := []byte{'{'}
	for i, d := range s.DevicesWithHwaddr() {
		if i > 0 {
			b = append(b, ',')
		}
		b = registry.AppendJSONString(b, d.Name)
		b = append(b, ':')
		b = d.AppendJSON(b)
	}
	return renderWith(jsonHead, append(b, "}\n"...))
}

// awaitBody takes in the body of PATCH /1.0.
func (l *loop) awaitBody(c *conn, req *httpparse.Request, v versionPolicy) {
	if req.ContentLength > maxPatch {
		l.refuse(c, errPatchTooLarge)
		return
	}
	c.body = &bodyState{decoder: req.Body(), patch: true, policy: v}
	c.state = stateBody
	if c.body.decoder.Done() {
		l.bodyDone(c)
		return
	}
	if req.Expect100 {
		l.out = append(l.out, "HTTP/1.1 100 Continue\r\n\r\n"...)
	}
}

// discardBody skips the body of a request whose route takes none.
func (l *loop) discardBody(c *conn, req *httpparse.Request) {
	if !hasBody(req) || c.ending || c.state != stateHead {
		return
	}
	c.body = &bodyState{decoder: req.Body()}
	c.state = stateBody
}

func hasBody(req *httpparse.Request) bool { return req.Chunked || req.ContentLength > 0 }

// patchState is PATCH /1.0 with {"state":"Ready"} or {"state":"Started"}. It
// reads the first JSON value and ignores fields it does not know, as LXD does.
func (l *loop) patchState(c *conn, b *bodyState) {
	l.route = routeAPI
	l.work += len(b.data) / workBytes
	var body struct {
		State string `json:"state"`
	}
	if l.identityRefusal(c, b.policy) {
		return
	}
	if !c.binding.Container().Snapshot().Allowed() {
		l.respondGate(c, routeAPI, b.policy)
		return
	}
	err := json.NewDecoder(bytes.NewReader(b.data)).Decode(&body)
	switch {
	case err == io.EOF: //nolint:errorlint // Decode returns the value itself
		l.respondText(c, 400, l.srv.texts.bodyError+"EOF", b.policy)
	case err != nil:
		l.respondText(c, 400, l.srv.texts.bodyError+clip(err.Error()), b.policy)
	case body.State != stateReady && body.State != stateStarted:
		l.respondText(c, 400, "Invalid state "+strconv.Quote(clip(body.State)), b.policy)
	default:
		c.binding.SetReady(body.State == stateReady)
		if set := l.srv.opts.StateSet; set != nil {
			set(c.binding)
		}
		l.respondBody(c, 200, typeRaw, nil, b.policy)
	}
}

// clip cuts what a guest sent to a length that is good for any honest one, so
// that an echo of it cannot grow an answer.
func clip[S ~string | ~[]byte](s S) S { return s[:min(len(s), 256)] }
