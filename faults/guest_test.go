package faults

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/internal/sandbox"
)

const guestSocket = "/dev/lxd/sock"

// roles are the guests that this test binary can be inside of a container.
var roles = map[string]sandbox.Role{"guest": guestRole}

// guestRole carries out orders from standard input, a line each, and answers each with a line:
//
//	get PATH    asks on a new connection                    CODE BODY
//	hold N      connects, asks, and does not read           held CONNECTED refused REFUSED
//	take N      reads an answer of the first N held ones    took RIGHT of N
//	            and closes them
//	leaf NAME   moves to a new cgroup below its container's  moved
//
// hold does not wait: a connect that would is refused by the kernel (EAGAIN).
func guestRole([]string) int {
	var held []int
	orders := bufio.NewScanner(os.Stdin)
	for orders.Scan() {
		var n int
		var text string
		line := orders.Text()
		switch {
		case scan(line, "get %s", &text):
			fmt.Println(get(text))
		case scan(line, "hold %d", &n):
			fds, refused := hold(n)
			held = append(held, fds...)
			fmt.Println("held", len(fds), "refused", refused)
		case scan(line, "take %d", &n):
			n = min(n, len(held))
			fmt.Println("took", take(held[:n]), "of", n)
			held = held[n:]
		case scan(line, "leaf %s", &text):
			fmt.Println(leaf(text))
		default:
			fmt.Fprintf(os.Stderr, "order %q is unknown\n", line)
			return 1
		}
	}
	return 0
}

// leaf moves this process to a new cgroup.
func leaf(name string) string {
	dir := "/sys/fs/cgroup/" + name
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(dir+"/cgroup.procs", []byte("0"), 0)); err != nil {
		return err.Error()
	}
	return "moved"
}

func scan(line, format string, v any) bool {
	n, err := fmt.Sscanf(line, format, v)
	return n == 1 && err == nil
}

const request = "GET /1.0/config/user.a HTTP/1.1\r\nHost: lxd\r\n\r\n"

// get asks on a connection of its own.
func get(path string) string {
	conn, err := net.Dial("unix", guestSocket)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, strings.Replace(request, "/1.0/config/user.a", path, 1)); err != nil {
		return err.Error()
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %s", resp.StatusCode, strings.TrimSpace(string(body)))
}

// hold opens n connections and sends a request on each.
func hold(n int) (fds []int, refused int) {
	for range n {
		fd, err := connect()
		switch {
		case err == nil:
			fds = append(fds, fd)
		case errors.Is(err, unix.EAGAIN):
			refused++
		default:
			fmt.Fprintln(os.Stderr, err)
			return fds, refused
		}
	}
	return fds, refused
}

func connect() (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: guestSocket}); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	if _, err := unix.Write(fd, []byte(request)); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, unix.SetNonblock(fd, false)
}

// take reads one whole answer of each connection, in the order in which they were made, and closes it. It counts the right ones.
func take(fds []int) (right int) {
	buf := make([]byte, 4096)
	for _, fd := range fds {
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(patience / time.Second)})
		n, err := unix.Read(fd, buf) // small: it comes at once or not at all
		for errors.Is(err, unix.EINTR) {
			n, err = unix.Read(fd, buf)
		}
		if text := string(buf[:max(n, 0)]); strings.HasPrefix(text, "HTTP/1.1 200 ") && strings.HasSuffix(text, "\r\n\r\n1") {
			right++
		} else {
			fmt.Fprintf(os.Stderr, "answer %q, %v\n", text, err)
		}
		_ = unix.Close(fd)
	}
	return right
}
