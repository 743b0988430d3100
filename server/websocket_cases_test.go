package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devlxd/ws"
	"devlxd/ws/wstest"
)

// TestWebsocketCases runs the websocket cases, which have Autobahn's numbers, against /1.0/events of a live server: whole, as the case
// has them written and byte by byte. The endpoint only sends, so most of them end with 1003; testdata/websocket.txt has the answers.
func TestWebsocketCases(t *testing.T) {
	const table = "testdata/websocket.txt"
	text, err := os.ReadFile(filepath.FromSlash(table))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if id, rest, ok := strings.Cut(strings.TrimSpace(line), " "); ok && id != "#" {
			want[id] = strings.TrimSpace(rest)
		}
	}
	cases, err := wstest.Cases()
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, Options{Loops: 1})
	r.container("c1", nil)
	for i := range cases {
		c := &cases[i]
		t.Run(c.ID, func(t *testing.T) {
			mask := func() [4]byte { return [4]byte{0x5e, 0x00, 0xc7, 0x81} }
			all := bytes.Join(c.Encode(mask), nil)
			for name, writes := range map[string][][]byte{"whole": {all}, "as written": c.Writes(mask), "byte by byte": bytewise(all)} {
				if got := r.converse(t, c, writes) + " " + c.Title; got != want[c.ID] {
					t.Errorf("%s: got\n%s %s\n%s has\n%s %s", name, c.ID, got, table, c.ID, want[c.ID])
				}
			}
			delete(want, c.ID)
		})
	}
	for id := range want {
		t.Errorf("%s has %s, which is no case", table, id)
	}
}

// converse plays a case up to the end of the connection, and returns the number of pongs and the close code. A pong must have the
// payload of its ping.
func (r *rig) converse(t *testing.T, c *wstest.Case, writes [][]byte) string {
	t.Helper()
	conn, _ := r.subscribe("c1", "")
	for _, w := range writes {
		if _, err := conn.Write(w); err != nil {
			break // the server has closed
		}
		r.srv.loops[0].call(func() {}) // so that the pieces are read one by one
	}
	var pings []wstest.Event
	for _, e := range c.Events(wstest.Answer) {
		if e.Op == ws.OpPong {
			pings = append(pings, e)
		}
	}
	for pongs := 0; ; {
		switch opcode, payload := conn.frame(); ws.OpCode(opcode) {
		case ws.OpPing: // of the server's own
		case ws.OpPong:
			if pongs >= len(pings) || !bytes.Equal(payload, pings[pongs].Data) {
				t.Fatalf("pong %d is %q; want the pongs %v", pongs, payload, pings)
			}
			pongs++
		case ws.OpClose:
			code, _, err := ws.ParseClose(payload)
			if err != nil {
				t.Fatalf("close frame %x: %v", payload, err)
			}
			_, _ = io.WriteString(conn, maskedClose)
			if rest, err := io.ReadAll(conn.r); len(rest) > 0 || err != nil && !errors.Is(err, unix.ECONNRESET) {
				t.Fatalf("behind the close frame: %q, %v", rest, err)
			}
			return fmt.Sprintf("%d %d", pongs, code)
		default:
			t.Fatalf("frame %d %q; want pongs and a close", opcode, payload)
		}
	}
}
