package server

import (
	"errors"

	"devlxd/httpparse"
	"devlxd/registry"
	"devlxd/ws"
)

// positionField names the response field that tells a subscriber with
// ?position=true from where its events begin.
const positionField = "Devlxd-Position"

// serveEvents starts an event subscription: a websocket if the Upgrade field is
// exactly "websocket" (LXD compares it with its case), else LXD's JSON stream.
func (l *loop) serveEvents(c *conn, req *httpparse.Request, v versionPolicy) {
	websocket := string(req.Upgrade) == "websocket"
	if v.head {
		l.respondText(c, 405, "events need a GET request", v, "Allow: GET\r\n")
		return
	}
	if websocket {
		h := ws.Handshake{
			Method: req.Method, Upgrade: req.Upgrade, Connection: req.Connection, Key: req.SecWebSocketKey,
			Version: req.SecWebSocketVersion, Host: req.Host, Origin: req.Origin, Minor: req.Minor,
		}
		if herr := h.Check(); herr != nil {
			l.respondText(c, herr.Status, herr.Text, v, herr.Fields)
			return
		}
	}
	// A websocket and a stream own the connection from here on: what follows is
	// not a request any more, so there must be no body to tell apart from it.
	if hasBody(req) {
		v.close = true
		l.respondText(c, 400, "an event request has no body", v)
		return
	}
	sub, err := newSubscription(c.binding.Ring(), req.Query)
	if err != nil {
		status := 400
		switch {
		case errors.Is(err, registry.ErrRevoked):
			l.respondGate(c, routeEvents, v) // access was closed since the request was let in
			return
		case errors.Is(err, registry.ErrGone):
			status = 410
		}
		l.respondText(c, status, err.Error(), v)
		return
	}
	if !l.takeSubscriber(c.group) {
		l.respondText(c, 500, textSubscribers, v)
		return
	}
	if websocket {
		l.countAnswer(c, routeEvents, 101)
		l.out = ws.AppendUpgrade(l.out, req.SecWebSocketKey)
		c.state = stateWS
	} else {
		l.countAnswer(c, routeEvents, 200)
		// The head of LXD's stream, with the line ends that RFC 9112 asks for.
		l.out = append(l.out, "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"...)
		c.state = stateStream
	}
	if sub.position {
		l.out = httpparse.AppendField(l.out, positionField, sub.start.String())
	}
	l.out = append(l.out, "\r\n"...)
	l.subscribe(c, sub.subscriber)
	c.group.account.subscribers.Add(-1) // the place that was kept for it
}

// subscription is a subscriber and the position it begins at.
type subscription struct {
	*subscriber
	start registry.Position
}

// newSubscription reads the parameters type, position and since.
func newSubscription(ring *registry.Ring, query []byte) (subscription, error) {
	var scratch [256]byte
	s := subscription{subscriber: &subscriber{ring: ring}}
	kinds, _ := httpparse.QueryValue(query, "type", scratch[:0])
	types := registry.ParseTypes(kinds)
	if value, ok := httpparse.QueryValue(query, "position", scratch[:0]); ok {
		switch string(value) {
		case "true", "1":
			s.position = true
		case "false", "0", "":
		default:
			return s, errPositionFlag
		}
	}
	since, ok := httpparse.QueryValue(query, "since", scratch[:0])
	if !ok {
		s.start = ring.Position()
		var err error
		s.cursor, err = ring.Resume(s.start, types)
		return s, err
	}
	at, err := registry.ParsePosition(since)
	if err != nil {
		return s, err
	}
	s.start = at
	s.cursor, err = ring.Resume(at, types)
	return s, err
}

// processFrames works through websocket frames of a subscriber: control frames
// are answered, data ends the subscription, since the endpoint only sends.
func (l *loop) processFrames(c *conn, data []byte) int {
	p, n, err := c.sub.decoder.Next(data)
	if err != nil {
		if errors.Is(err, ws.ErrPartial) {
			return 0
		}
		var cerr *ws.CloseError
		switch {
		case errors.Is(err, ws.ErrTextUTF8):
			// It is data, UTF-8 or not: the answer must not depend on how much of
			// it had come when its head was looked at.
			c.eof = true
			l.sayFarewell(c, CloseData, l.srv.farewells[CloseData])
		case errors.As(err, &cerr):
			c.eof = true // what follows cannot be told apart, a close frame neither
			l.sayFarewell(c, CloseProtocol, farewell{cerr.Code, cerr.Reason})
		}
		return len(data)
	}
	switch p.Op {
	case ws.OpPing:
		l.out = ws.AppendFrame(l.out, ws.OpPong, p.Data)
	case ws.OpPong:
		c.sub.pings = 0
	case ws.OpClose:
		// RFC 6455 §5.5.1: answer with the status code received, and with none if
		// there was none.
		code, _, _ := ws.ParseClose(p.Data)
		c.eof = true // nothing may follow a close frame
		l.sayFarewell(c, CloseWebsocket, farewell{code, ""})
		return len(data)
	default:
		l.sayFarewell(c, CloseData, l.srv.farewells[CloseData])
		return len(data)
	}
	return n
}

// endStream ends a JSON stream whose client sent something (LXD does the same).
// What was answered in this turn is still written: whether a byte comes with the
// request or behind it changes nothing.
func (l *loop) endStream(c *conn) {
	l.unsubscribe(c, CloseData)
	l.end(c, CloseData)
}
