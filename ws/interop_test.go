package ws_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"devlxd/ws"
)

// echoOnce serves one connection with this package: handshake, then an echo of
// each message, until either side closes.
func echoOnce(conn net.Conn) error {
	defer conn.Close()
	in := bufio.NewReader(conn)
	req, err := http.ReadRequest(in)
	if err != nil {
		return err
	}
	field := func(name string) []byte {
		if v := req.Header.Values(name); len(v) > 0 {
			return []byte(v[0])
		}
		return nil
	}
	h := ws.Handshake{
		Method: []byte(req.Method), Minor: req.ProtoMinor, Host: []byte(req.Host), Origin: field("Origin"),
		Upgrade: field("Upgrade"), Connection: field("Connection"),
		Key: field("Sec-WebSocket-Key"), Version: field("Sec-WebSocket-Version"),
	}
	if e := h.Check(); e != nil {
		_, err := fmt.Fprintf(conn, "HTTP/1.1 %d Refused\r\n%s\r\n", e.Status, e.Fields)
		return errors.Join(e, err)
	}
	if _, err := conn.Write(append(ws.AppendUpgrade(nil, h.Key), "\r\n"...)); err != nil {
		return err
	}
	var d ws.Decoder
	var pending, message []byte
	for chunk := make([]byte, 1000); ; {
		n, err := in.Read(chunk)
		if err != nil {
			return err
		}
		pending = append(pending, chunk[:n]...)
		for {
			p, n, err := d.Next(pending)
			if err == ws.ErrPartial {
				break
			}
			var out []byte
			var fault *ws.CloseError
			switch {
			case errors.As(err, &fault):
				out = ws.AppendClose(nil, fault.Code, fault.Reason)
			case p.Op == ws.OpPing:
				out = ws.AppendFrame(nil, ws.OpPong, p.Data)
			case p.Op == ws.OpClose:
				code, _, _ := ws.ParseClose(p.Data)
				out, err = ws.AppendClose(nil, code, ""), ws.ErrClosed
			case p.Op == ws.OpText || p.Op == ws.OpBinary:
				message = append(message, p.Data...)
				if p.Last {
					out = ws.AppendFrame(nil, p.Op, message)
					message = message[:0]
				}
			}
			if _, werr := conn.Write(out); werr != nil || err != nil {
				return errors.Join(err, werr)
			}
			pending = pending[n:]
		}
	}
}

// dialEcho connects github.com/coder/websocket to echoOnce over a unix socket.
// served gives how the server ended.
func dialEcho(t *testing.T, ctx context.Context, options *websocket.DialOptions) (c *websocket.Conn, served chan error, err error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	served = make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			err = echoOnce(conn)
		}
		served <- err
	}()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	options.HTTPClient = &http.Client{Transport: transport}
	c, _, err = websocket.Dial(ctx, "ws://lxd/1.0/events", options)
	return c, served, err
}

// TestOtherClient talks to an independent implementation.
func TestOtherClient(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	c, served, err := dialEcho(t, ctx, &websocket.DialOptions{CompressionMode: websocket.CompressionContextTakeover, Subprotocols: []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if c.Subprotocol() != "" {
		t.Errorf("subprotocol %q was negotiated", c.Subprotocol())
	}
	c.SetReadLimit(1 << 20)
	for _, size := range []int{0, 1, 125, 126, 1000, 65535, 65536} {
		for _, kind := range []websocket.MessageType{websocket.MessageText, websocket.MessageBinary} {
			message := bytes.Repeat([]byte{'m'}, size)
			if err := c.Write(ctx, kind, message); err != nil {
				t.Fatal(err)
			}
			gotKind, got, err := c.Read(ctx)
			if err != nil || gotKind != kind || !bytes.Equal(got, message) {
				t.Fatalf("echo of %d bytes of %v = %d bytes of %v, %v", size, kind, len(got), gotKind, err)
			}
		}
	}
	w, err := c.Writer(ctx, websocket.MessageText) // fragments
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("größe ", 5000)
	for rest := long; rest != ""; {
		n := min(4999, len(rest)) // also inside characters
		if _, err := w.Write([]byte(rest[:n])); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, got, err := c.Read(ctx); err != nil || string(got) != long {
		t.Fatalf("echo of fragments = %d bytes, %v; want %d", len(got), err, len(long))
	}
	reading := c.CloseRead(ctx)
	if err := c.Ping(ctx); err != nil {
		t.Errorf("Ping = %v", err)
	}
	if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil {
		t.Errorf("Close = %v", err)
	}
	<-reading.Done()
	if err := <-served; !errors.Is(err, ws.ErrClosed) {
		t.Errorf("server ended with %v; want ErrClosed", err)
	}
}

func TestOtherClientTooBig(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	c, served, err := dialEcho(t, ctx, &websocket.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	_ = c.Write(ctx, websocket.MessageBinary, make([]byte, ws.DefaultMax+1)) // may meet a closed socket
	if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
		t.Errorf("Read = %v; want a close with 1009", err)
	}
	if err := <-served; !errors.Is(err, ws.ErrMessageTooBig) {
		t.Errorf("server ended with %v; want ErrMessageTooBig", err)
	}
}

func TestOtherClientOrigin(t *testing.T) {
	for origin, want := range map[string]*ws.HandshakeError{"http://lxd": nil, "http://other": ws.ErrOrigin} {
		t.Run(origin, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
			defer cancel()
			c, served, err := dialEcho(t, ctx, &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {origin}}})
			if (err == nil) != (want == nil) || want != nil && !strings.Contains(err.Error(), fmt.Sprint(want.Status)) {
				t.Fatalf("Dial = %v; want %v", err, want)
			}
			if c != nil {
				c.CloseNow()
			}
			if err := <-served; want != nil && !errors.Is(err, want) {
				t.Errorf("server ended with %v; want %v", err, want)
			}
		})
	}
}
