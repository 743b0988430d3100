package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	coder "github.com/coder/websocket"
	gobwas "github.com/gobwas/ws"
	gorilla "github.com/gorilla/websocket"

	"devlxd/ws"
	"devlxd/ws/wstest"
)

// frameContests decodes masked text frames of a client, and builds the frame of an event.
//
// devlxd and gobwas/ws get their bytes by a copy into one buffer, as read(2) would bring them. gobwas/ws is used at its
// best: headers are never cut, and UTF-8 and the order of frames are not checked. gorilla and coder/websocket read from a
// connection in memory through their own buffer, and their messages are taken with a reader, without an allocation of the
// caller's; gorilla and coder/websocket leave UTF-8 to the caller as well. devlxd checks all of it.
func frameContests(tb testing.TB, _ []int) (contests []contest) {
	for _, size := range []int{16, 200, 16 << 10} {
		stream, frames := clientStream(size)
		contests = append(contests, contest{
			name: fmt.Sprintf("decode-%d", size), bytes: int64(len(stream) / frames),
			ways: []way{
				{name: "devlxd", free: true, run: decodeHere(stream, size)},
				{name: "gobwas", run: decodeGobwas(stream, size)},
				{name: "gorilla", run: decodeGorilla(tb, stream, size)},
				{name: "coder", run: decodeCoder(tb, stream, size)},
			},
		})
	}
	payload := bytes.Repeat([]byte{'e'}, 200)
	return append(contests, contest{name: "build-200", bytes: int64(len(payload)), ways: []way{
		{name: "devlxd", run: func(n int) error {
			for range n {
				ws.TextFrame(payload)
			}
			return nil
		}},
		{name: "gobwas", run: func(n int) error {
			for range n {
				if _, err := gobwas.CompileFrame(gobwas.NewTextFrame(payload)); err != nil {
					return err
				}
			}
			return nil
		}},
	}})
}

// clientStream is about 64 KiB of masked text frames, so that the first-level cache is not what is measured at any size.
func clientStream(size int) (stream []byte, frames int) {
	frame := wstest.Frame{Op: ws.OpText, Fin: true, Payload: bytes.Repeat([]byte{'e'}, size)}
	for len(stream) < 64<<10 {
		stream = wstest.AppendFrame(stream, frame, [4]byte{0x37, 0xfa, 0x21, 0x3d})
		frames++
	}
	return stream, frames
}

func wrongSize(got, want int) error { return fmt.Errorf("a message of %d bytes; want %d", got, want) }

func decodeHere(stream []byte, size int) func(int) error {
	var d ws.Decoder
	var rest []byte
	buf := make([]byte, len(stream))
	return func(n int) error {
		for range n {
			if len(rest) == 0 {
				copy(buf, stream)
				rest = buf
			}
			p, used, err := d.Next(rest)
			if err != nil {
				return err
			}
			if len(p.Data) != size || !p.Last {
				return wrongSize(len(p.Data), size)
			}
			rest = rest[used:]
		}
		return nil
	}
}

func decodeGobwas(stream []byte, size int) func(int) error {
	in := bytes.NewReader(nil)
	buf := make([]byte, len(stream))
	return func(n int) error {
		for range n {
			if in.Len() == 0 {
				copy(buf, stream)
				in.Reset(buf)
			}
			h, err := gobwas.ReadHeader(in)
			if err != nil {
				return err
			}
			if err := gobwas.CheckHeader(h, gobwas.StateServerSide); err != nil {
				return err
			}
			if int(h.Length) != size {
				return wrongSize(int(h.Length), size)
			}
			at := len(buf) - in.Len()
			gobwas.Cipher(buf[at:at+size], h.Mask, 0)
			if _, err := in.Seek(h.Length, io.SeekCurrent); err != nil {
				return err
			}
		}
		return nil
	}
}

func decodeGorilla(tb testing.TB, stream []byte, size int) func(int) error {
	upgrader := gorilla.Upgrader{ReadBufferSize: 64 << 10}
	conn, err := upgrader.Upgrade(hijackable{memoryConn: &memoryConn{stream: stream}, header: http.Header{}}, upgradeRequest(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	buf := make([]byte, size+1)
	return func(n int) error {
		for range n {
			_, r, err := conn.NextReader()
			if err != nil {
				return err
			}
			if err := readMessage(r, buf); err != nil {
				return err
			}
		}
		return nil
	}
}

func decodeCoder(tb testing.TB, stream []byte, size int) func(int) error {
	w := hijackable{memoryConn: &memoryConn{stream: stream}, header: http.Header{}}
	conn, err := coder.Accept(w, upgradeRequest(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.CloseNow() })
	ctx := context.Background()
	buf := make([]byte, size+1)
	return func(n int) error {
		for range n {
			_, r, err := conn.Reader(ctx)
			if err != nil {
				return err
			}
			if err := readMessage(r, buf); err != nil {
				return err
			}
		}
		return nil
	}
}

// readMessage reads a message that must be one byte shorter than buf.
func readMessage(r io.Reader, buf []byte) error {
	got := 0
	for {
		n, err := r.Read(buf[got:])
		got += n
		switch {
		case err == io.EOF && got == len(buf)-1:
			return nil
		case err == io.EOF || got == len(buf):
			return wrongSize(got, len(buf)-1)
		case err != nil:
			return err
		}
	}
}

func upgradeRequest() *http.Request {
	const text = "GET /1.0/events HTTP/1.1\r\nHost: lxd\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		panic(err) // the text above is a request
	}
	return r
}

// hijackable is a response to a client that upgrades.
type hijackable struct {
	*memoryConn
	header http.Header
}

func (h hijackable) Header() http.Header { return h.header }
func (h hijackable) WriteHeader(int)     {}

func (h hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.memoryConn, bufio.NewReadWriter(bufio.NewReaderSize(h.memoryConn, 64<<10), bufio.NewWriter(h.memoryConn)), nil
}

// memoryConn is a client that sends the stream again and again and takes everything. It is for one goroutine at a time.
type memoryConn struct {
	stream []byte
	at     int
}

func (c *memoryConn) Read(b []byte) (int, error) {
	n := copy(b, c.stream[c.at:])
	c.at = (c.at + n) % len(c.stream)
	return n, nil
}

func (c *memoryConn) Write(b []byte) (int, error)      { return len(b), nil }
func (c *memoryConn) Close() error                     { return nil }
func (c *memoryConn) LocalAddr() net.Addr              { return &net.UnixAddr{} }
func (c *memoryConn) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
func (c *memoryConn) SetDeadline(time.Time) error      { return nil }
func (c *memoryConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memoryConn) SetWriteDeadline(time.Time) error { return nil }
