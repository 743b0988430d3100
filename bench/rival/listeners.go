package rival

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// LXD's times (lxd/events): a ping at once and then each interval; the third that stays unanswered ends the listener.
const (
	handshakeTimeout = 5 * time.Second
	pingInterval     = 10 * time.Second
	writeTimeout     = 5 * time.Second
	maxPongsPending  = 2
	readTimeout      = (maxPongsPending+1)*pingInterval + 5*time.Second
)

// listeners are those of all containers, in one map under one lock, as in LXD: every event looks at all of them. It is safe for
// concurrent use.
type listeners struct {
	mu  sync.Mutex
	all map[*listener]struct{}
}

// listener is an upgraded connection. Its lock makes writers wait for each other.
type listener struct {
	conn      *websocket.Conn
	container string
	types     []string

	mu           sync.Mutex
	pongsPending int
	closed       bool
	done         chan struct{} // closed with it
}

func (s *netHTTP) getEvents(w http.ResponseWriter, r *http.Request, c *container) {
	types := r.FormValue("type")
	if types == "" {
		types = "config,device"
	}
	upgrader := websocket.Upgrader{HandshakeTimeout: handshakeTimeout}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // the client was told
	}
	l := &listener{conn: conn, container: c.Name, types: strings.Split(types, ","), done: make(chan struct{})}
	s.events.add(l)
	l.listen()
	s.events.remove(l)
}

func (ls *listeners) add(l *listener) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.all[l] = struct{}{}
}

// remove is where this is kinder than LXD, which keeps a listener whose client hung up until a write to it fails.
func (ls *listeners) remove(l *listener) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	delete(ls.all, l)
}

// broadcast starts a goroutine for each listener of the container. They race for the listener's lock, so two events of one
// listener may change places: so it is in LXD.
func (ls *listeners) broadcast(container string, e *event) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for l := range ls.all {
		if l.container != container || !slices.Contains(l.types, e.Type) {
			continue
		}
		go func() {
			if l.send(e) != nil {
				l.close()
				ls.remove(l)
			}
		}()
	}
}

func (ls *listeners) closeAll() {
	ls.mu.Lock()
	all := make([]*listener, 0, len(ls.all))
	for l := range ls.all {
		all = append(all, l)
	}
	ls.mu.Unlock()
	for _, l := range all {
		l.close()
	}
}

// send encodes the event, once for each listener as LXD does, and writes it.
func (l *listener) send(e *event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	if err := l.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	return l.conn.WriteJSON(e)
}

func (l *listener) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		_ = l.conn.Close()
		close(l.done)
	}
}

// listen sends pings, and reads in another goroutine, until the client goes away, sends a message or does not answer.
func (l *listener) listen() {
	defer l.close()
	if l.conn.SetReadDeadline(time.Now().Add(readTimeout)) != nil {
		return
	}
	l.conn.SetPongHandler(func(string) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.pongsPending = 0
		return l.conn.SetReadDeadline(time.Now().Add(readTimeout))
	})
	go func() {
		defer l.close()
		_, _, _ = l.conn.NextReader()
	}()
	ticker := time.NewTicker(pingInterval)
	defer ticker.Stop()
	for l.ping() {
		select {
		case <-ticker.C:
		case <-l.done:
			return
		}
	}
}

// ping reports whether the connection may still be alive.
func (l *listener) ping() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.pongsPending > maxPongsPending {
		return false
	}
	l.pongsPending++
	return l.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeTimeout)) == nil
}
