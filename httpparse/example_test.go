package httpparse_test

import (
	"errors"
	"fmt"
	"time"

	"devlxd/httpparse"
)

// conn is what a connection keeps while a request is incomplete. The Request belongs to
// the loop, which uses one for all its connections.
type conn struct {
	parser httpparse.Parser
	body   httpparse.Body
	inBody bool
	unread []byte
}

// arrive takes bytes as they come from the socket.
func (c *conn) arrive(bytes string, req *httpparse.Request) error {
	c.unread = append(c.unread, bytes...)
	for {
		var data []byte
		var n int
		var err error
		if c.inBody {
			data, n, err = c.body.Next(c.unread)
			fmt.Printf("body %q\n", data)
		} else if n, err = c.parser.Head(c.unread, req); err == nil {
			fmt.Printf("head %s %s\n", req.Method, req.Path)
			c.body = req.Body()
		}
		if err != nil {
			return err
		}
		c.unread = c.unread[n:]
		if c.inBody = !c.body.Done(); !c.inBody {
			fmt.Println("done")
		}
	}
}

func Example() {
	var c conn
	var req httpparse.Request
	for _, bytes := range []string{
		"PATCH /1.0 HT",
		"TP/1.1\r\nHost: lxd\r\nContent-Length: 17\r\n\r\n{\"state\"",
		":\"Ready\"}GET / HTTP/1.1\r\nHost : lxd\r\n",
	} {
		err := c.arrive(bytes, &req)
		fmt.Println(err)
		if refused := (*httpparse.Error)(nil); errors.As(err, &refused) {
			fmt.Printf("%q\n", httpparse.AppendStatus(nil, refused.Status))
		}
	}
	// Output:
	// request is incomplete: more bytes are needed
	// head PATCH /1.0
	// body "{\"state\""
	// body ""
	// request is incomplete: more bytes are needed
	// body ":\"Ready\"}"
	// done
	// white space between field name and colon: remove it
	// "HTTP/1.1 400 Bad Request\r\n"
}

func ExampleDate() {
	var date httpparse.Date // one for each loop
	head := httpparse.AppendStatus(nil, 200)
	head = date.Append(head, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	head = httpparse.AppendField(head, "Content-Type", "application/json")
	head = httpparse.AppendInt(head, "Content-Length", 9)
	head = append(head, "\r\n[\"/1.0\"]\n"...)
	fmt.Printf("%q\n", head)
	// Output: "HTTP/1.1 200 OK\r\nDate: Fri, 02 Jan 2026 03:04:05 GMT\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n[\"/1.0\"]\n"
}
