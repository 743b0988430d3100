package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"devlxd/internal/daemontest"
	"devlxd/internal/sandbox"
)

// running is a guest that runs while the test goes on.
type running struct {
	t      *testing.T
	cmd    *sandbox.Cmd
	stdout bytes.Buffer
	stderr daemontest.Buffer
}

// background starts a guest and waits until it has subscribed.
func background(t *testing.T, cmd func(context.Context) *sandbox.Cmd) *running {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	r := &running{t: t, cmd: cmd(ctx)}
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(60 * time.Second); !strings.Contains(r.stderr.String(), "subscribed"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the guest did not subscribe: %s", r.stderr.String())
		}
	}
	return r
}

// result waits for the guest and decodes what it printed.
func (r *running) result(v any) {
	r.t.Helper()
	if err := r.cmd.Wait(); err != nil {
		r.t.Fatalf("%v: %s", err, r.stderr.String())
	}
	if err := json.Unmarshal(r.stdout.Bytes(), v); err != nil {
		r.t.Fatalf("guest printed %q: %v", r.stdout.String(), err)
	}
}

func TestEventsReachTheGuestInOrder(t *testing.T) {
	d := serve(t)
	web, db := d.Bound("web", "user.n=start"), d.Bound("db")
	const changes = 40
	sub := background(t, func(ctx context.Context) *sandbox.Cmd {
		return web.Guest(ctx, "events", "?position=true", fmt.Sprint(changes+4))
	})
	other := background(t, func(ctx context.Context) *sandbox.Cmd { return db.Guest(ctx, "events", "", "1") })
	for i := range changes {
		d.CLI("config", "set", "web", fmt.Sprintf("user.n=%d", i))
	}
	d.CLI("config", "set", "web", "user.b=2", "user.a=1", "security.devlxd.images=true")
	d.CLI("device", "add", "web", "kvm", "unix-char", "path=/dev/kvm")
	d.CLI("device", "remove", "web", "kvm")
	d.CLI("config", "set", "db", "user.db=only")
	var got eventsResult
	sub.result(&got)
	if len(got.Events) != changes+4 {
		t.Fatalf("got %d events (%s), want %d", len(got.Events), got.End, changes+4)
	}
	epoch, _, _ := strings.Cut(got.Start, ".")
	old := "start"
	for i, e := range got.Events {
		if want := fmt.Sprintf("%s.%d", epoch, i+1); e.Position != want {
			t.Errorf("event %d has position %q, want %q", i, e.Position, want)
		}
		if i < changes {
			if e.Metadata["value"] != fmt.Sprint(i) || e.Metadata["old_value"] != old || e.Metadata["key"] != "user.n" {
				t.Errorf("event %d is %v", i, e)
			}
			old = fmt.Sprint(i)
		}
	}
	tail := got.Events[changes:]
	if tail[0].Metadata["key"] != "user.a" || tail[1].Metadata["key"] != "user.b" {
		t.Errorf("one change of two keys came as %v, %v; want them sorted, and none for security.*", tail[0], tail[1])
	}
	if tail[2].Metadata["action"] != "added" || tail[3].Metadata["action"] != "removed" || tail[2].Type != "device" {
		t.Errorf("device events: %v, %v", tail[2], tail[3])
	}
	var foreign eventsResult
	other.result(&foreign)
	if len(foreign.Events) != 1 || foreign.Events[0].Metadata["key"] != "user.db" {
		t.Errorf("the other container got %v", foreign.Events)
	}
}

func TestResumeAfterPosition(t *testing.T) {
	d := serve(t)
	web := d.Bound("web")
	sub := background(t, func(ctx context.Context) *sandbox.Cmd { return web.Guest(ctx, "events", "?position=true", "2") })
	for i := range 5 {
		d.CLI("config", "set", "web", fmt.Sprintf("user.n=%d", i))
	}
	var first, rest eventsResult
	sub.result(&first)
	guest(t, web, &rest, "events", "?since="+first.Events[1].Position, "3")
	for i, e := range rest.Events {
		if e.Metadata["value"] != fmt.Sprint(i+2) {
			t.Errorf("resumed event %d is %v", i, e)
		}
	}
	gone := parseAnswer(in(t, web, curlArgs("/1.0/events?since=0123456789abcdef.1")...))
	if !strings.HasPrefix(gone.status, "410 ") {
		t.Errorf("another epoch: %+v", gone)
	}
}

// keepAlive is a guest with one connection that it keeps.
type keepAlive struct {
	t   *testing.T
	in  *os.File
	out *bufio.Reader
}

func holdConnection(t *testing.T, c *sandbox.Container, path string) *keepAlive {
	t.Helper()
	theirs, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	back, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	cmd := c.Guest(ctx, "keep-alive", path)
	cmd.Stdin, cmd.Stdout = theirs, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	t.Cleanup(func() {
		ours.Close()
		_ = cmd.Wait() // the container may be gone, which is what some tests are about
		cancel()
		out.Close()
		back.Close()
	})
	return &keepAlive{t, ours, bufio.NewReader(back)}
}

// ask sends one request on the kept connection.
func (k *keepAlive) ask() string {
	k.t.Helper()
	if _, err := fmt.Fprintln(k.in, "go"); err != nil {
		k.t.Fatal(err)
	}
	line, err := k.out.ReadString('\n')
	if err != nil {
		k.t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func TestSwitchingTheAPIOffWorksAtOnce(t *testing.T) {
	d := serve(t)
	web := d.Bound("web", "user.a=1")
	held := holdConnection(t, web, "/1.0/config/user.a")
	if got := held.ask(); got != "200 1" {
		t.Fatalf("got %q", got)
	}
	sub := background(t, func(ctx context.Context) *sandbox.Cmd { return web.Guest(ctx, "events", "", "1") })
	d.CLI("config", "set", "web", "security.devlxd=false")
	if got := held.ask(); got != "403 not authorized" {
		t.Errorf("on the open connection: %q", got)
	}
	var ended eventsResult
	sub.result(&ended)
	if len(ended.Events) != 0 || !strings.HasPrefix(ended.End, "1008") {
		t.Errorf("the event stream ended with %q after %d events, want 1008", ended.End, len(ended.Events))
	}
	d.CLI("config", "unset", "web", "security.devlxd")
	if got := held.ask(); got != "200 1" {
		t.Errorf("switched on again: %q", got)
	}
}
