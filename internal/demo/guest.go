package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"devlxd/internal/sandbox"
)

// guestSocket is where a container sees the socket of the server.
const guestSocket = "/dev/lxd/sock"

// maxBody is how many bytes of a body are reported, and not only counted.
const maxBody = 64 << 10

// Roles returns what runs inside of the containers, for sandbox.Main.
func Roles() map[string]sandbox.Role {
	return map[string]sandbox.Role{
		"ask":    role(askRole),
		"events": role(eventsRole),
		"lend":   role(lendRole),
		"borrow": role(borrowRole),
	}
}

// role makes the exit code out of an error, which goes to standard error.
func role(f func(args []string) error) sandbox.Role {
	return func(args []string) int {
		if err := f(args); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
}

// guestClient is net/http on the guest socket, with a connection for each request: a
// connection keeps the identity that it was made with.
func guestClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", guestSocket)
		},
	}}
}

// askRole sends the requests of an order and prints a report.
func askRole(args []string) error {
	var o order
	if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
		return err
	}
	if o.Comm != "" {
		if err := os.WriteFile("/proc/self/comm", []byte(o.Comm), 0); err != nil {
			return err
		}
	}
	if o.Cgroup != "" {
		if err := enterCgroup(o.Cgroup); err != nil {
			return err
		}
	}
	r := report{Self: lookAtSelf()}
	for _, req := range o.Requests {
		a, err := send(guestClient(), "http://lxd", req)
		if err != nil {
			return err
		}
		r.Answers = append(r.Answers, a)
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

func enterCgroup(name string) error {
	dir := filepath.Join("/sys/fs/cgroup", name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0)
}

// lookAtSelf leaves out what cannot be read.
func lookAtSelf() self {
	s := self{PID: os.Getpid(), UID: os.Getuid(), Comm: readText("/proc/self/comm")}
	s.Cmdline = strings.Join(strings.Split(strings.TrimRight(readText("/proc/self/cmdline"), "\x00"), "\x00"), " ")
	for line := range strings.Lines(readText("/proc/self/cgroup")) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			s.Cgroup = strings.TrimSpace(path)
		}
	}
	s.UserNS, _ = os.Readlink("/proc/self/ns/user")
	return s
}

func readText(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(text), "\n")
}

// send sends one request and reads the answer to its end.
func send(c *http.Client, base string, r request) (answer, error) {
	req, err := http.NewRequest(r.Method, base+r.Path, strings.NewReader(r.Body))
	if err != nil {
		return answer{}, err
	}
	for name, value := range r.Header {
		if name == "Host" {
			req.Host = value
		}
		req.Header.Set(name, value)
	}
	resp, err := c.Do(req)
	if err != nil {
		return answer{}, err
	}
	return readAnswer(resp)
}

func readAnswer(resp *http.Response) (answer, error) {
	defer resp.Body.Close()
	sum := sha256.New()
	var head bytes.Buffer
	body := io.TeeReader(resp.Body, sum)
	first, err := io.CopyN(&head, body, maxBody)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err != nil {
		return answer{}, err
	}
	rest, err := io.Copy(io.Discard, body)
	if err != nil {
		return answer{}, err
	}
	return answer{
		Status: resp.StatusCode, Type: resp.Header.Get("Content-Type"), Body: head.String(),
		Size: first + rest, SHA256: hex.EncodeToString(sum.Sum(nil)),
	}, nil
}
