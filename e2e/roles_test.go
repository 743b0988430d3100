package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"

	"devlxd/internal/sandbox"
)

const guestSocket = "/dev/lxd/sock"

// roles are the guests that this test binary can be inside of a container.
var roles = map[string]sandbox.Role{
	"events":     eventsRole,
	"keep-alive": keepAliveRole,
	"load":       loadRole,

	"client":        clientRole,
	"client-events": clientEventsRole,
}

// client is net/http on the guest socket.
func client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", guestSocket)
	}}}
}

// event is one event as a guest reads it.
type event struct {
	Type     string         `json:"type"`
	Metadata map[string]any `json:"metadata"`
	Position string         `json:"position"`
}

// eventsResult is what the role "events" prints.
type eventsResult struct {
	Start  string
	Events []event
	End    string // how the websocket ended, "" if the role ended it
}

// eventsRole reads N events of the query with coder/websocket: events QUERY N.
// It says "subscribed" on standard error when it is.
func eventsRole(args []string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	want, err := strconv.Atoi(args[1])
	if err != nil {
		return fail(err)
	}
	conn, resp, err := websocket.Dial(ctx, "ws://lxd/1.0/events"+args[0], &websocket.DialOptions{HTTPClient: client()})
	if err != nil {
		return fail(err)
	}
	conn.SetReadLimit(-1)
	fmt.Fprintln(os.Stderr, "subscribed")
	result := eventsResult{Start: resp.Header.Get("Devlxd-Position"), Events: []event{}}
	for len(result.Events) < want {
		_, data, err := conn.Read(ctx)
		if err != nil {
			result.End = fmt.Sprintf("%d %s", websocket.CloseStatus(err), err)
			break
		}
		var e event
		if err := json.Unmarshal(data, &e); err != nil {
			return fail(err)
		}
		result.Events = append(result.Events, e)
	}
	if result.End == "" {
		if err := conn.Close(websocket.StatusNormalClosure, "enough"); err != nil {
			return fail(err)
		}
	}
	return print(result)
}

// keepAliveRole asks PATH once for each line on standard input, all on one
// connection, and prints "CODE BODY" for each; "closed" when the connection is
// gone: keep-alive PATH.
func keepAliveRole(args []string) int {
	conn, err := net.Dial("unix", guestSocket)
	if err != nil {
		return fail(err)
	}
	r := bufio.NewReader(conn)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if _, err := io.WriteString(conn, "GET "+args[0]+" HTTP/1.1\r\nHost: lxd\r\n\r\n"); err != nil {
			fmt.Println("closed")
			continue
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			fmt.Println("closed")
			continue
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return fail(err)
		}
		fmt.Printf("%d %s\n", resp.StatusCode, strings.TrimSpace(string(body)))
	}
	return 0
}

func print(v any) int {
	if err := json.NewEncoder(os.Stdout).Encode(v); err != nil {
		return fail(err)
	}
	return 0
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}
