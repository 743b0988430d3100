package admin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"devlxd/admin"
)

// subscription is a client of the event stream.
type subscription struct {
	t    *testing.T
	conn net.Conn
	resp *http.Response
	in   *bufio.Reader
}

// subscribe opens a stream and waits until the server has confirmed it.
func (f *fixture) subscribe(query string) *subscription {
	f.Helper()
	conn, err := net.Dial("unix", f.socket)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
	fmt.Fprintf(conn, "GET /1.0/containers/c1/events%s HTTP/1.1\r\nHost: devlxd\r\n\r\n", query)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		f.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		f.Fatalf("events%s = %s; want 200", query, resp.Status)
	}
	return &subscription{f.T, conn, resp, bufio.NewReader(resp.Body)}
}

// line is what a test looks at of an event, or of the envelope at the end.
type line struct {
	Type     string `json:"type"`
	Position string `json:"position"`
	Code     int    `json:"error_code"`
	Error    string `json:"error"`
	Metadata struct {
		Key   string `json:"key"`
		Value string `json:"value"`
		Name  string `json:"name"`
	} `json:"metadata"`
}

// next reads one line; io.EOF is the clean end of the stream.
func (s *subscription) next() (line, error) {
	text, err := s.in.ReadString('\n')
	if err != nil {
		return line{}, err
	}
	var l line
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		s.t.Fatalf("line %q: %v", text, err)
	}
	return l, nil
}

// want checks that the next lines are events of these keys and devices.
func (s *subscription) want(names ...string) {
	s.t.Helper()
	for _, name := range names {
		l, err := s.next()
		if err != nil {
			s.t.Fatalf("waiting for %s: %v", name, err)
		}
		if got := l.Metadata.Key + l.Metadata.Name; got != name {
			s.t.Fatalf("event of %q; want %s", got, name)
		}
	}
}

// end checks that the stream ends now, with a code unless it is 0.
func (s *subscription) end(code int) {
	s.t.Helper()
	if code != 0 {
		l, err := s.next()
		if err != nil || l.Type != admin.TypeError || l.Code != code {
			s.t.Fatalf("last line is %+v, %v; want an error with code %d", l, err, code)
		}
	}
	if l, err := s.next(); err != io.EOF {
		s.t.Fatalf("after the end: %+v, %v; want the clean end of the stream", l, err)
	}
}

func (f *fixture) set(key, value string) {
	f.Helper()
	if err := f.writer.UpdateConfig("c1", map[string]string{key: value}, nil); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) stop() {
	f.Helper()
	c, _ := f.reg.Container("c1")
	if !f.reg.Stop(c.Binding()) {
		f.Fatal("container was not running")
	}
}

func TestEvents(t *testing.T) {
	f := start(t, nil)
	f.add("c1+")
	all, config, device := f.subscribe(""), f.subscribe("?type=config"), f.subscribe("?type=device")
	both := f.subscribe("?type=device,config")
	f.set("user.a", "1")
	all.want("user.a")
	if err := f.writer.AddDevice("c1", "eth0", map[string]string{"type": "nic"}); err != nil {
		t.Fatal(err)
	}
	f.set("user.b", strings.Repeat("x", 100<<10))
	for sub, want := range map[*subscription][]string{
		all: {"eth0", "user.b"}, config: {"user.a", "user.b"}, device: {"eth0"}, both: {"user.a", "eth0", "user.b"},
	} {
		sub.want(want...)
	}
	f.set("user.c", "last")
	f.stop()
	for sub, want := range map[*subscription][]string{all: {"user.c"}, config: {"user.c"}, device: nil, both: {"user.c"}} {
		sub.want(want...)
		sub.end(0)
	}
}

