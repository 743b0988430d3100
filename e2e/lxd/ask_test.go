package lxd

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// answerTime bounds the wait for an answer; no answer at all is one as well.
	answerTime = 5 * time.Second
	// longBody is from where on a body is shown by its length and hash.
	longBody = 512
)

// question is what is sent on a connection of its own.
type question struct {
	name string
	send string
	// methods are those of the requests in send: an answer to HEAD has no body, whatever its head says.
	methods []string
	// status: only that of each answer is compared, not in which words a parser of HTTP complains.
	status bool
}

// get asks for a path as a browser does not: unchanged.
func get(path string, headers ...string) question { return request("GET", path, headers...) }

// request asks with a method and without a body.
func request(method, path string, headers ...string) question {
	name := method + " " + path
	if len(headers) > 0 {
		name += ", " + strings.Join(headers, ", ")
	}
	return question{name: name, send: head(method, path, headers...), methods: []string{method}}
}

func head(method, path string, headers ...string) string {
	return method + " " + path + " HTTP/1.1\r\nHost: lxd\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n"
}

// patch asks with a body.
func patch(path, body string) question {
	return question{name: strings.TrimSpace("PATCH " + path + " " + strings.ReplaceAll(body, " ", "_")),
		send: head("PATCH", path, "Content-Length: "+strconv.Itoa(len(body))) + body, methods: []string{"PATCH"}}
}

// raw asks with exactly these lines.
func raw(name string, lines ...string) question {
	return question{name: name, send: strings.Join(lines, "\r\n"), methods: []string{"GET"}}
}

// ask sends a question and writes the answers, and whether the connection can be used after them, on one line.
func ask(conn net.Conn, q question) string {
	said, in, err := exchange(conn, q)
	if err != nil {
		return said
	}
	state := "open"
	_ = conn.SetDeadline(time.Now().Add(answerTime))
	if _, err = io.WriteString(conn, head("GET", "/1.0")); err == nil {
		_, err = readAnswer(in, "GET", true)
	}
	if err != nil {
		state = reason(err)
	}
	return said + " [" + state + "]"
}

// askOn asks on a connection that is kept.
func askOn(conn net.Conn, q question) string {
	said, _, _ := exchange(conn, q)
	return said
}

// keepOpen asks something on conn now and then until change returns: the daemons take up to a minute for a change, and a connection that is
// idle for half of that is closed. A Fatal in change ends it too.
func keepOpen(conn net.Conn, change func()) {
	done := make(chan struct{})
	var asker sync.WaitGroup
	asker.Go(func() {
		ticker := time.NewTicker(10 * time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				askOn(conn, get("/"))
			case <-done:
				return
			}
		}
	})
	defer asker.Wait()
	defer close(done)
	change()
}

// exchange sends a question and describes its answers.
func exchange(conn net.Conn, q question) (string, *bufio.Reader, error) {
	_ = conn.SetDeadline(time.Now().Add(answerTime))
	in := bufio.NewReader(conn)
	if _, err := io.WriteString(conn, q.send); err != nil {
		return "not taken: " + reason(err), in, err
	}
	var said []string
	for _, method := range q.methods {
		answer, err := readAnswer(in, method, q.status)
		said = append(said, answer)
		if err != nil {
			return strings.Join(said, " / "), in, err
		}
	}
	return strings.Join(said, " / "), in, nil
}

// reason is an error of a connection without what differs from run to run.
func reason(err error) string {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "nothing within " + answerTime.String()
	}
	return "closed" // whether by FIN or, since something was unread, by RST
}

// readAnswer reads one answer and describes it; if it is an error and only its status matters, by that.
func readAnswer(in *bufio.Reader, method string, status bool) (string, error) {
	resp, err := http.ReadResponse(in, &http.Request{Method: method})
	if err != nil {
		return reason(err), err
	}
	if resp.StatusCode == http.StatusContinue {
		rest, err := readAnswer(in, method, status)
		return "100, " + rest, err
	}
	text := describeHead(resp)
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return text, nil
	}
	body, err := io.ReadAll(resp.Body)
	if _, params, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); params["boundary"] != "" {
		body = bytes.ReplaceAll(body, []byte(params["boundary"]), []byte("B"))
	}
	if method != "HEAD" {
		text += " " + describeBody(body)
	}
	if status && resp.StatusCode >= http.StatusBadRequest {
		text = strconv.Itoa(resp.StatusCode)
	}
	if err != nil {
		return text + " " + reason(err), err
	}
	return text, nil
}

// framing are headers that say how the body is carried, or differ from run to run.
var framing = []string{"Date", "Content-Type", "X-Content-Type-Options", "Content-Length", "Connection", "Last-Modified"}

func describeHead(resp *http.Response) string {
	text := strconv.Itoa(resp.StatusCode)
	if want := http.StatusText(resp.StatusCode); resp.Status != text+" "+want {
		text = resp.Status
	}
	if kind := resp.Header.Get("Content-Type"); kind != "" {
		text += " " + boundary.ReplaceAllString(kind, "boundary=B")
	}
	if resp.Header.Get("X-Content-Type-Options") == "nosniff" {
		text += " nosniff"
	}
	if len(resp.TransferEncoding) > 0 {
		text += " chunked"
	}
	if resp.Header.Get("Date") == "" && resp.StatusCode != http.StatusSwitchingProtocols && resp.StatusCode != http.StatusBadRequest {
		text += " without Date"
	}
	names := make([]string, 0, len(resp.Header))
	for name := range resp.Header {
		if !slices.Contains(framing, name) || name == "Last-Modified" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		value := resp.Header.Get(name)
		if name == "Last-Modified" {
			value = "T"
		}
		text += " " + name + ": " + value
	}
	return text
}

// boundary is that of parts, which is another each time.
var boundary = regexp.MustCompile(`boundary=[0-9a-f]+`)

// describeBody shows a body on one line. LXD and Incus list config keys in random order.
func describeBody(body []byte) string {
	var list []string
	if bytes.HasPrefix(body, []byte(`["/1.0/config/`)) && json.Unmarshal(body, &list) == nil {
		slices.Sort(list)
		return fmt.Sprintf("%q", list)
	}
	if len(body) > longBody {
		return fmt.Sprintf("%d bytes %x", len(body), sha256.Sum256(body))
	}
	return strconv.Quote(string(body))
}
