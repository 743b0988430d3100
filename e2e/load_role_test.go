package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// loadResult is what the role "load" prints.
type loadResult struct {
	Events   uint64 // read by all subscribers
	Requests uint64
	Failures []string // of any kind; at most a few
}

// load is the role at work.
type load struct {
	events, requests atomic.Uint64
	mu               sync.Mutex
	failures         []string
	subscribed       sync.WaitGroup
}

func (l *load) fail(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.failures) < 10 {
		l.failures = append(l.failures, fmt.Sprintf(format, args...))
	}
}

// loadRole subscribes N times and asks R times a second, half of that on connections of their own, until each subscriber has got
// the event of user.end: load N R. Each subscriber must get user.n from 0 on, each number once and in order. It says "subscribed" on
// standard error when all are.
func loadRole(args []string) int {
	subscribers, err := strconv.Atoi(args[0])
	if err != nil {
		return fail(err)
	}
	rate, err := strconv.Atoi(args[1])
	if err != nil {
		return fail(err)
	}
	var l load
	var all, askers sync.WaitGroup
	l.subscribed.Add(subscribers)
	for i := range subscribers {
		all.Go(func() {
			if err := l.subscribe(); err != nil {
				l.fail("subscriber %d: %v", i, err)
			}
		})
	}
	l.subscribed.Wait()
	stop := make(chan struct{})
	const workers = 8
	for i := range workers {
		askers.Go(func() { l.ask(i%2 == 0, time.Second*workers/time.Duration(rate), stop) })
	}
	fmt.Fprintln(os.Stderr, "subscribed")
	all.Wait()
	close(stop)
	askers.Wait()
	return print(loadResult{Events: l.events.Load(), Requests: l.requests.Load(), Failures: l.failures})
}

// subscribe reads events until the last one.
func (l *load) subscribe() error {
	var once sync.Once
	defer once.Do(l.subscribed.Done)
	conn, err := net.Dial("unix", guestSocket)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = io.WriteString(conn, "GET /1.0/events HTTP/1.1\r\nHost: lxd\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if err != nil {
		return err
	}
	r := bufio.NewReaderSize(conn, 512)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 {
		return fmt.Errorf("handshake: %v, %v", resp, err)
	}
	once.Do(l.subscribed.Done)
	for next := 0; ; {
		opcode, payload, err := readFrame(r)
		if err != nil {
			return fmt.Errorf("after %d events: %w", next, err)
		}
		switch opcode {
		case 1:
		case 9:
			// A pong with a mask of zeros.
			if _, err := conn.Write([]byte{0x8a, 0x80, 0, 0, 0, 0}); err != nil {
				return err
			}
			continue
		default:
			return fmt.Errorf("after %d events: frame %d %q", next, opcode, payload)
		}
		var e struct {
			Metadata struct{ Key, Value string }
		}
		if err := json.Unmarshal(payload, &e); err != nil {
			return err
		}
		l.events.Add(1)
		if e.Metadata.Key == "user.end" {
			return nil
		}
		if e.Metadata.Value != strconv.Itoa(next) {
			return fmt.Errorf("event %q where %d was due: lost, doubled or out of order", e.Metadata.Value, next)
		}
		next++
	}
}

// readFrame reads one frame of a server.
func readFrame(r *bufio.Reader) (opcode byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	length := int(head[1])
	if length == 126 {
		var long [2]byte
		if _, err := io.ReadFull(r, long[:]); err != nil {
			return 0, nil, err
		}
		length = int(long[0])<<8 | int(long[1])
	} else if length > 126 {
		return 0, nil, errors.New("a frame of more than 65535 bytes")
	}
	payload = make([]byte, length)
	_, err = io.ReadFull(r, payload)
	return head[0] & 0xf, payload, err
}

// ask makes a request in each interval, on one connection or each on its own.
func (l *load) ask(keep bool, interval time.Duration, stop <-chan struct{}) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var conn net.Conn
	var r *bufio.Reader
	for {
		select {
		case <-tick.C:
		case <-stop:
			return
		}
		if conn == nil || !keep {
			var err error
			if conn, err = net.Dial("unix", guestSocket); err != nil {
				l.fail("connect refused: %v", err)
				return
			}
			defer conn.Close()
			r = bufio.NewReader(conn)
		}
		if err := roundTrip(conn, r); err != nil {
			l.fail("request, kept %v: %v", keep, err)
			return
		}
		l.requests.Add(1)
		if !keep {
			_ = conn.Close()
		}
	}
}

func roundTrip(conn net.Conn, r *bufio.Reader) error {
	if _, err := io.WriteString(conn, "GET /1.0/config/user.name HTTP/1.1\r\nHost: lxd\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != 200 || !strings.HasPrefix(string(body), "u") {
		return fmt.Errorf("%s %q", resp.Status, body)
	}
	return nil
}
