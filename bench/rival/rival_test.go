package rival_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"devlxd/bench/rival"
)

func TestKeepAlive(t *testing.T) {
	forEachKind(t, nil, func(t *testing.T, r *rig) {
		c := r.dial(t)
		for range 10 {
			c.send(get(loadPath))
			if body := c.answer(); body != value {
				t.Fatalf("got %q", body)
			}
		}
	})
}

func TestPipelining(t *testing.T) {
	forEachKind(t, nil, func(t *testing.T, r *rig) {
		c := r.dial(t)
		for range 5 {
			c.send(strings.Repeat(get(loadPath), 16))
			for range 16 {
				if body := c.answer(); body != value {
					t.Fatalf("got %q", body)
				}
			}
		}
	})
}

// TestPieces sends two requests cut in two at every byte.
func TestPieces(t *testing.T) {
	two := get(loadPath) + get(loadPath)
	forEachKind(t, nil, func(t *testing.T, r *rig) {
		c := r.dial(t)
		for cut := 1; cut < len(two); cut++ {
			c.send(two[:cut])
			if cut >= len(two)/2 {
				if body := c.answer(); body != value { // it was read, so the rest is read by itself
					t.Fatalf("got %q", body)
				}
			}
			c.send(two[cut:])
			if cut < len(two)/2 {
				c.answer()
			}
			if body := c.answer(); body != value {
				t.Fatalf("cut at %d: got %q", cut, body)
			}
		}
	})
}

