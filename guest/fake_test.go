package guest_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"devlxd/guest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a server that answers as a test wants. What a real one does is tested in e2e.
type fake struct {
	http.ServeMux
	t      *testing.T
	socket string

	mu     sync.Mutex
	values map[string]string
	// queries are those of the subscriptions so far.
	queries []string
}

func newFake(t *testing.T) (*fake, *guest.Client, context.Context) {
	t.Helper()
	dir, err := os.MkdirTemp("", "guest") // short: a socket path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, socket: filepath.Join(dir, "sock"), values: make(map[string]string)}
	f.HandleFunc("GET /1.0/config/{key}", func(w http.ResponseWriter, r *http.Request) {
		value, ok := f.get(r.PathValue("key"))
		if !ok {
			http.Error(w, "not found", http.StatusNotFound)
			return
		}
		_, _ = w.Write([]byte(value))
	})
	ln, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: f}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(ln) })
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	c := guest.New(f.socket)
	t.Cleanup(func() {
		cancel()
		c.Close()
		_ = server.Close()
		serving.Wait()
		os.RemoveAll(dir)
	})
	return f, c, ctx
}

func (f *fake) get(key string) (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	value, ok := f.values[key]
	return value, ok
}

func (f *fake) set(key, value string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.values[key] = value
}

// events answers the subscriptions one after the other, the last for all that follow.
func (f *fake) events(each ...func(w http.ResponseWriter, r *http.Request)) {
	f.HandleFunc("GET /1.0/events", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		n := len(f.queries)
		f.queries = append(f.queries, r.URL.RawQuery)
		f.mu.Unlock()
		each[min(n, len(each)-1)](w, r)
	})
}

// refuse answers a status.
func refuse(status int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", status) }
}

// send is a subscription that begins at a position ("": none), sends messages and ends with a code; 0: it stays.
func (f *fake) send(position string, code websocket.StatusCode, messages ...string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		if position != "" {
			w.Header().Set("Devlxd-Position", position)
		}
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		for _, message := range messages {
			if err := conn.Write(r.Context(), websocket.MessageText, []byte(message)); err != nil {
				return
			}
		}
		if code != 0 {
			_ = conn.Close(code, "")
			return
		}
		_, _, _ = conn.Read(context.Background()) // until the client goes
	}
}

// changed is an event of user.n; at is its position, "" for none.
func changed(value, at string) string {
	event := `{"type":"config","timestamp":"2026-03-01T12:00:00Z","metadata":{"key":"user.n","old_value":"","value":"` + value + `"}`
	if at != "" {
		event += `,"position":"` + at + `"`
	}
	return event + "}"
}
