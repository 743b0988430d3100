package server

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"devlxd/internal/fdpass"
)

const longValue = 3 << 20

// TestHandOver: whatever a connection is in the middle of goes on in the successor.
func TestHandOver(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", longValue/16)
	content := randomBytes(largeImage, 5)
	request := "GET /1.0/config/user.a HTTP/1.1\r\nHost: lxd\r\n\r\n"
	const patch = "PATCH /1.0 HTTP/1.1\r\nHost: lxd\r\nContent-Length: 17\r\n\r\n{\"state\":\"Ready\"}"
	const chunked = "GET /1.0/config/user.a HTTP/1.1\r\nHost: lxd\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n"
	wantA := func(t *testing.T, c *client) {
		t.Helper()
		if a := c.answer("GET"); a.body != "1" {
			t.Errorf("answer = %q", a.raw())
		}
	}
	full := func(r *rig) { eventually(t, "the socket is full", func() bool { return r.pending() == 1 }) }
	for name, tt := range map[string]struct {
		before func(t *testing.T, r *rig) *client
		after  func(t *testing.T, r *rig, c *client)
	}{
		"idle": {
			func(t *testing.T, r *rig) *client { c := r.dial("c1"); c.get("/1.0"); return c },
			func(t *testing.T, r *rig, c *client) { c.send(request); wantA(t, c); c.wantOpen() },
		},
		"silent since accept": {
			func(t *testing.T, r *rig) *client { return r.dial("c1") },
			func(t *testing.T, r *rig, c *client) { c.send(request); wantA(t, c) },
		},
		"half a head": {
			func(t *testing.T, r *rig) *client {
				c := r.dial("c1")
				c.send(request[:30])
				r.settle("the bytes are held", func(c *conn) bool { return len(c.in) == 30 })
				return c
			},
			func(t *testing.T, r *rig, c *client) { c.send(request[30:]); wantA(t, c); c.wantOpen() },
		},
		"half a body": {
			func(t *testing.T, r *rig) *client {
				c := r.dial("c1")
				c.send(patch[:len(patch)-5])
				r.settle("the body is held", func(c *conn) bool { return c.body != nil && len(c.body.data) == 12 })
				return c
			},
			func(t *testing.T, r *rig, c *client) {
				c.send(patch[len(patch)-5:])
				if a := c.answer("PATCH"); a.status != 200 {
					t.Errorf("answer = %q", a.raw())
				}
				if container, _ := r.reg.Container("c1"); !container.Binding().Ready() {
					t.Error("the state was not set")
				}
			},
		},
		"half a body that nobody wants": {
			func(t *testing.T, r *rig) *client {
				c := r.dial("c1")
				c.send(chunked[:len(chunked)-12])
				wantA(t, c)
				r.settle("the body is skipped", func(c *conn) bool { return c.body != nil })
				return c
			},
			func(t *testing.T, r *rig, c *client) {
				c.send(chunked[len(chunked)-12:] + request)
				wantA(t, c)
			},
		},
		"a refused peer": {
			func(t *testing.T, r *rig) *client { return r.dial(stranger) },
			func(t *testing.T, r *rig, c *client) {
				c.send(request)
				if a := c.answer("GET"); a.status != 500 || !a.close {
					t.Errorf("answer = %q", a.raw())
				}
			},
		},
		"a user that is not root": {
			func(t *testing.T, r *rig) *client { return r.dial(nonRoot) },
			func(t *testing.T, r *rig, c *client) {
				c.send(request)
				if a := c.answer("GET"); a.status != 401 {
					t.Errorf("answer = %q", a.raw())
				}
			},
		},
		"an answer that is not taken, and requests behind it": {
			func(t *testing.T, r *rig) *client {
				c := r.dial("c1")
				c.send("GET /1.0/config/user.long HTTP/1.1\r\nHost: lxd\r\n\r\n" + request + request)
				full(r)
				return c
			},
			func(t *testing.T, r *rig, c *client) {
				if a := c.answer("GET"); a.body != long {
					t.Errorf("a body of %d bytes", len(a.body))
				}
				wantA(t, c)
				wantA(t, c)
				c.wantOpen()
			},
		},
		"a download": {
			func(t *testing.T, r *rig) *client {
				c, first := r.startDownload("c1", r.image(content, nil))
				full(r)
				_ = first
				return c
			},
			func(t *testing.T, r *rig, c *client) {
				finish(t, c, content[:1000], content)
				c.wantOpen()
				r.wantNoFiles()
			},
		},
		"half a frame": {
			func(t *testing.T, r *rig) *client {
				c, _ := r.subscribe("c1", "")
				c.send(masked(true, 9, "are you there")[:7])
				r.settle("the bytes are held", func(c *conn) bool { return len(c.in) == 7 })
				return c
			},
			func(t *testing.T, r *rig, c *client) {
				c.send(masked(true, 9, "are you there")[7:])
				if opcode, payload := c.frame(); opcode != 10 || string(payload) != "are you there" {
					t.Errorf("frame %d %q; want the pong", opcode, payload)
				}
			},
		},
		"the end of a websocket": {
			func(t *testing.T, r *rig) *client {
				c, _ := r.subscribe("c1", "")
				c.send(masked(false, 1, "half a message"))
				if code, _ := c.closeFrame(); code != 1003 {
					t.Errorf("closed with %d", code)
				}
				return c
			},
			func(t *testing.T, r *rig, c *client) {
				c.send(masked(true, 0, "the other half") + masked(true, 8, "\x03\xeb"))
				c.wantEOF()
				r.wantClosed(CloseData, 1)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{Loops: 2})
			r.container("c1", map[string]string{"user.a": "1", "user.long": long, "security.devlxd.images": "true"})
			c := tt.before(t, r)
			next := r.successor(Options{Loops: 3})
			r.handOver(next)
			if n := next.srv.Connections(); n != 1 {
				t.Errorf("%d connections were taken over", n)
			}
			tt.after(t, next, c)
			// New ones are accepted, by the successor, at the same place.
			if a := next.dial("c1").get("/1.0/config/user.a"); a.body != "1" {
				t.Errorf("a new connection: %q", a.raw())
			}
		})
	}
}

