package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/coder/websocket"
)

// maxEvent bounds the length of an event in bytes.
const maxEvent = 1 << 20

// eventsRole prints each event as it comes, until the server ends the stream:
// events websocket|stream PATH.
func eventsRole(args []string) error {
	how, path := args[0], args[1]
	out := json.NewEncoder(os.Stdout)
	event := func(data []byte) error {
		return out.Encode(line{kindEvent, strings.TrimSuffix(string(data), "\n")})
	}
	var end string
	var err error
	if how == overWebsocket {
		end, err = listenWebsocket(path, out, event)
	} else {
		end, err = listenStream(path, out, event)
	}
	if err != nil {
		return err
	}
	return out.Encode(line{kindEnd, end})
}

// listenWebsocket returns the close code and reason.
func listenWebsocket(path string, out *json.Encoder, event func([]byte) error) (string, error) {
	ctx := context.Background() // the process is killed when it is not wanted any more
	conn, _, err := websocket.Dial(ctx, "ws://lxd"+path, &websocket.DialOptions{HTTPClient: guestClient()})
	if err != nil {
		return "", err
	}
	conn.SetReadLimit(maxEvent)
	if err := out.Encode(line{Kind: kindSubscribed}); err != nil {
		return "", err
	}
	for {
		_, data, err := conn.Read(ctx)
		var closed websocket.CloseError
		switch {
		case errors.As(err, &closed):
			return fmt.Sprintf("%d %s", closed.Code, closed.Reason), nil
		case err != nil:
			return "", err
		}
		if err := event(data); err != nil {
			return "", err
		}
	}
}

// listenStream reads one JSON event a line; the stream ends with its connection.
func listenStream(path string, out *json.Encoder, event func([]byte) error) (string, error) {
	resp, err := guestClient().Get("http://lxd" + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	if err := out.Encode(line{Kind: kindSubscribed}); err != nil {
		return "", err
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		if err := event(lines.Bytes()); err != nil {
			return "", err
		}
	}
	if err := lines.Err(); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", err
	}
	return "end of the stream", nil
}
