package server

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// httpClient is net/http in the named container.
func (r *rig) httpClient(name string) *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer(name).DialContext(ctx, "unix", r.path)
	}}
	r.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// TestCoderWebsocket: a websocket client that is not ours.
func TestCoderWebsocket(t *testing.T) {
	r := newRig(t, Options{Loops: 1})
	r.container("c1", nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dial := func() *websocket.Conn {
		client := r.httpClient("c1")
		client.Timeout = 0 // it would end the websocket
		conn, resp, err := websocket.Dial(ctx, "ws://lxd/1.0/events?type=config", &websocket.DialOptions{HTTPClient: client})
		if err != nil {
			t.Fatalf("%v (%v)", err, resp)
		}
		return conn
	}
	conn := dial()
	for _, value := range []string{"1", "2", "3"} {
		r.set("c1", "user.a", value)
		kind, payload, err := conn.Read(ctx)
		if err != nil || kind != websocket.MessageText {
			t.Fatalf("%v message, %v", kind, err)
		}
		if want := `"value":"` + value + `"}}` + "\n"; string(payload[len(payload)-len(want):]) != want {
			t.Errorf("event = %s; want it to end with %s", payload, want)
		}
	}
	if err := conn.Close(websocket.StatusNormalClosure, "bye"); err != nil {
		t.Errorf("closing = %v; want the closing handshake", err)
	}
	r.wantClosed(CloseWebsocket, 1)

	conn = dial()
	done := make(chan error, 1)
	go func() { done <- r.shutdown(10 * time.Second) }()
	if _, _, err := conn.Read(ctx); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("at the end of the server: %v; want status 1001", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
