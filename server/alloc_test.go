//go:build !race

// The race detector allocates on its own account, so these promises are checked without it.

package server

import (
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"devlxd/peer"
	"devlxd/registry"
	"devlxd/registry/registrytest"
)

// still is a server whose only loop does not run: the test makes its turns.
type still struct {
	t    *testing.T
	l    *loop
	reg  *registry.Registry
	bind *registry.Binding
	buf  []byte
}

func newStill(t *testing.T) *still {
	s := &still{t: t, buf: make([]byte, 64<<10)}
	srv, err := New(Options{Loops: 1, Location: "h", Limits: registry.Limits{registry.LimitRequests: registry.MaxLimit, registry.LimitSubscribers: 1000}, identify: func(*registry.Registry, int) (*registry.Binding, peer.Peer, peer.Reject) {
		return s.bind, peer.Peer{}, peer.RejectNone
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.l, s.reg = srv.loops[0], srv.Registry()
	t.Cleanup(func() {
		s.l.closeAll()
		s.l.free()
	})
	var host registrytest.Host
	s.bind = host.Start(t, s.reg, registry.Spec{Name: "c1", Config: map[string]string{"user.a": "bar", "user.n": "0"}})
	return s
}

// connect returns a new connection of the loop and the client's end of it.
func (s *still) connect() (c *conn, client int) {
	s.t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = unix.Close(fds[1]) })
	s.l.adopt(fds[0])
	return s.l.conns[fds[0]], fds[1]
}

// ask sends bytes, gives the connection its turn and returns how many bytes came back.
func (s *still) ask(c *conn, client int, request []byte) int {
	if n, err := unix.Write(client, request); n != len(request) || err != nil {
		s.t.Fatal(n, err)
	}
	s.l.dispatch(int(c.fd))
	return s.receive(client)
}

func (s *still) receive(client int) int {
	n, err := unix.Read(client, s.buf)
	if err != nil || n == 0 {
		s.t.Fatalf("read = %d, %v", n, err)
	}
	return n
}

// TestRequestsDoNotAllocate: from the bytes of a request to the bytes of its answer on a connection that is kept.
func TestRequestsDoNotAllocate(t *testing.T) {
	s := newStill(t)
	c, client := s.connect()
	for name, request := range map[string]string{
		"key":           "GET /1.0/config/user.a HTTP/1.1\r\nHost: lxd\r\n\r\n",
		"key, as curl":  "GET /1.0/config/user.a HTTP/1.1\r\nHost: lxd\r\nUser-Agent: curl/8.9.1\r\nAccept: */*\r\n\r\n",
		"encoded key":   "GET /1.0/config/user%2Ea HTTP/1.1\r\nHost: lxd\r\n\r\n",
		"HEAD":          "HEAD /1.0/config/user.a HTTP/1.1\r\nHost: lxd\r\n\r\n",
		"16 pipelined":  repeat("GET /1.0/config/user.a HTTP/1.1\r\nHost: lxd\r\n\r\n", 16),
		"absent key":    "GET /1.0/config/user.zz HTTP/1.1\r\nHost: lxd\r\n\r\n",
		"forbidden key": "GET /1.0/config/limits.cpu HTTP/1.1\r\nHost: lxd\r\n\r\n",
		"API":           "GET /1.0 HTTP/1.1\r\nHost: lxd\r\n\r\n",
		"list":          "GET /1.0/config HTTP/1.1\r\nHost: lxd\r\n\r\n",
		"devices":       "GET /1.0/devices HTTP/1.1\r\nHost: lxd\r\n\r\n",
		"metadata":      "GET /1.0/meta-data HTTP/1.1\r\nHost: lxd\r\n\r\n",
		"unknown path":  "GET /nope HTTP/1.1\r\nHost: lxd\r\n\r\n",
	} {
		bytes := []byte(request)
		s.ask(c, client, bytes) // what is made once, is made
		if n := testing.AllocsPerRun(100, func() { s.ask(c, client, bytes) }); n != 0 {
			t.Errorf("%s: %v allocations; want none", name, n)
		}
	}
	if c.in != nil || c.out != nil || c.body != nil {
		t.Error("the idle connection holds a buffer")
	}
}

func repeat(s string, n int) string {
	all := make([]byte, 0, n*len(s))
	for range n {
		all = append(all, s...)
	}
	return string(all)
}

// TestDeliveriesDoNotAllocate: an event costs the same allocations for one subscriber and for 200, on websockets and on streams.
func TestDeliveriesDoNotAllocate(t *testing.T) {
	for name, request := range map[string]string{
		"websocket": upgradeRequest("/1.0/events"),
		"stream":    "GET /1.0/events HTTP/1.1\r\nHost: a\r\n\r\n",
		"positions": upgradeRequest("/1.0/events?position=true"),
	} {
		t.Run(name, func(t *testing.T) {
			perEvent := func(subscribers int) float64 {
				s := newStill(t)
				var clients []int
				for range subscribers {
					c, client := s.connect()
					s.ask(c, client, []byte(request))
					clients = append(clients, client)
				}
				n := 0
				return testing.AllocsPerRun(200, func() {
					n++
					if _, err := s.reg.Put(registry.Spec{Name: "c1", Config: map[string]string{"user.a": "bar", "user.n": strconv.Itoa(100 + n)}}); err != nil {
						t.Fatal(err)
					}
					s.l.wake(s.l.groups[s.bind])
					for len(s.l.runq) > 0 {
						s.l.runQueue()
					}
					for _, client := range clients {
						s.receive(client)
					}
				})
			}
			one, many := perEvent(1), perEvent(200)
			if many > one {
				t.Errorf("an event costs %v allocations for one subscriber and %v for 200", one, many)
			}
		})
	}
}

// TestShedDoesNotAllocate: a connection that is refused unseen costs system calls only.
func TestShedDoesNotAllocate(t *testing.T) {
	s := newStill(t)
	var fds [2]int
	v := &refusal{account: &s.l.srv.strangers, rate: 50} // half of them are answered
	n := testing.AllocsPerRun(100, func() {
		var err error
		if fds, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
			t.Fatal(err)
		}
		s.l.shed(fds[0], v)
		_ = unix.Close(fds[1])
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
