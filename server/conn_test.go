package server

import (
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"devlxd/httpparse"
)

func getKey(name string) string {
	return "GET /1.0/config/" + name + " HTTP/1.1\r\nHost: lxd\r\n\r\n"
}

// TestConnIsSmall: an idle connection is this struct and nothing else.
func TestConnIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(conn{}); size > 128 {
		t.Errorf("a connection takes %d bytes; want at most 128", size)
	}
}

func TestPipelining(t *testing.T) {
	r := newRig(t, Options{})
	config := make(map[string]string)
	for i := range 100 {
		config[fmt.Sprintf("user.k%d", i)] = fmt.Sprintf("value %d", i)
	}
	r.container("c1", config)
	for _, n := range []int{1, 2, 3, 16, 100} {
		for _, piece := range []int{1, 13, 1 << 20} {
			t.Run(fmt.Sprintf("%d by %d", n, piece), func(t *testing.T) {
				c := r.dial("c1")
				var all strings.Builder
				for i := range n {
					all.WriteString(getKey(fmt.Sprintf("user.k%d", i)))
				}
				for s := all.String(); s != ""; {
					cut := min(piece, len(s))
					c.send(s[:cut])
					s = s[cut:]
				}
				for i := range n {
					if a := c.answer("GET"); a.body != fmt.Sprintf("value %d", i) {
						t.Fatalf("answer %d = %q", i, a.raw())
					}
				}
				c.wantOpen()
			})
		}
	}
}

func TestKeepAlive(t *testing.T) {
	const text = "text/plain; charset=utf-8"
	cases := []struct {
		name, request string
		head          string // of the answer
		open          bool
	}{
		{"1.1", "GET / HTTP/1.1\r\nHost: lxd\r\n\r\n", "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Type", true},
		{"1.1 close", "GET / HTTP/1.1\r\nHost: lxd\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\nDate: D\r\nConnection: close\r\nContent-Type", false},
		{"1.1 Close, x", "GET / HTTP/1.1\r\nHost: lxd\r\nConnection: x, Close\r\n\r\n", "HTTP/1.1 200 OK\r\nDate: D\r\nConnection: close\r\nContent-Type", false},
		{"1.0", "GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\nDate: D\r\nConnection: close\r\nContent-Type", false},
		{"1.0 keep-alive", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "HTTP/1.1 200 OK\r\nDate: D\r\nConnection: keep-alive\r\nContent-Type", true},
		{"1.0 error", "GET /x HTTP/1.0\r\n\r\n", "HTTP/1.1 404 Not Found\r\nDate: D\r\nConnection: close\r\nContent-Type: " + text, false},
		{"absolute-form", "GET http://lxd/ HTTP/1.1\r\nHost: lxd\r\n\r\n", "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Type", true},
		{"absolute-form without path", "GET http://lxd HTTP/1.1\r\nHost: other\r\n\r\n", "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Type", true},
		{"leading empty line", "\r\nGET / HTTP/1.1\r\nHost: lxd\r\n\r\n", "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Type", true},
		{"empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Type", true},
	}
	r := newRig(t, Options{})
	r.container("c1", nil)
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := r.dial("c1")
			c.send(tc.request)
			a := c.answer("GET")
			if !strings.HasPrefix(a.head, tc.head) {
				t.Errorf("head = %q;\nwant %q...", a.head, tc.head)
			}
			if tc.open {
				c.wantOpen()
			} else {
				c.wantEOF()
			}
		})
	}
}

