package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/internal/fdpass"
	"devlxd/peer"
	"devlxd/registry"
)

// shape writes out a type down to its basic parts.
func shape(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct:
		var fields []string
		for i := range t.NumField() {
			fields = append(fields, t.Field(i).Name+" "+shape(t.Field(i).Type))
		}
		return "{" + strings.Join(fields, ", ") + "}"
	case reflect.Slice, reflect.Pointer:
		return t.Kind().String() + " " + shape(t.Elem())
	}
	return t.Kind().String()
}

// TestHandoverVersion: the records, and the sets that they number, are those of the version. Whoever changes them counts the version
// up, so that a process of before is not misread, and then this list.
func TestHandoverVersion(t *testing.T) {
	var b strings.Builder
	fmt.Fprintf(&b, "version %d\n", HandoverVersion)
	for _, v := range []any{ringRecord{}, bindingRecord{}, connRecord{}, socketRecord{}} {
		fmt.Fprintf(&b, "%T %s\n", v, shape(reflect.TypeOf(v)))
	}
	fmt.Fprintf(&b, "kinds %#x %#x %#x %#x %#x\n", kindRings, kindBindings, kindBlobs, kindConns, kindSocket)
	fmt.Fprintf(&b, "states %d %d %d %d %d\n", stateHead, stateBody, stateWS, stateStream, stateClosing)
	fmt.Fprintf(&b, "timers %d %d %d %d %d %d %d, a tick is %v\n", timerNone, timerHead, timerBody, timerIdle, timerWrite, timerPing, timerClose, tick)
	fmt.Fprintf(&b, "rejects %v\nreasons %v\ntypes %d %d\n", peer.AllRejects(), AllCloseReasons(), registry.EventConfig, registry.EventDevice)
	path := filepath.Join("testdata", "handover.txt")
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the format has changed: count HandoverVersion up and make %s\n%s", path, b.String())
	}
}

