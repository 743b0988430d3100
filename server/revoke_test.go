package server

import (
	"fmt"
	"strings"
	"testing"
)

// held keeps loop 0 from doing anything between the call and that of the function it returns, which runs last on the loop.
func (r *rig) held() (release func(last func(l *loop))) {
	r.t.Helper()
	entered, gate := make(chan struct{}), make(chan func(*loop))
	ran := make(chan struct{})
	l := r.srv.loops[0]
	go func() {
		defer close(ran)
		l.call(func() {
			close(entered)
			if last := <-gate; last != nil {
				last(l)
			}
		})
	}()
	<-entered
	return func(last func(*loop)) {
		gate <- last
		<-ran
	}
}

// wantNotAuthorized reads up to the close frame, which must say that access was closed; events before it must be legal.
func (c *client) wantNotAuthorized(legal func(event string) bool) {
	c.t.Helper()
	for {
		switch opcode, payload := c.frame(); {
		case opcode == 8:
			if string(payload) != "\x03\xf0not authorized" {
				c.t.Errorf("the websocket was closed with %q", payload)
			}
			return
		case opcode == 1 && !legal(string(payload)):
			c.t.Errorf("it was told %s", payload)
		}
	}
}

// TestRevokeTellsNothing: a stream that was open when access was closed ends, also if access is back before its loop comes to it, and neither it
// nor one that resumes from before is told what was set meanwhile.
func TestRevokeTellsNothing(t *testing.T) {
	for _, back := range []bool{false, true} {
		t.Run(fmt.Sprintf("access back at once %v", back), func(t *testing.T) {
			r := newRig(t, Options{Loops: 1})
			r.container("c1", map[string]string{"user.a": "1"})
			socket, head := r.subscribe("c1", "?position=true")
			stream := r.dial("c1")
			stream.send("GET /1.0/events HTTP/1.1\r\nHost: a\r\n\r\n")
			stream.answer("GET")
			release := r.held()
			r.set("c1", "security.devlxd", "false", "user.secret", "x")
			r.set("c1", "user.secret", "y")
			if back {
				r.set("c1", "security.devlxd", "true", "user.secret", "gone")
			}
			release(nil)
			socket.wantNotAuthorized(func(event string) bool { return false })
			stream.wantEOF()
			r.wantClosed(CloseRevoked, 1)
			socket.send(maskedClose)
			socket.wantEOF()
			r.wantClosed(CloseRevoked, 2)
			if !back {
				r.set("c1", "security.devlxd", "true", "user.secret", "gone")
			}
			since := "/1.0/events?since=" + head.fields.Get(positionField)
			if a := r.dial("c1").get(since); a.status != 410 {
				t.Errorf("resumed from before: %q; want 410", a.raw())
			}
			again, _ := r.subscribe("c1", "")
			r.set("c1", "user.a", "2")
			if e := again.event(); !strings.Contains(e, `"key":"user.a"`) || strings.Contains(e, "secret") {
				t.Errorf("the first event when access is back: %s", e)
			}
		})
	}
}

// TestSubscribeBeforeRevocationIsSeen: who subscribes when access is back stays, although its loop has yet to end the streams of before.
func TestSubscribeBeforeRevocationIsSeen(t *testing.T) {
	r := newRig(t, Options{Loops: 1})
	r.container("c1", map[string]string{"user.a": "1"})
	old, _ := r.subscribe("c1", "")
	next := r.dial("c1")
	next.get("/1.0")
	release := r.held()
	next.send(upgradeRequest("/1.0/events"))
	release(func(l *loop) {
		r.set("c1", "security.devlxd", "false", "user.a", "secret")
		r.set("c1", "security.devlxd", "true")
		for _, c := range l.conns { // before the task that these changes have posted
			if c != nil && c.state == stateHead {
				l.onReadable(c)
			}
		}
	})
	if code, _ := old.closeFrame(); code != 1008 {
		t.Errorf("the old websocket was closed with %d", code)
	}
	if a := next.answer("GET"); a.status != 101 {
		t.Fatalf("answer %q", a.raw())
	}
	r.set("c1", "user.a", "2")
	if e := next.event(); !strings.Contains(e, `"value":"2"`) {
		t.Errorf("event %s; want the change of user.a", e)
	}
	old.send(maskedClose)
	old.wantEOF()
	r.wantClosed(CloseRevoked, 1)
	r.set("c1", "user.a", "3")
	if e := next.event(); !strings.Contains(e, `"value":"3"`) {
		t.Errorf("event %s; want the change of user.a", e)
	}
}

// TestRevokeOfSlowReader: who does not read is not told what it has missed when it reads again, only that access was closed, behind the frame
// that was under way.
func TestRevokeOfSlowReader(t *testing.T) {
	r := newRig(t, Options{Loops: 1})
	r.container("c1", nil)
	c, _ := r.subscribe("c1", "")
	for n := 0; r.pending() == 0; n++ {
		r.set("c1", "user.big", fmt.Sprint(n)+strings.Repeat("x", 1<<16))
		r.srv.loops[0].call(func() {})
	}
	r.set("c1", "user.last", "unread")
	release := r.held()
	r.set("c1", "security.devlxd", "false")
	r.set("c1", "security.devlxd", "true", "user.last", "later")
	release(nil)
	r.srv.loops[0].call(func() {
		if n := r.srv.loops[0].stats.subscribers.Load(); n != 0 {
			t.Errorf("%d streams are still open; want none, whether they read or not", n)
		}
	})
	c.wantNotAuthorized(func(event string) bool { return strings.Contains(event, "user.big") })
}