// TestParserErrors: one request for each status that the parser gives; the
// answer says what was wrong, and the connection ends.
func TestParserErrors(t *testing.T) {
	long := strings.Repeat("a", httpparse.MaxTarget)
	cases := map[string]struct {
		request string
		err     *httpparse.Error
	}{
		"no version":          {"GET /\r\n\r\n", httpparse.ErrRequestLine},
		"two lengths":         {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", httpparse.ErrTwoLengths},
		"space before colon":  {"GET / HTTP/1.1\r\nHost : a\r\n\r\n", httpparse.ErrSpaceColon},
		"two hosts":           {"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", httpparse.ErrHostTwice},
		"no host":             {"GET / HTTP/1.1\r\n\r\n", httpparse.ErrHostMissing},
		"bare LF":             {"GET / HTTP/1.1\nHost: a\n\n", httpparse.ErrBareLF},
		"fold":                {"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", httpparse.ErrFold},
		"percent":             {"GET /1.0/config/user.%zz HTTP/1.1\r\nHost: a\r\n\r\n", httpparse.ErrPercent},
		"half percent":        {"GET /1.0/% HTTP/1.1\r\nHost: a\r\n\r\n", httpparse.ErrPercent},
		"too long a target":   {"GET /" + long + " HTTP/1.1\r\nHost: a\r\n\r\n", httpparse.ErrTargetTooLong},
		"too large a head":    {"GET / HTTP/1.1\r\nHost: a\r\nA: " + long + "\r\nB: " + long + "\r\n\r\n", httpparse.ErrHeadTooLarge},
		"too many fields":     {"GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("A: b\r\n", 64) + "\r\n", httpparse.ErrTooManyFields},
		"too large a body":    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999999\r\n\r\n", httpparse.ErrBodyTooLarge},
		"CONNECT":             {"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", httpparse.ErrConnect},
		"transfer coding":     {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", httpparse.ErrTransferCoding},
		"HTTP/2":              {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", httpparse.ErrVersion},
		"other expectation":   {"PATCH /1.0 HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 1\r\n\r\n", httpparse.ErrExpect},
		"body of a PATCH":     {"PATCH /1.0 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", httpparse.ErrChunkSize},
		"TLS":                 {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", httpparse.ErrMethod},
		"authority-form":      {"GET lxd HTTP/1.1\r\nHost: a\r\n\r\n", httpparse.ErrTarget},
		"trailing CR":         {"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", httpparse.ErrBareCR},
		"field without colon": {"GET / HTTP/1.1\r\nHost\r\n\r\n", httpparse.ErrNoColon},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{})
			r.container("c1", nil)
			c := r.dial("c1")
			c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n" + tc.request + "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			if a := c.answer("GET"); a.status != 200 {
				t.Errorf("request before = %d", a.status)
			}
			status := fmt.Sprintf("%d %s", tc.err.Status, httpparse.StatusText(tc.err.Status))
			if got, want := c.answer("GET").raw(), textAnswer(status, tc.err.Text, "Connection: close"); got != want {
				t.Errorf("answer = %q;\nwant %q", got, want)
			}
			c.wantEOF()
			r.wantClosed(CloseBadRequest, 1)
			if n := r.requests(routeMalformed, tc.err.Status); n != 1 {
				t.Errorf("malformed requests = %d; want 1", n)
			}
		})
	}
}

// TestHalfClose: a client that shuts down its side after the request gets the
// whole answer.
func TestHalfClose(t *testing.T) {
	r := newRig(t, Options{})
	big := strings.Repeat("0123456789abcdef", 1<<16)
	r.container("c1", map[string]string{"user.small": "bar", "user.big": big})
	for name, want := range map[string]string{"user.small": "bar", "user.big": big} {
		for _, n := range []int{1, 5} {
			t.Run(fmt.Sprintf("%d of %s", n, name), func(t *testing.T) {
				before := r.closed(CloseClient)
				c := r.dial("c1")
				c.send(strings.Repeat(getKey(name), n))
				if err := c.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(20 * time.Millisecond) // the socket is full by now
				for range n {
					if a := c.answer("GET"); a.body != want {
						t.Errorf("body has %d bytes; want %d", len(a.body), len(want))
					}
				}
				c.wantEOF()
				r.wantClosed(CloseClient, before+1)
			})
		}
	}
	for name, request := range map[string]string{"head": "GET / HTTP/1.1\r\nHost: a", "body": "PATCH /1.0 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n{"} {
		t.Run("inside of a "+name, func(t *testing.T) {
			before := r.closed(CloseTruncated)
			c := r.dial("c1")
			c.send(request)
			_ = c.CloseWrite()
			c.wantEOF()
			r.wantClosed(CloseTruncated, before+1)
		})
	}
}

// TestStuckReader: a client that asks for far more than it reads costs a bounded
// amount of memory, and gets everything in order once it reads.
func TestStuckReader(t *testing.T) {
	const n = 300
	r := newRig(t, Options{Loops: 1})
	config := map[string]string{}
	for i := range 8 {
		config[fmt.Sprintf("user.k%d", i)] = strings.Repeat(string(rune('a'+i)), 1<<20)
	}
	config["user.small"] = "x"
	r.container("c1", config)
	c := r.dial("c1")
	name := func(i int) string {
		if i%3 == 2 {
			return "user.small"
		}
		return fmt.Sprintf("user.k%d", i%8)
	}
	go func() {
		for i := range n {
			if _, err := io.WriteString(c, getKey(name(i))); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	eventually(t, "the socket is full", func() bool { return r.pending() == 1 })
	time.Sleep(50 * time.Millisecond)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
		t.Errorf("a stuck reader costs %d bytes", grown)
	}
	// Another client is not held up.
	if a := r.dial("c1").get("/1.0/config/user.small"); a.body != "x" {
		t.Errorf("beside the stuck reader: %q", a.raw())
	}
	for i := range n {
		if a := c.answer("GET"); a.body != config[name(i)] {
			t.Fatalf("answer %d has %d bytes of %.1q; want %q", i, len(a.body), a.body, name(i))
		}
	}
	c.wantOpen()
}

// pending is how many connections wait for their sockets.
func (r *rig) pending() (n int) {
	for _, l := range r.srv.loops {
		l.call(func() {
			for _, c := range l.conns {
				if c != nil && c.out != nil {
					n++
				}
			}
		})
	}
	return n
}

// maxCopied is the most that is copied of answers which the socket does not take:
// a full batch, the rendered response that overfilled it, and its head.
const maxCopied = outLimit + copyLimit + 1<<10

// TestHeldBytes: what is held for a connection is bounded, whatever it sends.
func TestHeldBytes(t *testing.T) {
	r := newRig(t, Options{Loops: 1})
	r.container("c1", map[string]string{"user.big": strings.Repeat("b", 1<<20), "user.mid": strings.Repeat("m", 15<<10)})
	for name, request := range map[string]string{
		"large answers": getKey("user.big"), "copied answers": getKey("user.mid"), "mixed": getKey("user.mid") + getKey("user.big"),
		"errors": "GET /nope HTTP/1.1\r\nHost: lxd\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := r.dial("c1")
			requests := strings.Repeat(request, 100_000)
			go func() { _, _ = io.WriteString(c, requests) }() // until c is closed
			eventually(t, "the socket is full", func() bool { return r.pending() == 1 })
			l := r.srv.loops[0]
			l.call(func() {
				for _, c := range l.conns {
					if c == nil || c.out == nil {
						continue
					}
					if copied := len(c.out.tail); copied > maxCopied {
						t.Errorf("%d bytes are copied; want at most %d", copied, maxCopied)
					}
					if len(c.in) > readBuffer || cap(c.in) > 2*readBuffer {
						t.Errorf("%d bytes are held in %d; want at most %d", len(c.in), cap(c.in), readBuffer)
					}
				}
			})
			_ = c.Close()
			eventually(t, "closed", func() bool { return r.srv.Connections() == 0 })
		})
	}
}

// TestAbort: resets at any moment leave nothing behind.
func TestAbort(t *testing.T) {
	r := newRig(t, Options{Loops: 2})
	r.container("c1", map[string]string{"user.big": strings.Repeat("b", 1<<20)})
	requests := []string{
		"", "G", getKey("user.big"), getKey("user.big") + getKey("user.big"), "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET",
		"PATCH /1.0 HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n{", "GET /1.0/events HTTP/1.1\r\nHost: a\r\n\r\n",
		upgradeRequest("/1.0/events"), upgradeRequest("/1.0/events") + "\x89", "\x00",
	}
	for range 30 {
		for _, request := range requests {
			c := r.dial("c1")
			_, _ = io.WriteString(c, request)
			if rand.IntN(2) == 0 {
				_ = c.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
				_, _ = c.Read(make([]byte, 1+rand.IntN(100)))
			}
			_ = c.Close()
		}
	}
	// None is open now and then while others still wait in the backlog.
	eventually(t, "no connection left", func() bool {
		return r.srv.Totals().Accepted == uint64(30*len(requests)) && r.srv.Connections() == 0
	})
	if n := r.srv.Subscribers(); n != 0 {
		t.Errorf("%d subscribers are left", n)
	}
	for _, l := range r.srv.loops {
		l.call(func() {
			if len(l.groups) != 0 || l.open != 0 {
				t.Errorf("loop %d has %d groups and %d connections left", l.id, len(l.groups), l.open)
			}
		})
	}
}

// TestOutOfBand: MSG_OOB raises an event of its own, which must not make the
// loop spin.
func TestOutOfBand(t *testing.T) {
	r := newRig(t, Options{Loops: 1})
	r.container("c1", nil)
	c := r.dial("c1")
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := raw.Write(func(fd uintptr) bool {
		failed = unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if failed != nil {
		t.Skipf("needs MSG_OOB on Unix sockets: %v", failed)
	}
	turns := r.turns(200 * time.Millisecond)
	if turns > 50 {
		t.Errorf("%d turns in 200 ms for one byte out of band", turns)
	}
	c.wantOpen()
}

// turns counts how often the loop polls in d: each eventfd write makes one turn,
// and so does whatever else keeps the loop busy.
func (r *rig) turns(d time.Duration) (n int) {
	l := r.srv.loops[0]
	var before, after unix.Rusage
	l.call(func() { _ = unix.Getrusage(unix.RUSAGE_SELF, &before) })
	time.Sleep(d)
	l.call(func() { _ = unix.Getrusage(unix.RUSAGE_SELF, &after) })
	// A loop that spins uses all of the time; 4 ms of it are one "turn".
	return int((after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()) / int64(4*time.Millisecond))
}
