package server

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// slack is how long after its time a deadline may come: two ticks.
const slack = 2 * tick

// TestDeadlines: each wait has its time; the connection lives until then, and not longer.
func TestDeadlines(t *testing.T) {
	const patchHead = "PATCH /1.0 HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n"
	big := strings.Repeat("b", 8<<20)
	for _, tc := range []struct {
		name   string
		send   string
		timer  timerKind // that runs then
		wait   time.Duration
		reason CloseReason
	}{
		{"silent since it connected", "", timerHead, 3 * time.Second, CloseHeaderTimeout},
		{"half a request line", "GET /1.", timerHead, 3 * time.Second, CloseHeaderTimeout},
		{"half a head", "GET /1.0 HTTP/1.1\r\nHost: a\r\n", timerHead, 3 * time.Second, CloseHeaderTimeout},
		{"half a head behind a request", "GET /1.0 HTTP/1.1\r\nHost: a\r\n\r\nGET", timerHead, 3 * time.Second, CloseHeaderTimeout},
		{"half a websocket handshake", half(upgradeRequest("/1.0/events")), timerHead, 3 * time.Second, CloseHeaderTimeout},
		{"half a websocket handshake behind a request", "GET /1.0 HTTP/1.1\r\nHost: a\r\n\r\n" + half(upgradeRequest("/1.0/events")), timerHead, 3 * time.Second, CloseHeaderTimeout},
		{"no body", patchHead, timerBody, 10 * time.Second, CloseBodyTimeout},
		{"half a body", patchHead + "{", timerBody, 10 * time.Second, CloseBodyTimeout},
		{"half a body that nobody wants", "GET /1.0 HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n{", timerBody, 10 * time.Second, CloseBodyTimeout},
		{"half a chunk", "PATCH /1.0 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", timerBody, 10 * time.Second, CloseBodyTimeout},
		{"idle", "GET /1.0 HTTP/1.1\r\nHost: a\r\n\r\n", timerIdle, 30 * time.Second, CloseIdleTimeout},
		{"idle after an error", "GET /x HTTP/1.1\r\nHost: a\r\n\r\n", timerIdle, 30 * time.Second, CloseIdleTimeout},
		{"takes nothing", getKey("user.big"), timerWrite, 30 * time.Second, CloseWriteTimeout},
		{"takes nothing, and more is sent", getKey("user.big") + "GET", timerWrite, 30 * time.Second, CloseWriteTimeout},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := withClock(t, Options{Loops: 1})
			r.container("c1", map[string]string{"user.big": big})
			c := r.dial("c1")
			c.send(tc.send)
			r.settle("the deadline runs", func(c *conn) bool {
				return c.timer == tc.timer && c.inWheel && (tc.timer != timerHead || tc.send == "" || len(c.in) > 0)
			})
			r.step(tc.wait)
			if r.srv.Connections() != 1 {
				t.Fatalf("closed before its time: %v", r.closeCounts())
			}
			r.step(slack)
			r.wantClosed(tc.reason, 1)
			_, _ = io.Copy(io.Discard, c.r) // ends
		})
	}
}

func half(s string) string { return s[:len(s)/2] }

// closeCounts lists the reasons for which connections were closed.
func (r *rig) closeCounts() map[string]uint64 {
	counts := make(map[string]uint64)
	for _, reason := range AllCloseReasons() {
		if n := r.closed(reason); n > 0 {
			counts[reason.String()] = n
		}
	}
	return counts
}

// TestDrip: a byte now and then gains no time for a head or a body.
func TestDrip(t *testing.T) {
	for name, tc := range map[string]struct {
		first, rest string
		wait        time.Duration
		reason      CloseReason
	}{
		"head":      {"", "GET /1.0 HTTP/1.1\r\nHost: a\r\nAccept: b\r\n", 3 * time.Second, CloseHeaderTimeout},
		"handshake": {"", upgradeRequest("/1.0/events"), 3 * time.Second, CloseHeaderTimeout},
		"body":      {"PATCH /1.0 HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n", `{"state": "Ready"                      }`, 10 * time.Second, CloseBodyTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			r := withClock(t, Options{Loops: 1})
			r.container("c1", nil)
			c := r.dial("c1")
			c.send(tc.first + tc.rest[:1])
			seen := 0
			held := func(want int) {
				r.settle("the byte is there", func(c *conn) bool {
					seen = len(c.in)
					if c.body != nil {
						seen = len(c.body.data)
					}
					return seen == want
				})
			}
			held(1)
			const drops = 20
			for i := range drops {
				r.step(tc.wait / drops)
				if i+1 < drops {
					c.send(tc.rest[i+1 : i+2])
					held(i + 2)
				}
			}
			r.step(slack)
			r.wantClosed(tc.reason, 1)
			c.wantEOF()
		})
	}
}

