package server

import (
	"errors"

	"devlxd/ws"
)

// farewell is what a websocket client is told when the server ends the
// connection (RFC 6455 §7.4).
type farewell struct {
	code ws.StatusCode
	text string
}

// farewells holds the close code and reason text by close reason; a reason that
// is not listed ends the connection without a close frame.
func farewells() [numCloseReasons]farewell {
	return [numCloseReasons]farewell{
		CloseStopped:  {ws.StatusGoingAway, "container stopped"},
		CloseShutdown: {ws.StatusGoingAway, "server shutting down"},
		CloseRevoked:  {ws.StatusPolicyViolation, "not authorized"},
		CloseOverrun:  {1013, "events lost: reader too slow"}, // RFC 6455 registry: Try Again Later
		CloseData:     {ws.StatusUnsupportedData, "this endpoint only sends events"},
	}
}

// sayFarewell gathers the close frame of a websocket and makes the connection
// end with reason once it is written and the client has answered it.
func (l *loop) sayFarewell(c *conn, reason CloseReason, f farewell) {
	if c.state != stateWS {
		l.end(c, reason)
		return
	}
	l.unsubscribe(c, reason)
	c.state = stateClosing
	c.ending, c.closing = true, reason
	l.out = ws.AppendClose(l.out, f.code, f.text)
}

// processClosing looks for the client's answer to our close frame and discards
// the rest. With it the connection is over (RFC 6455 §7.1.1: the server closes
// first).
func (l *loop) processClosing(c *conn, data []byte) int {
	p, n, err := c.sub.decoder.Next(data)
	switch {
	case err == nil && p.Op != ws.OpClose:
		return n
	case errors.Is(err, ws.ErrPartial):
		return 0
	}
	l.close(c, c.closing) // it has answered, or its answer could not be told apart
	return len(data)
}

// goodbye ends an event subscription from outside of its request: with a close
// frame on a websocket, by closing a JSON stream.
func (l *loop) goodbye(c *conn, reason CloseReason) {
	if c.state != stateWS {
		l.close(c, reason)
		return
	}
	l.out = l.out[:0]
	l.sayFarewell(c, reason, l.srv.farewells[reason])
	l.flush(c)
}
