package rival_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"devlxd/bench/rival"
)

// patience is how long a test waits for what must come; only a broken rival makes a test wait for it.
const patience = 60 * time.Second

// value is what the container of the rig has as user.load.
const value = "value of c1"

// rig is a rival with one container, which is this process.
type rig struct {
	*rival.Client
	socket string
	kind   rival.Kind
	ended  chan error
	stop   func() // ends the control input
}

// newRig starts a rival. It must have ended without an error when the test ends.
func newRig(t *testing.T, kind rival.Kind) *rig {
	t.Helper()
	if kind == rival.NetHTTP && os.Getuid() != 0 {
		t.Skip("needs root: the process of the test must be root of the container that it is registered as")
	}
	r := newEmptyRig(t, kind)
	self := rival.Container{
		Name: "c1", PID: os.Getpid(),
		Config: map[string]string{rival.Key: value, "security.devlxd.images": "true", "cloud-init.user-data": "#cloud-config\n", "limits.cpu": "1"},
	}
	if err := r.Register([]rival.Container{self}); err != nil {
		t.Fatal(err)
	}
	return r
}

func newEmptyRig(t *testing.T, kind rival.Kind) *rig {
	t.Helper()
	// Pipes of the kernel, as between processes: the program in C takes them as they are.
	commands, toRival, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fromRival, answers, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Client: rival.NewClient(toRival, fromRival), socket: filepath.Join(t.TempDir(), "sock"), kind: kind, ended: make(chan error, 1)}
	r.stop = func() { _ = toRival.Close() }
	go func() {
		err := rival.Serve(context.Background(), kind, r.socket, commands, answers)
		_, _ = commands.Close(), answers.Close()
		r.ended <- err
	}()
	t.Cleanup(func() {
		r.stop()
		if err := r.wait(); errors.Is(err, rival.ErrNoCompiler) {
			t.Error(err)
		} else if err != nil {
			t.Errorf("the rival ended with: %v", err)
		}
		_ = fromRival.Close()
	})
	return r
}

// wait returns how the rival ended, any number of times.
func (r *rig) wait() error {
	select {
	case err := <-r.ended:
		r.ended <- err
		return err
	case <-time.After(patience):
		return errors.New("still running")
	}
}

// client is one connection.
type client struct {
	net.Conn
	t  *testing.T
	in *bufio.Reader
}

func (r *rig) dial(t *testing.T) *client {
	t.Helper()
	conn, err := net.Dial("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &client{Conn: conn, t: t, in: bufio.NewReader(conn)}
}

func get(path string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: lxd\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n"
}

const loadPath = "/1.0/config/" + rival.Key

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

// answer reads a response and returns its body; the status must be 200.
func (c *client) answer() string {
	c.t.Helper()
	resp, body, err := c.response()
	if err != nil {
		c.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		c.t.Fatalf("%s: %q", resp.Status, body)
	}
	return body
}

func (c *client) response() (*http.Response, string, error) {
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// wantClosed fails unless the server closes the connection.
func (c *client) wantClosed() {
	c.t.Helper()
	b, err := io.ReadAll(c.in)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		c.t.Fatalf("connection is still open after %q", b)
	}
}

const handshake = "GET /1.0/events HTTP/1.1\r\nHost: lxd\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + rival.SampleKey + "\r\n\r\n"

// upgrade makes the connection a websocket.
func (c *client) upgrade() {
	c.t.Helper()
	c.send(handshake)
	c.upgraded("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
}

// upgraded reads the answer to a handshake.
func (c *client) upgraded(accept string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.in, &http.Request{Method: http.MethodGet})
	if err != nil {
		c.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Accept") != accept ||
		!strings.EqualFold(resp.Header.Get("Upgrade"), "websocket") || !strings.EqualFold(resp.Header.Get("Connection"), "upgrade") {
		c.t.Fatalf("%s with %v", resp.Status, resp.Header)
	}
}

// frame reads one unmasked frame.
func (c *client) frame() (op byte, payload []byte) {
	c.t.Helper()
	read := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(c.in, b); err != nil {
			c.t.Fatal(err)
		}
		return b
	}
	head := read(2)
	if head[0]&0xf0 != 0x80 || head[1]&0x80 != 0 {
		c.t.Fatalf("frame begins with % x", head)
	}
	n := int(head[1])
	switch n {
	case 126:
		n = int(binary.BigEndian.Uint16(read(2)))
	case 127:
		n = int(binary.BigEndian.Uint64(read(8)))
	}
	return head[0] & 0x0f, read(n)
}

// event is what a guest sees.
type event struct {
	Type      string
	Timestamp time.Time
	Metadata  map[string]string
}

// event reads the next event and answers pings before it.
func (c *client) event() event {
	c.t.Helper()
	for {
		op, payload := c.frame()
		switch op {
		case 9:
			c.send(string([]byte{0x8a, 0x80, 0, 0, 0, 0}))
			continue
		case 1:
		default:
			c.t.Fatalf("frame with opcode %d: %q", op, payload)
		}
		dec := json.NewDecoder(strings.NewReader(string(payload)))
		dec.DisallowUnknownFields()
		var e event
		if err := dec.Decode(&e); err != nil || !strings.HasSuffix(string(payload), "}\n") {
			c.t.Fatalf("%q: %v", payload, err)
		}
		return e
	}
}

func (e event) String() string {
	return fmt.Sprintf("%s %s: %q -> %q", e.Type, e.Metadata["key"], e.Metadata["old_value"], e.Metadata["value"])
}

// forEachKind runs a test with every rival that has what it needs.
func forEachKind(t *testing.T, has func(rival.Kind) bool, test func(t *testing.T, r *rig)) {
	for _, kind := range rival.Kinds() {
		if has == nil || has(kind) {
			t.Run(string(kind), func(t *testing.T) { test(t, newRig(t, kind)) })
		}
	}
}
