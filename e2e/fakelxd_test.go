package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// fakeLXD serves the part of LXD's API that a mirror needs of a daemon that has no instances, and whose images change all the
// time. stop ends it as a crash does; otherwise it ends with the test.
func fakeLXD(t *testing.T) (socket string, stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "lxd") // short: a socket path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "unix.socket")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	life, end := context.WithCancel(t.Context())
	answer := func(metadata any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(map[string]any{"type": "sync", "status": "Success", "status_code": 200, "metadata": metadata})
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/1.0", answer(map[string]any{"environment": map[string]any{"server": "lxd", "server_version": "5.0.2", "server_name": "here"}}))
	mux.Handle("/1.0/instances", answer([]any{}))
	mux.Handle("/1.0/images", answer([]any{}))
	mux.HandleFunc("/1.0/events", func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		announceImages(conn.CloseRead(life), conn)
	})
	server := &http.Server{Handler: mux}
	go func() { _ = server.Serve(ln) }()
	stop = func() {
		end() // of the event streams, which are not the server's any more
		_ = server.Close()
	}
	t.Cleanup(func() {
		stop()
		_ = os.RemoveAll(dir)
	})
	return socket, stop
}

// announceImages says again and again that there is another image, until ctx is done.
func announceImages(ctx context.Context, conn *websocket.Conn) {
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case now := <-tick.C:
			e := fmt.Sprintf(`{"type":"lifecycle","timestamp":%q,"project":"default","metadata":{"action":"image-created","source":"/1.0/images/%064d"}}`,
				now.UTC().Format(time.RFC3339Nano), 0)
			if err := conn.Write(ctx, websocket.MessageText, []byte(e)); err != nil {
				return
			}
		}
	}
}