// messages are those of a server with a bit of everything, as they come.
func messages(t *testing.T) []fdpass.Message {
	t.Helper()
	r := newRig(t, Options{Loops: 1})
	r.container("c1", map[string]string{"user.long": strings.Repeat("x", longValue), "security.devlxd.images": "true"})
	r.subscribe("c1", "")
	r.set("c1", "user.a", "1")
	body := r.dial("c1")
	body.send("PATCH /1.0 HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
	large := r.dial("c1")
	large.send("GET /1.0/config/user.long HTTP/1.1\r\nHost: a\r\n\r\n")
	r.startDownload("c1", r.image(randomBytes(largeImage, 5), nil))
	r.settle("the body is held", func(c *conn) bool { return c.body != nil })
	eventually(t, "two sockets are full", func() bool { return r.pending() == 2 })
	old, successor := link(t)
	var all []fdpass.Message
	received := make(chan error, 1)
	go func() {
		for {
			m, err := successor.Receive(patience)
			if err != nil {
				received <- err
				return
			}
			all = append(all, m)
			if m.Kind == kindSocket {
				received <- nil
				return
			}
		}
	}()
	h, err := r.send(old)
	if err := errors.Join(err, <-received); err != nil {
		t.Fatal(err)
	}
	h.Resume()
	_ = r.shutdown(10 * time.Millisecond) // so that it closes no descriptor while others are counted
	t.Cleanup(func() {
		for i := range all {
			all[i].Close()
		}
	})
	return all
}

// duplicate is a message with descriptors of its own.
func duplicate(t *testing.T, m fdpass.Message) fdpass.Message {
	t.Helper()
	fds := m.FDs
	m.FDs = nil
	for _, fd := range fds {
		copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		m.FDs = append(m.FDs, copied)
	}
	return m
}

// TestHandoverTruncated: a message that lacks any part of its end is refused, and leaves no descriptor open.
func TestHandoverTruncated(t *testing.T) {
	all := messages(t)
	r := newIdleRig(t, Options{Loops: 1})
	r.container("c1", nil)
	for i := range all {
		step := max(1, len(all[i].Body)/100)
		for end := 0; end < len(all[i].Body); end += step {
			taken := &Takeover{srv: r.srv, listener: -1, bindings: make([]*registry.Binding, 1)}
			before := openFiles(t)
			m := duplicate(t, all[i])
			m.Body = m.Body[:end]
			if err := taken.take(&m); !errors.Is(err, ErrHandoverState) {
				t.Fatalf("message %#x cut to %d of %d bytes = %v", m.Kind, end, len(all[i].Body), err)
			}
			m.Close()
			taken.Close()
			if after := openFiles(t); after > before {
				t.Fatalf("message %#x cut to %d bytes: %d descriptors stay open", m.Kind, end, after-before)
			}
		}
	}
}

// TestHandoverInconsistent: records that contradict themselves, or refer to what was not sent, are refused and leave nothing open.
func TestHandoverInconsistent(t *testing.T) {
	r := newIdleRig(t, Options{Loops: 1})
	b := r.container("c1", nil)
	conn := func(change func(*connRecord)) any {
		c := connRecord{Binding: 0, State: uint8(stateHead)}
		change(&c)
		return []connRecord{c}
	}
	part := segmentRecord{Blob: 0, File: -1, Length: 4}
	for name, tt := range map[string]struct {
		kind uint16
		v    any
		fds  int
	}{
		"a kind that is not known":   {kindSocket + 1, 1, 0},
		"another type":               {kindConns, "text", 0},
		"no listening socket":        {kindSocket, socketRecord{}, 0},
		"no socket":                  {kindConns, conn(func(*connRecord) {}), 0},
		"a descriptor too many":      {kindConns, conn(func(*connRecord) {}), 2},
		"a state":                    {kindConns, conn(func(c *connRecord) { c.State = uint8(stateClosed) }), 1},
		"a reject":                   {kindConns, conn(func(c *connRecord) { c.Reject = 200 }), 1},
		"a reason":                   {kindConns, conn(func(c *connRecord) { c.Closing = uint8(numCloseReasons) }), 1},
		"a timer":                    {kindConns, conn(func(c *connRecord) { c.Timer = uint8(timerClose) + 1 }), 1},
		"a binding":                  {kindConns, conn(func(c *connRecord) { c.Binding = 1 }), 1},
		"held bytes":                 {kindConns, conn(func(c *connRecord) { c.In = make([]byte, readBuffer+1) }), 1},
		"no body":                    {kindConns, conn(func(c *connRecord) { c.State = uint8(stateBody) }), 1},
		"a body":                     {kindConns, conn(func(c *connRecord) { c.State, c.Body = uint8(stateBody), &bodyRecord{Decoder: []byte{9}} }), 1},
		"no subscription":            {kindConns, conn(func(c *connRecord) { c.State = uint8(stateWS) }), 1},
		"a decoder":                  {kindConns, conn(func(c *connRecord) { c.State, c.Sub = uint8(stateWS), &subscriberRecord{} }), 1},
		"a blob that was not sent":   {kindConns, conn(func(c *connRecord) { p := part; p.Blob = 1; c.Out = &pendingRecord{Tail: p} }), 1},
		"more of a blob than all":    {kindConns, conn(func(c *connRecord) { p := part; p.Length = 5; c.Out = &pendingRecord{Segments: []segmentRecord{p}} }), 1},
		"a file that was not sent":   {kindConns, conn(func(c *connRecord) { c.Out = &pendingRecord{Segments: []segmentRecord{{Blob: -1, File: 0, Length: 1}}} }), 1},
		"a file that has no socket":  {kindConns, conn(func(c *connRecord) { c.Out = &pendingRecord{Files: 1} }), 1},
		"less than no file":          {kindConns, conn(func(c *connRecord) { c.Out = &pendingRecord{Files: -1} }), 1},
		"a ring with a gap":          {kindRings, []ringRecord{{identityOf(b), registry.RingState{Epoch: 1, Head: 9}}}, 0},
		"a ring that was not sent":   {kindBindings, []bindingRecord{{Identity: identityOf(b), Epoch: 9}}, 0},
		"a second conn without a fd": {kindConns, []connRecord{{Binding: -1}, {Binding: -1}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			before := openFiles(t)
			taken := &Takeover{srv: r.srv, listener: -1, bindings: []*registry.Binding{b}, blobs: [][]byte{[]byte("four")}}
			m, err := encodeRecord(tt.kind, tt.v)
			if err != nil {
				t.Fatal(err)
			}
			for range tt.fds {
				fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					t.Fatal(err)
				}
				m.FDs = append(m.FDs, fd)
			}
			if err := taken.take(&m); !errors.Is(err, ErrHandoverState) {
				t.Errorf("take = %v", err)
			}
			m.Close()
			taken.Close()
			if after := openFiles(t); after > before {
				t.Errorf("%d descriptors stay open", after-before)
			}
		})
	}
}

// TestHandoverSharesAnswers: an answer that many connections have pending is sent once, and kept once.
func TestHandoverSharesAnswers(t *testing.T) {
	r := newRig(t, Options{Loops: 1})
	r.container("c1", map[string]string{"user.long": strings.Repeat("x", longValue)})
	const readers = 20
	for range readers {
		r.dial("c1").send("GET /1.0/config/user.long HTTP/1.1\r\nHost: a\r\n\r\n")
	}
	eventually(t, "all sockets are full", func() bool { return r.pending() == readers })
	old, _ := link(t)
	h := r.srv.NewHandover(old)
	if err := h.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	g := r.srv.gather()
	h.Resume()
	size := 0
	for _, b := range g.blobs {
		size += len(b)
	}
	if len(g.conns) != readers || size > 2*longValue {
		t.Errorf("%d bytes for %d connections", size, len(g.conns))
	}
}
