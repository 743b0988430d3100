package server

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/httpparse"
)

// TestDescriptorsOfGuests: what a guest sends along with its requests (SCM_RIGHTS, unix(7)) is closed with the bytes that it came with, takes
// no descriptor of the server and changes no answer.
func TestDescriptorsOfGuests(t *testing.T) {
	r := newRig(t, Options{Loops: 1})
	r.container("c1", map[string]string{"user.a": "1"})
	c := r.dial("c1")
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	const batch, rounds = 200, 20
	before := 0
	for round := range rounds {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		fds := make([]int, batch)
		for i := range fds {
			fds[i] = int(write.Fd())
		}
		var sent error
		if err := raw.Write(func(fd uintptr) bool {
			sent = unix.Sendmsg(int(fd), []byte("GET /1.0/config/user.a HTTP/1.1\r\nHost: lxd\r\n\r\n"), unix.UnixRights(fds...), nil, 0)
			return sent != unix.EAGAIN
		}); err != nil || sent != nil {
			t.Fatal(err, sent)
		}
		write.Close()
		if got := c.answer("GET"); got.status != 200 || got.body != "1" {
			t.Fatalf("answer %+v", got)
		}
		// The pipe ends when the last copy in flight is closed.
		if err := read.SetReadDeadline(time.Now().Add(60 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, err := read.Read(make([]byte, 1)); n != 0 || os.IsTimeout(err) {
			t.Fatalf("descriptors that a guest sent are open: %d, %v", n, err)
		}
		read.Close()
		if round == 0 { // with what the runtime opens for the first pipe
			before = openFiles(t)
		}
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d descriptors are open, %d before", after, before)
	}
}

// TestHalfRequestsAreBounded: however long a head without an end gets, no more of it is held than the largest one takes; the answer comes then,
// and until the deadline (TestDeadlines) there are no more bytes than that for each connection.
func TestHalfRequestsAreBounded(t *testing.T) {
	const clients = 50
	r := newRig(t, Options{Loops: 1, HeaderTimeout: time.Hour})
	r.container("c1", nil)
	half := "GET /1.0 HTTP/1.1\r\nHost: lxd\r\nX: "
	half += strings.Repeat("x", httpparse.MaxHead-len(half)-1)
	list := make([]*client, clients)
	for i := range list {
		list[i] = r.dial("c1")
		list[i].send(half)
	}
	l := r.srv.loops[0]
	held := func() (total, largest int) {
		l.call(func() {
			for _, c := range l.conns {
				if c != nil {
					total, largest = total+len(c.in), max(largest, cap(c.in))
				}
			}
		})
		return total, largest
	}
	eventually(t, "all half requests are there", func() bool {
		total, _ := held()
		return total == clients*len(half)
	})
	if _, largest := held(); largest > readBuffer {
		t.Errorf("%d bytes are held for a connection; want at most %d", largest, readBuffer)
	}
	for _, c := range list {
		c.send("xx")
		if got := c.answer("GET"); got.status != 431 {
			t.Fatalf("a head that is too long is answered %d", got.status)
		}
		c.wantEOF()
	}
	eventually(t, "all connections are closed", func() bool { return r.srv.Connections() == 0 })
}

// openFiles counts the descriptors of this process.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
