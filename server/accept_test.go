package server

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/fault"
	"devlxd/registry"
	"devlxd/registry/registrytest"
)

// TestDeal: connections are dealt out to the loops in turn.
func TestDeal(t *testing.T) {
	const loops, each = 4, 5
	r := newRig(t, Options{Loops: loops})
	r.container("c1", nil)
	for range loops * each {
		r.dial("c1").get("/1.0")
	}
	for _, l := range r.srv.loops {
		l.call(func() {
			if l.open != each {
				t.Errorf("loop %d has %d connections; want %d", l.id, l.open, each)
			}
		})
	}
}

// TestConnectionLimit: beyond the limit clients wait; nobody is refused, and each is served when there is room.
func TestConnectionLimit(t *testing.T) {
	const limit = 4
	r := newRig(t, Options{Loops: 2, MaxConnections: limit})
	r.log.expect("accept paused: the connection limit is reached")
	r.container("c1", map[string]string{"user.a": "1"})
	var open []*client
	for range limit {
		c := r.dial("c1")
		c.get("/1.0")
		open = append(open, c)
	}
	var waiting []*client
	for range limit {
		c := r.dial("c1") // into the backlog
		c.send(getKey("user.a"))
		waiting = append(waiting, c)
	}
	eventually(t, "accepting has paused", func() bool { return r.srv.loops[0].stats.acceptPauses.Load() > 0 })
	if n := r.srv.Connections(); n != limit {
		t.Errorf("%d connections are open; want %d", n, limit)
	}
	if a := open[0].get("/1.0/config/user.a"); a.body != "1" {
		t.Errorf("meanwhile: %q", a.raw())
	}
	for i, c := range waiting {
		_ = open[i].Close()
		if a := c.answer("GET"); a.body != "1" {
			t.Errorf("client %d that waited was answered %q", i, a.raw())
		}
	}
	_ = waiting[0].Close()
	eventually(t, "the condition has passed", func() bool { return !r.srv.faults.Active(fault.ConnectionLimit) })
	for _, line := range []string{"accept paused", "accept goes on: connections are below their limit"} {
		eventually(t, "it is logged: "+line, func() bool { return r.log.count(line) > 0 })
		if n := r.log.count(line); n != 1 {
			t.Errorf("%q was logged %d times; want once", line, n)
		}
	}
}

// TestShutdownAtTheLimit: who waits in the backlog when the server ends is cut off, and the end does not wait for it.
func TestShutdownAtTheLimit(t *testing.T) {
	r := newRig(t, Options{Loops: 1, MaxConnections: 1})
	r.log.expect("accept paused")
	r.container("c1", nil)
	r.dial("c1").get("/1.0")
	waiting := r.dial("c1")
	eventually(t, "accepting has paused", func() bool { return r.srv.loops[0].stats.acceptPauses.Load() > 0 })
	if err := r.shutdown(patience); err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(waiting.r); len(b) != 0 {
		t.Errorf("it was answered %q", b)
	}
}

func init() { children["descriptors"] = runOutOfDescriptors }

// TestDescriptorsRunOut runs in a process of its own, with few descriptors.
func TestDescriptorsRunOut(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childVariable+"=descriptors", "GORACE=atexit_sleep_ms=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

// runOutOfDescriptors is the process of TestDescriptorsRunOut: its exit code says whether all is well.
func runOutOfDescriptors() int {
	dir, err := os.MkdirTemp("", "dx")
	if err == nil {
		defer os.RemoveAll(dir)
		err = withoutDescriptors(filepath.Join(dir, "sock"))
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// withoutDescriptors has guests take up all descriptors: the server goes on, says so once, does not spin, and serves those who
// waited when descriptors are free again.
func withoutDescriptors(path string) error {
	const limit, free = 100, 6
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		return err
	}
	log := &logRecorder{}
	srv, err := New(Options{Loops: 1, MaxConnections: 1 << 20, Location: "h", Log: slog.New(log), identify: identifyByName})
	if err != nil {
		return err
	}
	var host registrytest.Host
	if _, err := srv.Registry().Put(registry.Spec{Name: "c1", Config: map[string]string{"user.a": "1"}}); err != nil {
		return err
	}
	if _, err := srv.Registry().Bind("c1", host.Identity()); err != nil {
		return err
	}
	srv.Start()
	if err := srv.Listen(path); err != nil {
		return err
	}
	var clients []net.Conn
	srv.loops[0].call(func() { // which accepts nobody meanwhile
		for {
			conn, err := dialer("c1").Dial("unix", path)
			if err != nil {
				break
			}
			clients = append(clients, conn)
		}
		for _, c := range clients[len(clients)-free:] {
			_ = c.Close()
		}
		clients = clients[:len(clients)-free]
	})
	const word = "accept paused: raise LimitNOFILE"
	for end := time.Now().Add(patience); log.count(word) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("no word of the descriptors in the log: %q", log.lines)
		}
	}
	if busy := cpuTime(300 * time.Millisecond); busy > 150*time.Millisecond {
		return fmt.Errorf("the server is busy for %v of 300ms without descriptors", busy)
	}
	for i, c := range clients { // the first ones were accepted, the others wait for them
		if body, err := ask(c); err != nil || body != "1" {
			return fmt.Errorf("client %d of %d: %q, %v", i, len(clients), body, err)
		}
		_ = c.Close()
	}
	for end := time.Now().Add(patience); srv.faults.Active(fault.ProcessFiles); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("the condition does not pass: %q", log.lines)
		}
	}
	for _, line := range []string{word, "accept goes on: there are descriptors again"} {
		if n := log.count(line); n != 1 {
			return fmt.Errorf("%d lines %q in the log; want one: %q", n, line, log.lines)
		}
	}
	return nil
}