// TestConnectionClose: those that read header fields close, the others leave that to the client.
func TestConnectionClose(t *testing.T) {
	forEachKind(t, nil, func(t *testing.T, r *rig) {
		c := r.dial(t)
		c.send(strings.Replace(get(loadPath), "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1))
		if body := c.answer(); body != value {
			t.Fatalf("got %q", body)
		}
		switch r.kind {
		case rival.NetHTTP, rival.Plain, rival.FastHTTP:
			c.wantClosed()
		default:
			c.send(get(loadPath))
			c.answer()
		}
	})
}

func TestEvents(t *testing.T) {
	forEachKind(t, rival.Kind.Events, func(t *testing.T, r *rig) {
		var subscribers []*client
		for range 20 {
			c := r.dial(t)
			c.upgrade()
			subscribers = append(subscribers, c)
		}
		r.settle(t, subscribers)
		last := value
		for i := range 5 {
			next := strconv.Itoa(i) + strings.Repeat("x", 60*i) // both forms of a short length
			if err := r.Set("c1", rival.Key, next); err != nil {
				t.Fatal(err)
			}
			want := event{Type: "config", Metadata: map[string]string{"key": rival.Key, "old_value": last, "value": next}}.String()
			for _, c := range subscribers {
				if e := c.event(); e.String() != want || e.Timestamp.IsZero() || len(e.Metadata) != 3 {
					t.Fatalf("got %v at %v, want %s", e, e.Timestamp, want)
				}
			}
			last = next
		}
	})
}

// settle returns when every one of the connections is a subscriber. LXD answers the handshake first; the ping comes after both.
func (r *rig) settle(t *testing.T, subscribers []*client) {
	t.Helper()
	if r.kind != rival.NetHTTP {
		return
	}
	for _, c := range subscribers {
		if op, payload := c.frame(); op != 9 {
			t.Fatalf("frame with opcode %d before the first ping: %q", op, payload)
		}
		c.send(string([]byte{0x8a, 0x80, 0, 0, 0, 0}))
	}
}

// TestNoEvent: a value that stays, a key that guests do not hear of, another container and a client that left.
func TestNoEvent(t *testing.T) {
	forEachKind(t, rival.Kind.Events, func(t *testing.T, r *rig) {
		other := rival.Container{Name: "c2", Config: map[string]string{"user.b": "1"}}
		if err := r.Register([]rival.Container{other}); err != nil {
			t.Fatal(err)
		}
		c, left := r.dial(t), r.dial(t)
		c.upgrade()
		left.upgrade()
		r.settle(t, []*client{c, left})
		_ = left.Close()
		for _, set := range [][3]string{{"c1", rival.Key, value}, {"c1", "limits.cpu", "2"}, {"c2", "user.b", "2"}, {"c1", "user.a", "last"}} {
			if err := r.Set(set[0], set[1], set[2]); err != nil {
				t.Fatal(err)
			}
		}
		if e := c.event(); e.Metadata["key"] != "user.a" || e.Metadata["value"] != "last" {
			t.Fatalf("got %v", e)
		}
		if err := r.Set("c1", "user.a", ""); err != nil {
			t.Fatal(err)
		}
		if e := c.event(); e.Metadata["old_value"] != "last" || e.Metadata["value"] != "" {
			t.Fatalf("got %v", e)
		}
	})
}

// TestUnknownPeerHearsAll: a process that is no init of a container gets every event from the rivals that have no identity.
func TestUnknownPeerHearsAll(t *testing.T) {
	for _, kind := range []rival.Kind{rival.GNet, rival.Limit} {
		t.Run(string(kind), func(t *testing.T) {
			r := newEmptyRig(t, kind)
			if err := r.Register([]rival.Container{{Name: "a"}, {Name: "b"}}); err != nil {
				t.Fatal(err)
			}
			c := r.dial(t)
			c.upgrade()
			for _, name := range []string{"a", "b"} {
				if err := r.Set(name, "user.x", name); err != nil {
					t.Fatal(err)
				}
				if e := c.event(); e.Metadata["value"] != name {
					t.Fatalf("got %v", e)
				}
			}
		})
	}
}

// TestUpgradeStays: a websocket without events outlives what a client may send on it, and another key gets its own answer.
func TestUpgradeStays(t *testing.T) {
	forEachKind(t, nil, func(t *testing.T, r *rig) {
		c := r.dial(t)
		if r.kind == rival.LimitC {
			c.upgrade()
		} else {
			// Computed by Python: base64(sha1(key + GUID)).
			c.send(strings.Replace(handshake, rival.SampleKey, "AAAAAAAAAAAAAAAAAAAAAA==", 1))
			c.upgraded("ICX+Yqv66kxgM0FcWaLWlFLwTAI=")
		}
		pong := string([]byte{0x8a, 0x80, 0, 0, 0, 0})
		for range 3 {
			c.send(pong)
		}
		// The server is as alive as before, and so is the websocket: closing it is the client's.
		if body := ask(r.socket, loadPath); body != "200 "+strconv.Quote(value) {
			t.Fatalf("got %s", body)
		}
		c.send(pong)
	})
}

func TestManyConnections(t *testing.T) {
	forEachKind(t, nil, func(t *testing.T, r *rig) {
		var all []*client
		for range 200 {
			all = append(all, r.dial(t))
		}
		for _, c := range all {
			c.send(get(loadPath))
		}
		for _, c := range all {
			if body := c.answer(); body != value {
				t.Fatalf("got %q", body)
			}
		}
	})
}

// TestAbruptClose has clients leave in the middle of a request, with answers unread, before they say anything and after an upgrade.
func TestAbruptClose(t *testing.T) {
	forEachKind(t, nil, func(t *testing.T, r *rig) {
		for range 50 {
			for _, text := range []string{"", "GET /1.0/con", strings.Repeat(get(loadPath), 16), handshake, get(loadPath) + "GET"} {
				c := r.dial(t)
				c.send(text)
				_ = c.Close()
			}
		}
		c := r.dial(t)
		c.send(get(loadPath))
		if body := c.answer(); body != value {
			t.Fatalf("got %q", body)
		}
		if r.kind.Events() {
			if err := r.Set("c1", "user.after", "1"); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestUnreadAnswers fills the socket: the rest comes when the client reads.
func TestUnreadAnswers(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 20_000)
	for _, kind := range rival.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			if kind == rival.NetHTTP && os.Getuid() != 0 {
				t.Skip("needs root: the process of the test must be root of the container that it is registered as")
			}
			r := newEmptyRig(t, kind)
			if err := r.Register([]rival.Container{{Name: "c1", PID: os.Getpid(), Config: map[string]string{rival.Key: large}}}); err != nil {
				t.Fatal(err)
			}
			c := r.dial(t)
			c.send(strings.Repeat(get(loadPath), 8))
			if body := ask(r.socket, loadPath); body != "200 "+strconv.Quote(large) { // while the first waits
				t.Fatalf("got %.100s", body)
			}
			for range 8 {
				if body := c.answer(); body != large {
					t.Fatalf("got %d bytes", len(body))
				}
			}
			c.send(get(loadPath))
			if body := c.answer(); body != large {
				t.Fatalf("got %d bytes", len(body))
			}
		})
	}
}

// TestManyUnreadAnswers: small ones, more than the socket and the kept answers hold.
func TestManyUnreadAnswers(t *testing.T) {
	const requests = 4000
	forEachKind(t, nil, func(t *testing.T, r *rig) {
		c := r.dial(t)
		sent := make(chan error, 1)
		go func() {
			_, err := io.WriteString(c, strings.Repeat(get(loadPath), requests))
			sent <- err
		}()
		for n := range requests {
			if body := c.answer(); body != value {
				t.Fatalf("answer %d: %q", n, body)
			}
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	})
}

// TestEndlessHead: a request that does not end is not kept for ever.
func TestEndlessHead(t *testing.T) {
	forEachKind(t, nil, func(t *testing.T, r *rig) {
		c := r.dial(t)
		go func() {
			for {
				if _, err := io.WriteString(c, "GET /1.0/config/user.load HTTP/1.1\r\nX: "+strings.Repeat("x", 1000)); err != nil {
					return
				}
			}
		}()
		c.wantClosed()
	})
}

func TestImages(t *testing.T) {
	content := make([]byte, 5<<20+123)
	if _, err := rand.Read(content); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	forEachKind(t, rival.Kind.Images, func(t *testing.T, r *rig) {
		fingerprint, err := r.Image(path)
		if err != nil {
			t.Fatal(err)
		}
		if fingerprint != hex.EncodeToString(sum[:]) {
			t.Fatalf("got %s", fingerprint)
		}
		left := r.dial(t)
		left.send(get("/1.0/images/" + fingerprint + "/export"))
		_ = left.Close()
		c := r.dial(t)
		export := get("/1.0/images/" + fingerprint + "/export")
		c.send(get(loadPath) + export + get(loadPath) + export)
		for range 2 {
			if body := c.answer(); body != value {
				t.Fatalf("got %.100q", body)
			}
			if body := c.answer(); !bytes.Equal([]byte(body), content) {
				t.Fatalf("got %d bytes, or others", len(body))
			}
		}
	})
}

func TestNotForThisKind(t *testing.T) {
	forEachKind(t, nil, func(t *testing.T, r *rig) {
		if err := r.Set("c1", "user.x", "1"); (err == nil) != r.kind.Events() {
			t.Errorf("set: %v", err)
		}
		if _, err := r.Image("/nowhere"); !errors.Is(err, rival.ErrRefused) {
			t.Errorf("image: %v", err)
		}
		if r.kind != rival.LimitC { // which keeps no list
			if err := r.Unregister("nobody"); !errors.Is(err, rival.ErrRefused) {
				t.Errorf("unregister: %v", err)
			}
			if err := r.Register([]rival.Container{{}}); !errors.Is(err, rival.ErrRefused) {
				t.Errorf("register: %v", err)
			}
		}
		if err := r.Unregister("c1"); err != nil {
			t.Error(err)
		}
	})
}

func TestSocketMode(t *testing.T) {
	forEachKind(t, nil, func(t *testing.T, r *rig) {
		info, err := os.Stat(r.socket)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != os.ModeSocket|0o666 {
			t.Errorf("mode is %v", info.Mode())
		}
	})
}

// TestEnd: the end of the control input ends all connections, whatever they are doing.
func TestEnd(t *testing.T) {
	forEachKind(t, nil, func(t *testing.T, r *rig) {
		silent, idle, half, websocket := r.dial(t), r.dial(t), r.dial(t), r.dial(t)
		idle.send(get(loadPath))
		idle.answer()
		half.send("GET /1.0/con")
		websocket.upgrade()
		r.stop()
		if err := r.wait(); err != nil {
			t.Fatal(err)
		}
		for _, c := range []*client{silent, idle, half, websocket} {
			c.wantClosed()
		}
	})
}

func TestContextEnds(t *testing.T) {
	for _, kind := range rival.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			commands, toRival := io.Pipe()
			defer toRival.Close()
			ended := make(chan error, 1)
			go func() { ended <- rival.Serve(ctx, kind, filepath.Join(t.TempDir(), "sock"), commands, io.Discard) }()
			cancel()
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestCannotListen(t *testing.T) {
	for _, kind := range rival.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			err := rival.Serve(t.Context(), kind, filepath.Join(t.TempDir(), "missing", "sock"), strings.NewReader(""), io.Discard)
			if err == nil {
				t.Fatal("a socket was made in a folder that is not there")
			}
		})
	}
}

func TestMalformedControl(t *testing.T) {
	for _, kind := range rival.Kinds() {
		if kind == rival.LimitC {
			continue // it looks for what it needs and does not parse
		}
		t.Run(string(kind), func(t *testing.T) {
			err := rival.Serve(t.Context(), kind, filepath.Join(t.TempDir(), "sock"), strings.NewReader("{\"op\":}\n"), io.Discard)
			if !errors.Is(err, rival.ErrControl) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestParseKind(t *testing.T) {
	for _, kind := range rival.Kinds() {
		if got, err := rival.ParseKind(string(kind)); got != kind || err != nil {
			t.Errorf("%s: %s, %v", kind, got, err)
		}
	}
	if _, err := rival.ParseKind("apache"); !errors.Is(err, rival.ErrKind) {
		t.Errorf("got %v", err)
	}
}

// TestOwnProcess runs each rival as the load generator does: in a process that is the server.
func TestOwnProcess(t *testing.T) {
	for _, kind := range rival.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			if kind == rival.NetHTTP && os.Getuid() != 0 {
				t.Skip("needs root: the process of the test must be root of the container that it is registered as")
			}
			socket := filepath.Join(t.TempDir(), "sock")
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), envServe+"="+string(kind), envSocket+"="+socket)
			cmd.Stderr = os.Stderr
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			r := rival.NewClient(in, out)
			if err := r.Register([]rival.Container{{Name: "c1", PID: os.Getpid(), Config: map[string]string{rival.Key: "own"}}}); err != nil {
				t.Error(err)
			}
			if got := ask(socket, loadPath); got != `200 "own"` {
				t.Errorf("got %s", got)
			}
			if kind == rival.LimitC {
				if name, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/cmdline"); err != nil || !bytes.HasPrefix(name, []byte("limit-c\x00")) {
					t.Errorf("process is %q, %v", name, err)
				}
			}
			_ = in.Close()
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}
