package admin

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"devlxd/registry"
)

// PositionField is the response field in which an event stream says after
// which position it starts.
const PositionField = "X-Devlxd-Position"

// stream is one reader of a container's events.
type stream struct {
	server   *Server
	binding  *registry.Binding
	ring     *registry.Ring
	cursor   registry.Cursor
	start    registry.Position
	position bool // add the position to each event
	chunked  bool // the client speaks HTTP/1.1
	out      *bufio.Writer
	conn     net.Conn
}

// streamEvents: GET /1.0/containers/NAME/events, one JSON object a line, as
// they happen. type=config,device chooses, position=true adds to each event
// where it stands, since=EPOCH.OFFSET begins after that position.
//
// The stream ends when the container stops. If it ends for another reason, its
// last line is an error envelope: 410 when the reader was too slow, 409 when
// the guest API was closed to the container, 503 when the daemon shuts down.
func (s *Server) streamEvents(r *request) (reply, error) {
	c, err := r.container()
	if err != nil {
		return reply{}, err
	}
	st := &stream{server: s, chunked: r.Request.Header.IsHTTP11()}
	if st.position, err = r.flag("position"); err != nil {
		return reply{}, err
	}
	types, err := eventTypes(r.query.Get("type"))
	if err != nil {
		return reply{}, err
	}
	if st.binding = c.Binding(); st.binding == nil {
		return reply{}, errorf(http.StatusConflict, "container %q is not running: it has events once it is bound", c.Name())
	}
	if !c.Snapshot().Allowed() {
		return reply{}, errRevoked
	}
	if len(s.slots) == cap(s.slots) {
		return reply{}, errStreams
	}
	st.ring = st.binding.Ring()
	st.start, st.cursor = st.ring.Position(), st.ring.Subscribe(types)
	if since := r.query.Get("since"); since != "" {
		if st.start, err = registry.ParsePosition([]byte(since)); err != nil {
			return reply{}, errPosition
		}
		if st.cursor, err = st.ring.Resume(st.start, types); err != nil {
			return reply{}, ringError(err)
		}
	}
	// The connection is taken over: only then can a client that hangs up
	// between two events be noticed.
	r.HijackSetNoResponse(true)
	r.Hijack(st.serve)
	return reply{done: true}, nil
}

// ringError is what a client is told when a ring cannot give it all the events
// that it asks for.
func ringError(err error) error {
	switch {
	case errors.Is(err, registry.ErrRevoked):
		return errRevoked
	case errors.Is(err, registry.ErrOverrun):
		return errOverrun
	}
	return errGone
}

// eventTypes reads the type parameter. A guest may ask for types that do not
// exist, as from LXD; an operator who does has mistyped.
func eventTypes(value string) (registry.EventType, error) {
	if value == "" {
		return registry.ParseTypes(nil), nil
	}
	for name := range strings.SplitSeq(value, ",") {
		if registry.ParseTypes([]byte(name)) == 0 || name == "" {
			return 0, errorf(http.StatusBadRequest, "unknown event type %q: use config, device or both with a comma", name)
		}
	}
	return registry.ParseTypes([]byte(value)), nil
}

// enter counts a stream in; false when the server stops or has enough.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	select {
	case s.slots <- struct{}{}:
		s.streams.Add(1)
		return true
	default:
		return false
	}
}

func (s *Server) leave() {
	<-s.slots
	s.streams.Done()
}

// serve owns the connection until it returns; fasthttp closes it then.
func (st *stream) serve(conn net.Conn) {
	if !st.server.enter() {
		return
	}
	defer st.server.leave()
	defer func() {
		if p := recover(); p != nil {
			st.server.panicked(p)
		}
	}()
	st.conn, st.out = conn, bufio.NewWriterSize(conn, 16<<10)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		// Nothing more is expected; an error is the client hanging up, or the
		// deadline set below.
		_, _ = io.Copy(io.Discard, conn)
	}()
	// The connection is reused by fasthttp after the return, so that nobody
	// may read from it any more.
	defer func() {
		_ = conn.SetReadDeadline(time.Now())
		<-gone
	}()
	st.head()
	st.finish(st.run(gone))
}

// run sends events until the container stops, the guest API is closed to it,
// the reader is too slow, the server stops or the connection breaks, and returns
// why, nil for the first.
func (st *stream) run(gone <-chan struct{}) error {
	wake := make(chan struct{}, 1)
	watch := st.ring.Watch(func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	defer watch.Close()
	for {
		watch.Rearm()
		// Asked before the drain: if it is dead, nothing follows what is found.
		dead := st.binding.Dead()
		if err := st.drain(); err != nil {
			return err
		}
		if dead {
			return nil
		}
		select {
		case <-wake:
		case <-gone:
			return net.ErrClosed
		case <-st.server.stopping:
			return errStopping
		}
	}
}

// drain sends what the ring holds for the cursor.
func (st *stream) drain() error {
	for {
		event, err := st.ring.Next(&st.cursor)
		switch {
		case err != nil:
			return ringError(err)
		case event == nil:
			return st.out.Flush()
		}
		if err := st.write(event.Payload(st.position)); err != nil {
			return err
		}
	}
}

// head sends the status line and the fields, so that the client knows that it
// is subscribed.
func (st *stream) head() {
	framing := "Connection: close\r\n"
	if st.chunked {
		framing += "Transfer-Encoding: chunked\r\n"
	}
	st.extend()
	fmt.Fprintf(st.out, "HTTP/1.1 200 OK\r\nServer: devlxd\r\nContent-Type: %s\r\n%s: %s\r\n%s\r\n",
		contentJSON, PositionField, st.start, framing)
	_ = st.out.Flush()
}

// write sends one line as one chunk.
func (st *stream) write(line []byte) error {
	st.extend()
	if st.chunked {
		fmt.Fprintf(st.out, "%x\r\n", len(line))
	}
	_, err := st.out.Write(line)
	if st.chunked {
		_, err = st.out.WriteString("\r\n")
	}
	return err
}

// finish sends the reason, if the client can be told one, and the last chunk.
// After an error of the connection the writer takes nothing any more.
func (st *stream) finish(reason error) {
	if api, ok := reason.(*apiError); ok {
		_ = st.write(errorEnvelope(api.code, api))
	}
	if st.chunked {
		_, _ = st.out.WriteString("0\r\n\r\n")
	}
	_ = st.out.Flush()
}

// extend gives the reader time for the next line.
func (st *stream) extend() { _ = st.conn.SetWriteDeadline(time.Now().Add(st.server.streamTimeout)) }
