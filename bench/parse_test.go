package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"devlxd/httpparse"
)

// parseInputs: the first is what curl sends, the second what a browser sends, then the two ways for a request to be long.
func parseInputs() []struct{ name, text string } {
	return []struct{ name, text string }{
		{"curl", "GET /1.0/config/user.foo HTTP/1.1\r\nHost: lxd\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n"},
		{"browser", "GET /1.0/events?type=config,device HTTP/1.1\r\n" +
			"Host: localhost:8080\r\n" +
			"Connection: keep-alive\r\n" +
			"sec-ch-ua: \"Chromium\";v=\"124\", \"Not-A.Brand\";v=\"99\"\r\n" +
			"sec-ch-ua-mobile: ?0\r\n" +
			"sec-ch-ua-platform: \"Linux\"\r\n" +
			"Upgrade-Insecure-Requests: 1\r\n" +
			"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36\r\n" +
			"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n" +
			"Sec-Fetch-Site: none\r\n" +
			"Sec-Fetch-Mode: navigate\r\n" +
			"Sec-Fetch-User: ?1\r\n" +
			"Sec-Fetch-Dest: document\r\n" +
			"Accept-Encoding: gzip, deflate, br, zstd\r\n" +
			"Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n" +
			"Cookie: id=0123456789abcdef0123456789abcdef; theme=dark\r\n" +
			"\r\n"},
		{"long-target", "GET /" + strings.Repeat("a", httpparse.MaxTarget-1) + " HTTP/1.1\r\nHost: lxd\r\n\r\n"},
		{"long-fields", "GET /1.0 HTTP/1.1\r\nHost: lxd\r\n" + strings.Repeat("X-Some-Field: "+strings.Repeat("0123456789abcdef", 24)+"\r\n", 30) + "\r\n"},
	}
}

// parseContests parses request heads. The rivals read from a bufio.Reader, which is what they offer, with room for the whole
// head, so they copy it once, where devlxd parses it in the buffer that read(2) filled. Neither of them refuses all that
// devlxd refuses; net/http splits the target into a URL besides, and makes a map of the fields.
func parseContests(testing.TB, []int) (contests []contest) {
	for _, in := range parseInputs() {
		raw := []byte(in.text)
		contests = append(contests, contest{name: in.name, bytes: int64(len(raw)), ways: []way{
			{name: "devlxd", free: true, run: parseHere(raw)},
			{name: "fasthttp", run: parseFasthttp(raw)},
			{name: "nethttp", run: parseNetHTTP(raw)},
		}})
	}
	return contests
}

func parseHere(raw []byte) func(int) error {
	var p httpparse.Parser
	var req httpparse.Request
	return func(n int) error {
		for range n {
			if used, err := p.Head(raw, &req); err != nil || used != len(raw) {
				return fmt.Errorf("used %d of %d bytes: %v", used, len(raw), err)
			}
		}
		return nil
	}
}

func parseFasthttp(raw []byte) func(int) error {
	src := bytes.NewReader(nil)
	br := bufio.NewReaderSize(src, httpparse.MaxHead)
	var h fasthttp.RequestHeader
	return func(n int) error {
		for range n {
			src.Reset(raw)
			br.Reset(src)
			if err := h.Read(br); err != nil {
				return err
			}
		}
		return nil
	}
}

func parseNetHTTP(raw []byte) func(int) error {
	src := bytes.NewReader(nil)
	br := bufio.NewReaderSize(src, httpparse.MaxHead)
	return func(n int) error {
		for range n {
			src.Reset(raw)
			br.Reset(src)
			if _, err := http.ReadRequest(br); err != nil {
				return err
			}
		}
		return nil
	}
}