// cpuTime returns how much this process uses of a time.
func cpuTime(d time.Duration) time.Duration {
	var before, after unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &before)
	time.Sleep(d)
	_ = unix.Getrusage(unix.RUSAGE_SELF, &after)
	return time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
}

// ask sends a request and returns the last line of the answer.
func ask(c net.Conn) (string, error) {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, getKey("user.a")); err != nil {
		return "", err
	}
	buf := make([]byte, 1024)
	n, err := c.Read(buf)
	_, body, _ := strings.Cut(string(buf[:n]), "\r\n\r\n")
	return body, err
}

// TestDescriptorReuse: while connections come and go in every state, an answer never goes to another one that has got the number of
// its descriptor. Each container has its own secret.
func TestDescriptorReuse(t *testing.T) {
	const containers, clients, rounds = 4, 16, 60
	r := newRig(t, Options{Loops: 2})
	secrets := make(map[string]string)
	for i := range containers {
		name := fmt.Sprintf("c%d", i)
		secrets[name] = strings.Repeat(name+"-", 300_000/3)
		r.container(name, map[string]string{"user.big": secrets[name], "user.small": name})
	}
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			name := fmt.Sprintf("c%d", i%containers)
			for range rounds {
				if err := r.visit(name, secrets[name]); err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
			}
		})
	}
	stop := make(chan struct{})
	changed := make(chan struct{})
	go func() { // events for the subscribers among them
		defer close(changed)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
				name := fmt.Sprintf("c%d", n%containers)
				r.set(name, "user.event", fmt.Sprintf("%s %d", name, n))
			}
		}
	}()
	wg.Wait()
	close(stop)
	<-changed
	eventually(t, "no connection left", func() bool { return r.srv.Connections() == 0 })
}

// visit is one connection that ends at a random moment.
func (r *rig) visit(name, secret string) error {
	c, err := r.tryDial(name)
	if err != nil {
		return err
	}
	defer c.Close()
	switch rand.IntN(4) {
	case 0: // a whole answer
		_, _ = io.WriteString(c, getKey("user.big"))
		if a, err := c.read("GET"); err != nil || a.body != secret {
			return fmt.Errorf("a whole answer is wrong: %v", err)
		}
	case 1: // the beginning of an answer
		_, _ = io.WriteString(c, getKey("user.big")+getKey("user.small"))
		b := make([]byte, 1+rand.IntN(200_000))
		n, err := io.ReadFull(c.r, b)
		_, body, _ := strings.Cut(string(b[:n]), "\r\n\r\n")
		if err != nil || !strings.HasPrefix(secret, body) {
			return fmt.Errorf("the beginning of an answer is wrong: %v", err)
		}
	case 2: // events
		_, _ = io.WriteString(c, "GET /1.0/events HTTP/1.1\r\nHost: a\r\n\r\n")
		if _, err := c.read("GET"); err != nil {
			return err
		}
		for range rand.IntN(3) {
			line, err := c.r.ReadString('\n')
			if err != nil || !strings.Contains(line, `"value":"`+name+" ") {
				return fmt.Errorf("event %q, %v", line, err)
			}
		}
	default: // nothing
		_, _ = io.WriteString(c, getKey("user.big")[:rand.IntN(10)])
	}
	return nil
}

// TestFaultEndsWithTheBacklog: the connection limit is no matter any more when the backlog is empty, also where a turn of accepting ended with it, and
// where the loop that accepts has no connections itself.
func TestFaultEndsWithTheBacklog(t *testing.T) {
	for _, loops := range []int{1, 2} {
		r := newIdleRig(t, Options{Loops: loops, HeaderTimeout: time.Hour})
		r.log.expect("accept paused")
		r.container("c1", nil)
		l := r.accepting()
		l.nextLoop = loops - 1
		l.pauseAccept(nil)
		const turn = (acceptWork + adoptWork - 1) / adoptWork
		for range turn {
			r.dial("c1")
		}
		l.resumeAccept()
		if n := l.stats.accepted.Load(); n != turn || l.acceptPaused || !r.srv.faults.Active(fault.ConnectionLimit) {
			t.Fatalf("%d loops: %d accepted, paused %v, fault %v; want a turn of %d and the fault", loops, n, l.acceptPaused, r.srv.faults.Active(fault.ConnectionLimit), turn)
		}
		if !l.ticking {
			t.Fatalf("%d loops: nothing wakes the loop to find that the backlog is empty", loops)
		}
		eventually(t, "the fault is over", func() bool {
			if err := l.goAround(false); err != nil {
				t.Fatal(err)
			}
			return !r.srv.faults.Active(fault.ConnectionLimit)
		})
		if l.backlog {
			t.Errorf("%d loops: more is expected in an empty backlog", loops)
		}
	}
}
