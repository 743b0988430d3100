package server

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devlxd/httpparse/parsetest"
)

// smuggled is what no answer may ever hold: the value of the key that the cases of smuggling.http ask for.
const smuggled = "smuggled-value"

// TestConformance runs the HTTP cases of httpparse against a live server over its socket: whole, line by line and byte by byte.
func TestConformance(t *testing.T) {
	cases, err := parsetest.Load(filepath.Join("..", "httpparse", "testdata"))
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, Options{Loops: 1})
	r.container("c1", map[string]string{"user.smuggled": smuggled})
	for i := range cases {
		c := &cases[i]
		t.Run(c.Name(), func(t *testing.T) {
			for name, pieces := range map[string][][]byte{
				"whole": {c.Raw}, "line by line": bytes.SplitAfter(c.Raw, []byte("\n")), "byte by byte": bytewise(c.Raw),
			} {
				if got, want := r.play(t, c, pieces), servedText(c.Served); got != want {
					t.Errorf("%s: served %s; want %s", name, got, want)
				}
			}
		})
	}
}

// bytewise cuts b into bytes. A long b is about a limit: only its last bytes come one by one.
func bytewise(b []byte) (pieces [][]byte) {
	const long, step, last = 2 << 10, 997, 16
	for whole := len(b); len(b) > 0; {
		n := 1
		if whole > long && len(b) > last {
			n = min(step, len(b)-last)
		}
		pieces, b = append(pieces, b[:n]), b[n:]
	}
	return pieces
}

// servedText is the line of the case file.
func servedText(s parsetest.Served) string {
	return strings.TrimPrefix(fmt.Sprintf("%s %s", strings.Trim(fmt.Sprint(s.Statuses), "[]"), s.End), " ")
}

// play sends the pieces of a case, then shuts down its side and says what the server made of it. The server's own reason for the end
// tells whether it had closed, was ready for another request or was waiting for the rest of one; if it is said to be ready, it is asked.
func (r *rig) play(t *testing.T, c *parsetest.Case, pieces [][]byte) string {
	t.Helper()
	const probe = "GET /1.0/config/user.nothing HTTP/1.1\r\nHost: lxd\r\n\r\n"
	if c.Served.End == parsetest.Open {
		pieces = append(slices.Clip(pieces), []byte(probe))
	}
	before := r.closedByReason()
	conn := r.dial("c1")
	for _, piece := range pieces {
		if _, err := conn.Write(piece); err != nil {
			break // the server has closed
		}
		r.srv.loops[0].call(func() {}) // so that the pieces are read one by one
	}
	_ = conn.CloseWrite()
	got, err := io.ReadAll(conn.r)
	if err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Fatalf("after %.200q: %v", got, err)
	}
	if bytes.Contains(got, []byte(smuggled)) {
		t.Errorf("a smuggled request was answered: %.1000q", got)
	}
	var reason CloseReason
	eventually(t, "the connection is closed", func() bool {
		for i, n := range r.closedByReason() {
			if n != before[i] {
				reason = CloseReason(i)
				return true
			}
		}
		return false
	})
	statuses, upgraded := readStatuses(t, c, got)
	served := parsetest.Served{Statuses: statuses, End: endOf(reason)}
	switch {
	case served.End != parsetest.Open:
	case upgraded:
		served.End = parsetest.Upgraded
	case c.Served.End == parsetest.Open && len(statuses) > 0:
		served.Statuses = statuses[:len(statuses)-1] // that of the probe
	}
	return servedText(served)
}

func (r *rig) closedByReason() (counts [numCloseReasons]uint64) {
	for i := range counts {
		counts[i] = r.closed(CloseReason(i))
	}
	return counts
}

// endOf gives what the client saw. A reason that no case should bring about is given as it is.
func endOf(reason CloseReason) parsetest.End {
	switch reason {
	case CloseClient:
		return parsetest.Open
	case CloseTruncated:
		return parsetest.Wait
	case CloseBadRequest, CloseDone, CloseData, CloseProtocol, CloseWebsocket:
		return parsetest.Close
	}
	return parsetest.End(reason.String())
}

// readStatuses takes the answers apart, and says whether the last one is the beginning of another protocol. The one to a refused request
// must say why.
func readStatuses(t *testing.T, c *parsetest.Case, got []byte) (statuses []int, upgraded bool) {
	t.Helper()
	answers := bufio.NewReader(bytes.NewReader(got))
	for i := 0; !upgraded; i++ {
		if _, err := answers.Peek(1); err != nil {
			break
		}
		v := &parsetest.Verdict{}
		if i < len(c.Verdicts) {
			v = &c.Verdicts[i]
		}
		resp, err := http.ReadResponse(answers, &http.Request{Method: v.Get("method")})
		if err != nil {
			t.Fatalf("answer %d of %.1000q: %v", i, got, err)
		}
		statuses = append(statuses, resp.StatusCode)
		if upgraded = resp.StatusCode == http.StatusSwitchingProtocols || resp.ContentLength < 0; upgraded {
			break
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("body %d of %.1000q: %v", i, got, err)
		}
		if v.Kind == "refuse" && resp.StatusCode == v.Status && !strings.Contains(string(body), v.Words) {
			t.Errorf("refused with %q; want %q", body, v.Words)
		}
		if resp.StatusCode == http.StatusContinue {
			i-- // the same request is answered once more
		}
	}
	return statuses, upgraded
}