// TestHandOverResumes: when the successor does not take over, nothing has happened, and no deadline came nearer.
func TestHandOverResumes(t *testing.T) {
	r := withClock(t, Options{Loops: 2})
	r.container("c1", map[string]string{"user.a": "1"})
	subscriber, _ := r.subscribe("c1", "")
	idle := r.dial("c1")
	idle.get("/1.0")
	r.settle("it waits", func(c *conn) bool { return c.timer == timerIdle })
	h, taken := r.offer(r.successor(Options{Loops: 1}))
	r.clock.advance(time.Hour)
	idle.send("GET /1.0/config/user.a HTTP/1.1\r\nHost: lxd\r\n\r\n")
	taken.Close()
	h.Resume()
	if a := idle.answer("GET"); a.body != "1" {
		t.Errorf("answer = %q", a.raw())
	}
	r.set("c1", "user.a", "2")
	if event := subscriber.event(); !strings.Contains(event, `"value":"2"`) {
		t.Errorf("event = %s", event)
	}
	if a := r.dial("c1").get("/1.0/config/user.a"); a.body != "2" {
		t.Errorf("a new connection: %q", a.raw())
	}
	if counts := r.closeCounts(); len(counts) != 0 {
		t.Errorf("closed: %v", counts)
	}
	// It can be tried again.
	third := r.successor(Options{Loops: 1})
	r.handOver(third)
	third.set("c1", "user.a", "3")
	if event := subscriber.event(); !strings.Contains(event, `"value":"3"`) {
		t.Errorf("event = %s", event)
	}
}

// TestHandOverOfDeadlines: a deadline that runs goes on where it stood.
func TestHandOverOfDeadlines(t *testing.T) {
	r := withClock(t, Options{Loops: 1})
	r.container("c1", nil)
	c := r.dial("c1")
	c.send("GET /1.0 HT")
	r.settle("the bytes are held", func(c *conn) bool { return len(c.in) > 0 && c.timer == timerHead })
	r.step(2 * time.Second)
	next := r.successor(Options{Loops: 1})
	r.handOver(next)
	next.step(500 * time.Millisecond)
	if n := next.srv.Connections(); n != 1 {
		t.Fatalf("closed before its time: %v", next.closeCounts())
	}
	next.step(time.Second)
	next.wantClosed(CloseHeaderTimeout, 1)
	c.wantEOF()
}

