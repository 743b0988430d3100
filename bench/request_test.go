package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/sys/unix"

	"devlxd/peer"
	"devlxd/peer/peertest"
	"devlxd/server"
)

const (
	benchPath  = "/1.0/config/user.foo"
	benchValue = "bar"
)

// requestContests reads one value of the configuration, as a process in a real container that is registered with the server.
// The servers run in this process, the client in its own, so "cpu-ns" is what the server costs and "ns" what the client waits.
//
// All of them listen on a socket of the same kind. devlxd identifies each connection; net/http and fasthttp answer anyone the same
// value, with routing by a comparison of the path. "limit" reads and writes on a thread of its own and never looks at a byte
// but to count requests: what the kernel takes. The contests are one request on a connection that is kept, 16 requests in one
// write, and a new connection for each request.
func requestContests(tb testing.TB, _ []int) (contests []contest) {
	peertest.Need(tb, peertest.Root, peertest.Cgroup2, peertest.UserNS)
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // the client is another user
		tb.Fatal(err)
	}
	client := peertest.Start(tb, peertest.Container(tb, rootUID))
	servers := []struct{ name, path string }{
		{"devlxd", serveHere(tb, filepath.Join(dir, "devlxd"), client)},
		{"fasthttp", serveFasthttp(tb, filepath.Join(dir, "fasthttp"))},
		{"nethttp", serveNetHTTP(tb, filepath.Join(dir, "nethttp"))},
		{"limit", serveLimit(tb, filepath.Join(dir, "limit"))},
	}
	for _, load := range []struct {
		name  string
		depth int // requests in one write; 0: one on a connection of its own
	}{{"kept", 1}, {"pipelined-16", 16}, {"connect", 0}} {
		c := contest{name: load.name, cpu: true, slice: 10 * time.Millisecond}
		if load.depth > 1 {
			c.per, c.part = load.depth, "request"
		}
		for _, s := range servers {
			c.ways = append(c.ways, way{name: s.name, run: func(n int) error {
				if got := client.Call("drive", s.path, strconv.Itoa(load.depth), strconv.Itoa(n)); got != "" {
					return errors.New(got)
				}
				return nil
			}})
		}
		contests = append(contests, c)
	}
	return contests
}

func serveHere(tb testing.TB, path string, client *peertest.Proc) string {
	tb.Helper()
	h := probe(tb, peer.Options{})
	srv, err := server.New(server.Options{Host: h, Location: "bench"})
	if err != nil {
		tb.Fatal(err)
	}
	bind(tb, h, srv.Registry(), "c1", map[string]string{"user.foo": benchValue}, client.PID)
	srv.Start()
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			tb.Error(err)
		}
	})
	path = filepath.Join(path, "sock")
	if err := srv.Listen(path); err != nil {
		tb.Fatal(err)
	}
	return path
}

// listenOn makes a socket that the client may connect to.
func listenOn(tb testing.TB, path string) *net.UnixListener {
	tb.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		tb.Fatal(err)
	}
	return l
}

func serveFasthttp(tb testing.TB, path string) string {
	l := listenOn(tb, path)
	srv := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) {
		if string(ctx.Path()) != benchPath {
			ctx.Error("not found", fasthttp.StatusNotFound)
			return
		}
		ctx.SetContentType("application/octet-stream")
		ctx.SetBodyString(benchValue)
	}}
	var running sync.WaitGroup
	running.Go(func() { _ = srv.Serve(l) }) // ends when the listener is closed
	tb.Cleanup(func() {
		_ = srv.Shutdown()
		running.Wait()
	})
	return path
}

func serveNetHTTP(tb testing.TB, path string) string {
	l := listenOn(tb, path)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != benchPath {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write([]byte(benchValue))
	})}
	var running sync.WaitGroup
	running.Go(func() { _ = srv.Serve(l) })
	tb.Cleanup(func() {
		_ = srv.Close()
		running.Wait()
	})
	return path
}

