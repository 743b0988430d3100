package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"devlxd/internal/sandbox"
)

// exchange is a request with the answer that it must get.
type exchange struct {
	request
	want answer
}

// curl is the shell line that sends a request from inside of a container.
func curl(r request) string { return curlTo(guestSocket, r) }

func curlTo(socket string, r request) string {
	argv := []string{"curl", "--unix-socket", socket}
	for _, name := range []string{"Host", "X-Container"} {
		if value, ok := r.Header[name]; ok {
			argv = append(argv, "-H", name+": "+value)
		}
	}
	if r.Method != "GET" {
		argv = append(argv, "-X", r.Method, "-d", r.Body)
	}
	return quoteAll(append(argv, "http://lxd"+r.Path))
}

// readReport starts the guest and reads what it reports.
func readReport(guest *sandbox.Cmd) (report, error) {
	var r report
	out, err := guest.Output()
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return r, fmt.Errorf("a guest reported %q: %w", out, err)
	}
	return r, nil
}

// ask runs an order in a container. The process can be changed before it starts.
func (t *Tour) ask(ctx context.Context, name string, o order, change func(*sandbox.Cmd)) (report, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return report{}, err
	}
	guest := t.boxes[name].Guest(ctx, "ask", string(text))
	if change != nil {
		change(guest)
	}
	r, err := readReport(guest)
	if err == nil && len(r.Answers) != len(o.Requests) {
		err = fmt.Errorf("container %s: %d answers to %d requests", name, len(r.Answers), len(o.Requests))
	}
	return r, err
}

// exchange has a container ask, and prints and checks each answer.
func (t *Tour) exchange(ctx context.Context, name string, list ...exchange) error {
	var o order
	for _, e := range list {
		o.Requests = append(o.Requests, e.request)
	}
	r, err := t.ask(ctx, name, o, nil)
	if err != nil {
		return err
	}
	for i, e := range list {
		t.p.shell(name, curl(e.request))
		if err := t.verify(name, e, r.Answers[i], ""); err != nil {
			return err
		}
	}
	return nil
}

// maxShown bounds the bytes of a wrong answer in an error.
const maxShown = 200

// verify prints and checks one answer.
func (t *Tour) verify(who string, e exchange, got answer, remark string) error {
	if got.Status != e.want.Status || got.Type != e.want.Type || got.Body != e.want.Body {
		return fmt.Errorf("%s: %s %s was answered %d %s %q, must be %d %s %q", who, e.Method, e.Path,
			got.Status, got.Type, got.Body[:min(len(got.Body), maxShown)], e.want.Status, e.want.Type, e.want.Body)
	}
	body := strings.TrimRight(got.Body, "\n")
	if body == "" {
		body = "(no body)"
	}
	if remark != "" {
		body += "   (" + remark + ")"
	}
	t.p.check("%s %s", strconv.Itoa(got.Status), body)
	return nil
}