func TestEventsResume(t *testing.T) {
	f := start(t, nil)
	f.add("c1+")
	first := f.subscribe("?position=true")
	beginning := first.resp.Header.Get(admin.PositionField)
	for i := range 4 {
		f.set("user.n", itoa(i))
	}
	l, err := first.next()
	if err != nil || !strings.HasSuffix(l.Position, ".1") || l.Metadata.Value != "0" {
		t.Fatalf("first event = %+v, %v; want value 0 at a position .1", l, err)
	}
	for since, want := range map[string]string{beginning: "0", l.Position: "1"} {
		again := f.subscribe("?since=" + since)
		if got := again.resp.Header.Get(admin.PositionField); got != since {
			t.Errorf("stream since %s says %s = %q", since, admin.PositionField, got)
		}
		if next, err := again.next(); err != nil || next.Metadata.Value != want || next.Position != "" {
			t.Errorf("first event since %s = %+v, %v; want value %s and no position", since, next, err, want)
		}
	}
	for i := range 20 { // the ring holds 8
		f.set("user.n", itoa(100+i))
	}
	step{"GET", "/1.0/containers/c1/events?since=" + l.Position, "", 410,
		failed(410, "position is no longer held: read the configuration again and subscribe anew"), ""}.run(f)
}

// TestEventsOverrun: a reader that takes nothing while the ring turns over is
// told so, after what it was sent.
func TestEventsOverrun(t *testing.T) {
	f := start(t, nil)
	f.add("c1+")
	sub := f.subscribe("")
	value := strings.Repeat("v", 256<<10)
	c, _ := f.reg.Container("c1")
	for i := range 64 {
		f.set("user.n", itoa(i)+value)
	}
	if ring := c.Binding().Ring(); ring.Position().Offset != 64 {
		t.Fatalf("ring is at %s; want offset 64", ring.Position())
	}
	for i := 0; ; i++ {
		l, err := sub.next()
		if err != nil {
			t.Fatalf("after %d events: %v; want to be told of the loss", i, err)
		}
		if l.Type == admin.TypeError {
			if l.Code != 410 || l.Error != "events lost: reader too slow" || i >= 64 {
				t.Errorf("after %d events: %+v; want 410 events lost: reader too slow", i, l)
			}
			break
		}
		if want := itoa(i) + "v"; !strings.HasPrefix(l.Metadata.Value, want) {
			t.Fatalf("event %d has the value %.8s...; want %s...", i, l.Metadata.Value, want)
		}
	}
	sub.end(0)
}

func TestEventsStuckReader(t *testing.T) {
	f := start(t, func(f *fixture, _ *admin.Options) { f.streamTimeout = 50 * time.Millisecond })
	f.add("c1+")
	sub := f.subscribe("")
	f.set("user.n", strings.Repeat("v", 1<<20))
	f.streams(0) // the server has given up, though the client is still connected
	if _, err := io.Copy(io.Discard, sub.resp.Body); err == nil {
		t.Error("stream of a stuck reader ended cleanly; want it broken off")
	}
}