// TestBusyStaysOpen: who does something in time is not closed, however long that goes on.
func TestBusyStaysOpen(t *testing.T) {
	t.Run("requests", func(t *testing.T) {
		r := withClock(t, Options{Loops: 1})
		r.container("c1", map[string]string{"user.a": "1"})
		c := r.dial("c1")
		for range 20 {
			c.get("/1.0/config/user.a")
			r.settle("it rests", func(c *conn) bool { return c.timer == timerIdle })
			r.step(29 * time.Second)
		}
		c.get("/1.0/config/user.a")
	})
	t.Run("a slow reader", func(t *testing.T) {
		r := withClock(t, Options{Loops: 1})
		big := strings.Repeat("b", 4<<20)
		r.container("c1", map[string]string{"user.big": big})
		c := r.dial("c1")
		c.send(getKey("user.big"))
		r.settle("the socket is full", func(c *conn) bool { return c.timer == timerWrite })
		left := func() (n int) {
			r.settle("it is still sent", func(c *conn) bool {
				n = 0
				if c.out != nil {
					n = c.out.size()
				}
				return true
			})
			return n
		}
		total := 0
		for n := left(); n > 1<<20; {
			r.step(29 * time.Second)
			m, err := io.ReadFull(c.r, make([]byte, 512<<10))
			if err != nil {
				t.Fatalf("after %d bytes: %v", total, err)
			}
			total += m
			before := n
			eventually(t, "more is sent", func() bool { n = left(); return n < before })
		}
		rest, err := io.ReadAll(io.LimitReader(c.r, int64(len(big))-int64(total)))
		if err != nil || len(rest) == 0 {
			t.Fatalf("%d bytes at the end, %v", len(rest), err)
		}
	})
}

// TestCloseFrameUnanswered: a websocket client that does not answer our close frame is closed for the reason of the frame.
func TestCloseFrameUnanswered(t *testing.T) {
	r := withClock(t, Options{Loops: 1})
	r.container("c1", nil)
	c := r.dial("c1")
	c.send(upgradeRequest("/1.0/events"))
	if a := c.answer("GET"); a.status != 101 {
		t.Fatalf("status = %d", a.status)
	}
	r.set("c1", "security.devlxd", "false")
	r.settle("the close frame is sent", func(c *conn) bool { return c.timer == timerClose })
	r.step(2 * time.Second)
	if r.srv.Connections() != 1 {
		t.Fatalf("closed before its time: %v", r.closeCounts())
	}
	r.step(slack)
	r.wantClosed(CloseRevoked, 1)
}

// TestStuckSubscriber: a websocket that takes nothing is told that it lost events when its cursor falls out of the ring, and
// closed for that if it does not even take the close frame. Others of its container get everything.
func TestStuckSubscriber(t *testing.T) {
	r := withClock(t, Options{Loops: 1, RingEvents: 8})
	r.container("c1", nil)
	stuck, _ := r.subscribe("c1", "")
	reader, _ := r.subscribe("c1", "")
	value := strings.Repeat("x", 50<<10)
	for n := 0; r.totalLost() == 0; n++ {
		if n > 1000 {
			t.Fatal("it never falls out of the ring")
		}
		r.set("c1", "user.a", fmt.Sprint(n)+value)
		if got := reader.event(); !strings.Contains(got, fmt.Sprintf(`"value":"%dxx`, n)) {
			t.Fatalf("the other one got %.120q; want event %d", got, n)
		}
	}
	r.settle("the close frame waits for the socket", func(c *conn) bool { return c.state == stateClosing && c.timer == timerWrite })
	if n := r.srv.Subscribers(); n != 1 {
		t.Errorf("%d subscribers; want the other one", n)
	}
	r.step(29 * time.Second) // WriteTimeout, since it takes nothing
	if n := r.srv.Connections(); n != 2 {
		t.Fatalf("closed before its time: %v", r.closeCounts())
	}
	r.step(time.Second + slack)
	r.wantClosed(CloseOverrun, 1)
	_, _ = io.Copy(io.Discard, stuck.r) // ends
}

// TestClockJumps: time that goes back costs nobody a connection, and the deadlines go on afterwards.
func TestClockJumps(t *testing.T) {
	r := withClock(t, Options{Loops: 1})
	r.container("c1", nil)
	c := r.dial("c1")
	c.send("GET /1.")
	r.settle("a head has begun", func(c *conn) bool { return len(c.in) > 0 })
	r.step(time.Second)
	r.step(-time.Hour)
	c.send("0 HTTP/1.1\r\nHost: a\r\n\r\n")
	if a := c.answer("GET"); a.status != 200 {
		t.Fatalf("status = %d", a.status)
	}
	r.step(time.Hour)
	r.step(29 * time.Second)
	c.wantOpen()
	r.settle("it rests", func(c *conn) bool { return c.timer == timerIdle })
	r.step(30*time.Second + slack)
	r.wantClosed(CloseIdleTimeout, 1)
}