// serveLimit answers one connection after the other.
func serveLimit(tb testing.TB, path string) string {
	l := listenOn(tb, path)
	file, err := l.File() // a blocking descriptor of the same socket
	if err != nil {
		tb.Fatal(err)
	}
	fd := int(file.Fd())
	if err := unix.SetNonblock(fd, false); err != nil {
		tb.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return // the socket was shut down
			}
			answerBlindly(conn)
			_ = unix.Close(conn)
		}
	})
	tb.Cleanup(func() {
		_ = unix.Shutdown(fd, unix.SHUT_RDWR)
		running.Wait()
		_ = file.Close()
		_ = l.Close()
	})
	return path
}

func answerBlindly(conn int) {
	answer := "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: application/octet-stream\r\n" +
		"Content-Length: " + strconv.Itoa(len(benchValue)) + "\r\n\r\n" + benchValue
	answers := []byte(strings.Repeat(answer, 16))
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(conn, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return
		}
		// A client of these benchmarks never writes more than 16 requests before it has read, and a local stream does not
		// cut what one write brought.
		count := bytes.Count(buf[:n], []byte("\r\n\r\n"))
		if _, err := unix.Write(conn, answers[:count*len(answer)]); err != nil {
			return
		}
	}
}

// driveCommand is the client: PATH DEPTH N, where DEPTH is as in requestContests. It looks at every answer.
func driveCommand(args []string) (string, error) {
	if len(args) != 3 {
		return "", errors.New("drive: want PATH DEPTH N")
	}
	depth, err1 := strconv.Atoi(args[1])
	n, err2 := strconv.Atoi(args[2])
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	request := "GET " + benchPath + " HTTP/1.1\r\nHost: lxd\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n"
	d := &driver{path: args[0], request: []byte(strings.Repeat(request, max(depth, 1))), depth: max(depth, 1), buf: make([]byte, 64<<10)}
	if depth == 0 {
		for range n {
			if err := d.session(1); err != nil {
				return "", err
			}
		}
		return "", nil
	}
	return "", d.session(n)
}

// driver is a client that does not wait for anything but the kernel: its sockets block, so no poller of a runtime takes part.
type driver struct {
	path    string
	request []byte
	depth   int    // answers to one request
	buf     []byte // of answers
	size    int    // of one answer, known after the first
}

// session connects and asks n times.
func (d *driver) session(n int) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(fd) }()
	limit := unix.Timeval{Sec: 20} // an answer that never comes must not hang the test
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: d.path}); err != nil {
		return os.NewSyscallError("connect", err)
	}
	for range n {
		if err := d.ask(fd); err != nil {
			return err
		}
	}
	return nil
}

func (d *driver) ask(fd int) error {
	if n, err := unix.Write(fd, d.request); err != nil || n != len(d.request) {
		return fmt.Errorf("wrote %d bytes: %w", n, err)
	}
	got := 0
	for d.size == 0 || got < d.depth*d.size {
		n, err := unix.Read(fd, d.buf[got:])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return os.NewSyscallError("read", err)
		case n == 0:
			return errors.New("the server closed the connection")
		}
		got += n
		if d.size == 0 {
			d.size = sizeOfAnswer(d.buf[:got])
		}
	}
	for at := 0; at < got; at += d.size {
		end := min(at+d.size, got)
		if a := d.buf[at:end]; !bytes.HasPrefix(a, []byte("HTTP/1.1 200 ")) || !bytes.HasSuffix(a, []byte("\r\n\r\n"+benchValue)) {
			return fmt.Errorf("answer %.200q", a)
		}
	}
	return nil
}

// sizeOfAnswer is the size of the first answer once it is whole, 0 before. Every server sends one size for one value.
func sizeOfAnswer(b []byte) int {
	at := bytes.Index(b, []byte("\r\n\r\n"))
	if at < 0 || len(b) < at+4+len(benchValue) {
		return 0
	}
	return at + 4 + len(benchValue)
}