// TestHandOverWithoutContainer: where the container has stopped meanwhile, or runs another life, its connections end as at a stop.
func TestHandOverWithoutContainer(t *testing.T) {
	for name, change := range map[string]func(r *rig){
		"stopped": func(r *rig) {
			c, _ := r.reg.Container("c1")
			r.reg.Stop(c.Binding())
		},
		"another life": func(r *rig) {
			c, _ := r.reg.Container("c1")
			r.reg.Stop(c.Binding())
			if _, err := r.reg.Bind("c1", r.host.Identity()); err != nil {
				r.t.Fatal(err)
			}
		},
		"removed": func(r *rig) {
			if err := r.reg.Remove("c1"); err != nil {
				r.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{Loops: 2})
			r.container("c1", nil)
			r.container("c2", nil)
			socket, _ := r.subscribe("c1", "")
			stream := r.dial("c1")
			stream.send("GET /1.0/events HTTP/1.1\r\nHost: a\r\n\r\n")
			stream.answer("GET")
			idle, other := r.dial("c1"), r.dial("c2")
			idle.get("/1.0")
			other.get("/1.0")
			next := r.successor(Options{Loops: 2})
			change(next)
			r.handOver(next)
			if code, text := socket.closeFrame(); code != 1001 || text != "container stopped" {
				t.Errorf("closed with %d %q", code, text)
			}
			stream.wantEOF()
			idle.wantEOF()
			other.wantOpen()
			socket.send(masked(true, 8, "\x03\xe9"))
			next.wantClosed(CloseStopped, 3)
		})
	}
}

// TestHandOverUnderLoad: requests and connects that go on all the time are all answered.
func TestHandOverUnderLoad(t *testing.T) {
	r := newRig(t, Options{Loops: 2})
	r.container("c1", map[string]string{"user.a": "1"})
	path := r.path
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			var c *client
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if i%2 == 0 || c == nil {
					var err error
					if c, err = (&rig{t: t, path: path}).tryDial("c1"); err != nil {
						t.Errorf("connect: %v", err)
						return
					}
				}
				if _, err := io.WriteString(c, "GET /1.0/config/user.a HTTP/1.1\r\nHost: lxd\r\n\r\n"); err != nil {
					t.Errorf("request: %v", err)
					return
				}
				if a, err := c.read("GET"); err != nil || a.body != "1" {
					t.Errorf("answer %d: %v, %v", n, a, err)
					return
				}
				if i%2 == 0 {
					_ = c.Close()
				}
			}
		})
	}
	for range 5 {
		before := r.srv.Totals().Requests
		eventually(t, "requests are answered", func() bool { return r.srv.Totals().Requests > before+50 })
		next := r.successor(Options{Loops: 2})
		r.handOver(next)
		r = next
	}
	close(stop)
	clients.Wait()
}

// TestHandOverManyDescriptors: more connections than fit into a message.
func TestHandOverManyDescriptors(t *testing.T) {
	r := newRig(t, Options{Loops: 2})
	r.container("c1", nil)
	clients := make([]*client, 2*fdpass.MaxFDs+7)
	for i := range clients {
		clients[i] = r.dial("c1")
	}
	eventually(t, "all are accepted", func() bool { return r.srv.Connections() == int64(len(clients)) })
	r.set("c1", "user.a", "1")
	next := r.successor(Options{Loops: 2})
	r.handOver(next)
	for i, c := range clients {
		if a := c.get("/1.0/config/user.a"); a.body != "1" {
			t.Fatalf("client %d: %q", i, a.raw())
		}
	}
	var open int
	for _, n := range next.srv.LoopConnections() {
		open += n
	}
	if open != len(clients) {
		t.Errorf("the loops count %d connections", open)
	}
}

// TestHandOverRefuses: a server that does not listen, or ends, is not handed over.
func TestHandOverRefuses(t *testing.T) {
	old, _ := link(t)
	r := newIdleRig(t, Options{})
	if err := r.srv.NewHandover(old).Pause(t.Context()); err != ErrClosed {
		t.Errorf("before Start: %v", err)
	}
	r.srv.Start()
	if err := r.srv.NewHandover(old).Pause(t.Context()); err != ErrClosed {
		t.Errorf("before Listen: %v", err)
	}
	if err := r.srv.Listen(r.path); err != nil {
		t.Fatal(err)
	}
	_ = r.shutdown(patience)
	if err := r.srv.NewHandover(old).Pause(t.Context()); err != ErrClosed {
		t.Errorf("after Shutdown: %v", err)
	}
}

// TestPauseOfStuckLoop: a loop that does not come to rest in time leaves the others as they were.
func TestPauseOfStuckLoop(t *testing.T) {
	r := newRig(t, Options{Loops: 2})
	r.container("c1", nil)
	release := make(chan struct{})
	r.srv.loops[1].post(func() { <-release })
	old, _ := link(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.srv.NewHandover(old).Pause(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Pause = %v", err)
	}
	close(release)
	r.dial("c1").wantOpen()
	r.dial("c1").wantOpen()
}