// streams waits until the server has so many event streams.
func (f *fixture) streams(want int) {
	f.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for f.server.Streams() != want {
		if time.Now().After(deadline) {
			f.Fatalf("%d event streams; want %d", f.server.Streams(), want)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestEventsHangUp(t *testing.T) {
	f := start(t, nil)
	f.add("c1+")
	a, b := f.subscribe(""), f.subscribe("")
	f.streams(2)
	a.conn.Close()
	f.streams(1)
	f.set("user.a", "1")
	b.want("user.a")
}

func TestEventsHTTP10(t *testing.T) {
	f := start(t, nil)
	f.add("c1+")
	conn, err := net.Dial("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /1.0/containers/c1/events HTTP/1.0\r\n\r\n")
	in := bufio.NewReader(conn)
	for {
		text, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(text, "Transfer-Encoding") {
			t.Errorf("HTTP/1.0 client was sent %q", text)
		}
		if text == "\r\n" {
			break
		}
	}
	f.set("user.a", "1")
	f.stop()
	rest, err := io.ReadAll(in)
	if err != nil || !json.Valid(rest) {
		t.Errorf("body = %q, %v; want one JSON object", rest, err)
	}
}

func TestEventsLimit(t *testing.T) {
	f := start(t, nil)
	f.add("c1+")
	for range admin.MaxStreams {
		f.subscribe("")
	}
	f.streams(admin.MaxStreams)
	step{"GET", "/1.0/containers/c1/events", "", 503, failed(503, "too many event streams: at most 256 at a time"), ""}.run(f)
}

func TestShutdown(t *testing.T) {
	f := start(t, nil)
	f.add("c1+")
	sub := f.subscribe("")
	f.set("user.a", "1")
	silent, err := net.Dial("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 9*time.Second) // less than a silent client may take
	defer cancel()
	if err := f.server.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown = %v; want nil, for a silent client is not waited for", err)
	}
	sub.want("user.a")
	sub.end(503)
	if _, err := net.Dial("unix", f.socket); err == nil {
		t.Error("connected after Shutdown; want the socket gone")
	}
	ln, err := admin.Listen(f.socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.server.Serve(ln); err == nil {
		t.Error("Serve after Shutdown = nil; want an error")
	}
}

// TestShutdownIsBounded: a request that does not end is cut off.
func TestShutdownIsBounded(t *testing.T) {
	f := start(t, nil)
	conn, err := net.Dial("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "POST /1.0/images HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("x", 9000))
	f.writer.reading.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := f.server.Shutdown(ctx); err != context.DeadlineExceeded {
		t.Errorf("Shutdown = %v; want %v", err, context.DeadlineExceeded)
	}
	_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err == nil && resp.StatusCode < 400 {
		t.Errorf("request cut off by Shutdown was answered %s", resp.Status)
	}
}

// access opens or closes the guest API to the container.
func (f *fixture) access(open string) {
	f.Helper()
	f.set("security.devlxd", open)
}

// TestEventsRevoked: a stream ends with the reason when the guest API is closed
// to the container, is refused while it is, and begins anew when it is open.
func TestEventsRevoked(t *testing.T) {
	const text = "the guest API is closed to the container: monitor again when security.devlxd is true"
	f := start(t, nil)
	f.add("c1+")
	idle, reader := f.subscribe("?type=device"), f.subscribe("?position=true")
	f.set("user.a", "1")
	l, err := reader.next()
	if err != nil || l.Metadata.Key != "user.a" {
		t.Fatalf("before: %+v, %v", l, err)
	}
	f.access("false")
	for name, sub := range map[string]*subscription{"idle": idle, "reader": reader} {
		last, err := sub.next()
		if err != nil || last.Type != admin.TypeError || last.Code != 409 || last.Error != text {
			t.Errorf("%s: last line is %+v, %v; want 409 %s", name, last, err, text)
		}
		sub.end(0)
	}
	f.set("user.a", "secret")
	for _, query := range []string{"", "?since=" + l.Position} {
		step{"GET", "/1.0/containers/c1/events" + query, "", 409, failed(409, text), ""}.run(f)
	}
	f.access("true")
	step{"GET", "/1.0/containers/c1/events?since=" + l.Position, "", 410,
		failed(410, "position is no longer held: read the configuration again and subscribe anew"), ""}.run(f)
	again := f.subscribe("")
	f.set("user.a", "2")
	if next, err := again.next(); err != nil || next.Metadata.Value != "2" {
		t.Errorf("after access is back: %+v, %v; want the value 2 and nothing of before", next, err)
	}
}

// TestEventsRevokedBehind: a reader that is far behind when access is closed and
// opened again is told of that, not of a loss.
func TestEventsRevokedBehind(t *testing.T) {
	f := start(t, nil)
	f.add("c1+")
	sub := f.subscribe("")
	value := strings.Repeat("v", 1<<19)
	for i := range 6 { // more than a socket holds, fewer than the ring
		f.set("user.n", itoa(i)+value)
	}
	f.access("false")
	f.access("true")
	for {
		l, err := sub.next()
		if err != nil {
			t.Fatalf("%v; want to be told that access was closed", err)
		}
		if l.Type != admin.TypeError {
			continue
		}
		if l.Code != 409 {
			t.Errorf("last line is %+v; want 409", l)
		}
		break
	}
	sub.end(0)
}
