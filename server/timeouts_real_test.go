package server

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

// fast is the deadlines of a server a tenth as long as they are, so that a test of the running clock takes seconds.
func fast() Options {
	return Options{
		Loops: 2, RingEvents: 8,
		HeaderTimeout: 300 * time.Millisecond, BodyTimeout: time.Second, IdleTimeout: 3 * time.Second,
		WriteTimeout: 3 * time.Second, PingInterval: time.Second, CloseTimeout: 200 * time.Millisecond,
	}
}

// drip sends a text byte by byte, as slowly as it takes to be late with every
// deadline, until the server has closed the connection.
func (c *client) drip(text string) {
	for i := 0; ; i++ {
		if _, err := io.WriteString(c, text[i%len(text):i%len(text)+1]); err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestRealDeadlines: each deadline by the clock of the host: never before its time, and for its own reason. How long after is up to the machine.
func TestRealDeadlines(t *testing.T) {
	o := fast()
	const patch = "PATCH /1.0 HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n"
	for name, tc := range map[string]struct {
		act    func(r *rig, c *client)
		wait   time.Duration
		reason CloseReason
	}{
		"silent":           {func(*rig, *client) {}, o.HeaderTimeout, CloseHeaderTimeout},
		"half a head":      {func(r *rig, c *client) { c.send("GET /1.0 HT") }, o.HeaderTimeout, CloseHeaderTimeout},
		"dripping head":    {func(r *rig, c *client) { c.drip("GET /" + strings.Repeat("x", 4000)) }, o.HeaderTimeout, CloseHeaderTimeout},
		"half a handshake": {func(r *rig, c *client) { c.send(half(upgradeRequest("/1.0/events"))) }, o.HeaderTimeout, CloseHeaderTimeout},
		"no body":          {func(r *rig, c *client) { c.send(patch) }, o.BodyTimeout, CloseBodyTimeout},
		"dripping body":    {func(r *rig, c *client) { c.send(patch); c.drip(strings.Repeat("x", 4000)) }, o.BodyTimeout, CloseBodyTimeout},
		"dripping body that nobody wants": {func(r *rig, c *client) {
			c.send("GET" + patch[5:])
			c.answer("GET")
			c.drip("x")
		}, o.BodyTimeout, CloseBodyTimeout},
		"idle": {func(r *rig, c *client) { c.get("/1.0") }, o.IdleTimeout, CloseIdleTimeout},
		"takes nothing": {func(r *rig, c *client) {
			c.send(getKey("user.big"))
			r.wantClosed(CloseWriteTimeout, 1)
		}, o.WriteTimeout, CloseWriteTimeout},
		"deaf websocket": {func(r *rig, c *client) {
			c.send(upgradeRequest("/1.0/events"))
			c.answer("GET")
			for range maxMissedPings {
				if opcode, _ := c.frame(); opcode != 9 {
					c.t.Errorf("frame %d; want a ping", opcode)
				}
			}
		}, (maxMissedPings + 1) * o.PingInterval, ClosePingTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, fast())
			r.container("c1", map[string]string{"user.big": strings.Repeat("b", 8<<20)})
			start := time.Now()
			c := r.dial("c1")
			c.t = t
			tc.act(r, c)
			_, _ = io.Copy(io.Discard, c.r) // until it is closed
			if took := time.Since(start); took < tc.wait {
				t.Errorf("closed after %v; want %v at the earliest", took, tc.wait)
			}
			r.wantClosed(tc.reason, 1)
		})
	}
}

// TestRealStuckSubscriber: the cursor of a websocket that is not read falls out of the ring.
func TestRealStuckSubscriber(t *testing.T) {
	o := fast()
	o.WriteTimeout = 500 * time.Millisecond
	o.PingInterval = time.Hour
	r := newRig(t, o)
	r.container("c1", nil)
	stuck, _ := r.subscribe("c1", "")
	value := strings.Repeat("x", 50<<10)
	for end := time.Now().Add(patience); r.totalLost() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never falls out of the ring: %v", r.closeCounts())
		}
		r.set("c1", "user.a", fmt.Sprint(time.Now().UnixNano())+value)
	}
	r.wantClosed(CloseOverrun, 1)
	_, _ = io.Copy(io.Discard, stuck.r) // ends
}

// jumped is a time after someone has set the clock of the host: clock_settime(2) moves the wall clock and not the
// monotonic one, and that is what time.Now returns then. There is no other way to make such a value but to change
// its seconds, which are bits 30 to 62 of the first word (time.Time: "wall").
func jumped(at time.Time, d time.Duration) time.Time {
	*(*uint64)(unsafe.Pointer(&at)) += uint64(int64(d/time.Second)) << 30
	return at
}

// TestWallClockJumps: the wall clock of the host jumps back and forth by days while the server runs. No deadline goes by it: none comes
// early, none stays away, and the date of an answer follows it.
func TestWallClockJumps(t *testing.T) {
	const day = 24 * time.Hour
	if at := time.Now(); jumped(at, day).Sub(at) != 0 || jumped(at, -day).Unix() != at.Add(-day).Unix() {
		t.Fatal("time.Time has another layout: the jump is none")
	}
	o := fast()
	var days atomic.Int64
	o.Now = func() time.Time { return jumped(time.Now(), time.Duration(days.Load())*day) }
	r := newRig(t, o)
	r.container("c1", map[string]string{"user.a": "1"})
	stop := make(chan struct{})
	jumping := make(chan struct{})
	go func() {
		defer close(jumping)
		for n := int64(1); ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				days.Store((1 - 2*(n%2)) * n)
			}
		}
	}()
	start := time.Now()
	late := r.dial("c1")
	late.send("GET /1.")
	busy, _ := r.subscribe("c1", "")
	idle := r.dial("c1")
	idle.get("/1.0")
	late.wantEOF()
	if took := time.Since(start); took < o.HeaderTimeout {
		t.Errorf("a head was late after %v; want %v", took, o.HeaderTimeout)
	}
	for n := range 20 { // two seconds: longer than any deadline of a head or body
		r.set("c1", "user.a", fmt.Sprint("v", n))
		for {
			opcode, payload := busy.frame()
			if opcode == 9 {
				busy.send(masked(true, 10, ""))
				continue
			}
			if !strings.Contains(string(payload), fmt.Sprintf(`"value":"v%d"`, n)) {
				t.Fatalf("frame %d %q; want event %d", opcode, payload, n)
			}
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	idle.wantEOF()
	if took := time.Since(start); took < o.IdleTimeout {
		t.Errorf("idle for %v; want %v", took, o.IdleTimeout)
	}
	close(stop)
	<-jumping
	r.wantClosed(CloseHeaderTimeout, 1)
	r.wantClosed(CloseIdleTimeout, 1)
	days.Store(400)
	eventually(t, "the date of an answer is that of the wall clock", func() bool {
		return strings.Contains(r.dial("c1").get("/1.0").fields.Get("Date"), o.Now().UTC().Format("02 Jan 2006"))
	})
}
