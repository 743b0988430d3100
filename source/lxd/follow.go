package lxd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"devlxd/internal/lxdapi"
)

// maxEvent bounds an announcement in bytes: the command of an exec is part of one.
const maxEvent = 16 << 20

// feed is the connection on which a daemon announces changes. One goroutine reads it.
type feed struct {
	conn    net.Conn
	reader  *wsutil.Reader
	silence time.Duration // after so much of it the daemon is taken for dead
	begun   chan struct{} // closed when the daemon has answered a ping; owned by the reader

	mu sync.Mutex // serialises writing
}

// follow opens a feed. What changes after begun is closed is announced on it: the daemon answers the handshake before it
// begins to announce (lxd/events.go: eventsSocket), and reads, and so answers a ping, after it (lxd/events/events.go: AddListener).
func follow(ctx context.Context, socket string, silence time.Duration) (*feed, error) {
	d := ws.Dialer{
		Timeout: silence,
		NetDial: lxdapi.Dialer(socket),
		Header:  ws.HandshakeHeaderHTTP(http.Header{"User-Agent": {"devlxd"}}),
	}
	conn, buffered, _, err := d.Dial(ctx, "ws://lxd/1.0/events?type=lifecycle&all-projects=true")
	if err != nil {
		var status ws.StatusError
		if errors.As(err, &status) {
			err = fmt.Errorf("daemon answered %d for its events", int(status))
		}
		return nil, err
	}
	f := &feed{conn: conn, silence: silence, begun: make(chan struct{})}
	var from io.Reader = conn
	if buffered != nil {
		from = io.MultiReader(io.LimitReader(buffered, int64(buffered.Buffered())), conn)
	}
	f.reader = &wsutil.Reader{
		Source: bufio.NewReader(from), State: ws.StateClientSide, CheckUTF8: false, MaxFrameSize: maxEvent, MaxMessageSize: maxEvent,
		OnIntermediate: f.control,
	}
	if err := f.write(ws.OpPing, nil); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (f *feed) close() { _ = f.conn.Close() }

// ping keeps asking whether the daemon lives until ctx is done.
func (f *feed) ping(ctx context.Context) {
	t := time.NewTicker(f.silence / 4)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			_ = f.write(ws.OpPing, nil) // the reader finds out
		}
	}
}

func (f *feed) write(op ws.OpCode, payload []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.conn.SetWriteDeadline(time.Now().Add(f.silence)); err != nil {
		return err
	}
	return wsutil.WriteClientMessage(f.conn, op, payload)
}

// control answers a control frame.
func (f *feed) control(h ws.Header, r io.Reader) error {
	payload, err := io.ReadAll(r)
	switch {
	case err != nil:
		return err
	case h.OpCode == ws.OpPing:
		return f.write(ws.OpPong, payload)
	case h.OpCode == ws.OpClose:
		return ErrEnded
	case h.OpCode == ws.OpPong:
		select {
		case <-f.begun:
		default:
			close(f.begun)
		}
	}
	return nil
}

// run calls each for every announcement until the feed ends, and returns why. It never returns nil.
func (f *feed) run(each func(*event)) error {
	for {
		err := f.one(each)
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return ErrEnded
		default:
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				return ErrSilent
			}
			return err
		}
	}
}

func (f *feed) one(each func(*event)) error {
	if err := f.conn.SetReadDeadline(time.Now().Add(f.silence)); err != nil {
		return err
	}
	h, err := f.reader.NextFrame()
	switch {
	case err != nil:
		return err
	case h.OpCode.IsControl():
		return f.control(h, f.reader)
	}
	b, err := io.ReadAll(f.reader)
	if err != nil {
		return err
	}
	var e event
	if err := json.Unmarshal(b, &e); err != nil {
		return fmt.Errorf("%w (event: %w)", lxdapi.ErrAnswer, err)
	}
	if e.Type == "lifecycle" {
		each(&e)
	}
	return nil
}
