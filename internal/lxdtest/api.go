package lxdtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// callTime bounds one call of a daemon's API with the operation that it begins: containers are started by it, on a busy machine, and both daemons
// have held a change of an instance back for about a minute now and then.
const callTime = 150 * time.Second

// unixClient speaks HTTP on a Unix socket. Connections are not kept: the daemon may be another at the next call.
func unixClient(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}
}

// Call asks the daemon's API. A body is sent as JSON, or as it is if it is a []byte; an operation that begins is waited for,
// and its metadata is then the result. result may be nil.
//
// Errors: what the daemon refused, that its operation failed, and those of the connection.
func (d *Daemon) Call(method, path string, body, result any) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	raw, err := d.call(ctx, method, path, body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if result != nil {
		return json.Unmarshal(raw, result)
	}
	return nil
}

func (d *Daemon) call(ctx context.Context, method, path string, body any) (json.RawMessage, error) {
	var reader io.Reader
	kind := "application/json"
	switch b := body.(type) {
	case nil:
	case []byte:
		reader, kind = bytes.NewReader(b), "application/octet-stream"
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+d.Kind.String()+path, reader)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", kind)
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Type      string
		Operation string
		Error     string
		Metadata  json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, err
	}
	switch answer.Type {
	case "error":
		return nil, fmt.Errorf("%w: %s", errRefused, answer.Error)
	case "async":
		return d.await(ctx, answer.Operation)
	}
	return answer.Metadata, nil
}

// await waits for an operation and returns its metadata.
func (d *Daemon) await(ctx context.Context, operation string) (json.RawMessage, error) {
	at, query, _ := strings.Cut(operation, "?") // the project, where it is not the default one
	raw, err := d.call(ctx, http.MethodGet, at+"/wait?"+query, nil)
	if err != nil {
		return nil, err
	}
	var op struct {
		StatusCode int `json:"status_code"`
		Err        string
		Metadata   json.RawMessage
	}
	if err := json.Unmarshal(raw, &op); err != nil {
		return nil, err
	}
	if op.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: %s", errOperation, op.Err)
	}
	return op.Metadata, nil
}

// Do is Call, of which the test cannot do without.
func (d *Daemon) Do(method, path string, body, result any) {
	d.T.Helper()
	begin := time.Now()
	if err := d.Call(method, path, body, result); err != nil {
		d.T.Fatal(err)
	}
	if took := time.Since(begin); took > slowCall {
		d.T.Logf("%s took %v for %s %s", d.Kind, took, method, path)
	}
}

// slowCall is from where on a call is worth a line: it tells a test that waited for the daemon from one that waited for devlxd.
const slowCall = 5 * time.Second

// Lifecycle is an event of what has become of something.
type Lifecycle struct {
	Action  string
	Source  string
	Arrived time.Time // when it was read here
}

// Watch follows the lifecycle events of all projects until the test ends or the daemon does.
func (d *Daemon) Watch(ctx context.Context) <-chan Lifecycle {
	d.T.Helper()
	conn, _, err := websocket.Dial(ctx, "http://"+d.Kind.String()+"/1.0/events?type=lifecycle&all-projects=true",
		&websocket.DialOptions{HTTPClient: unixClient(d.Socket())})
	if err != nil {
		d.T.Fatal(err)
	}
	conn.SetReadLimit(1 << 20)
	events := make(chan Lifecycle, 1024)
	go func() {
		defer close(events)
		defer conn.CloseNow()
		for {
			_, text, err := conn.Read(ctx)
			if err != nil {
				return
			}
			var e struct {
				Metadata struct{ Action, Source string }
			}
			if json.Unmarshal(text, &e) == nil {
				events <- Lifecycle{e.Metadata.Action, e.Metadata.Source, time.Now()}
			}
		}
	}()
	return events
}

// in adds the project to a path of the API.
func in(project, path string) string { return path + "?project=" + url.QueryEscape(project) }
