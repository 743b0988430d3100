package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"devlxd/internal/sandbox"
)

// listed is the state of a container in "container list".
func (d *daemon) listed(name string) string {
	d.t.Helper()
	var rows []struct{ Name, Status string }
	if err := json.Unmarshal([]byte(d.CLI("container", "list", "-f", "json")), &rows); err != nil {
		d.t.Fatal(err)
	}
	for _, r := range rows {
		if r.Name == name {
			return strings.ToLower(r.Status)
		}
	}
	return "absent"
}

func (d *daemon) waitState(name, want string) {
	d.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); d.listed(name) != want; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatalf("container %s is %s, want %s", name, d.listed(name), want)
		}
	}
}

func TestContainerThatEndsIsForgotten(t *testing.T) {
	need(t, "curl")
	d := serve(t)
	first := d.Bound("web", "user.a=1")
	d.waitState("web", "running")
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	d.waitState("web", "stopped")
	second := d.Container("web")
	if got := parseAnswer(in(t, second, curlArgs("/1.0/config/user.a")...)); !strings.HasPrefix(got.status, "500 ") {
		t.Errorf("a container of the same name that is not bound: %+v", got)
	}
	d.CLI("container", "bind", "web", "--pid", fmt.Sprint(second.PID()))
	if got := parseAnswer(in(t, second, curlArgs("/1.0/config/user.a")...)); got.body != "1" {
		t.Errorf("bound again: %+v", got)
	}
}

func TestRestartOfTheDaemon(t *testing.T) {
	need(t, "curl")
	d := serve(t)
	web := d.Bound("web", "user.a=1")
	sub := background(t, func(ctx context.Context) *sandbox.Cmd { return web.Guest(ctx, "events", "", "1") })
	d.Stop()
	var ended eventsResult
	sub.result(&ended)
	if !strings.HasPrefix(ended.End, "1001") {
		t.Errorf("the event stream ended with %q, want 1001", ended.End)
	}
	d.Start()
	if got := d.listed("web"); got != "running" {
		t.Errorf("after the restart the container is %s", got)
	}
	// The directory is mounted, so the new socket is there.
	if got := parseAnswer(in(t, web, curlArgs("/1.0/config/user.a")...)); got.body != "1" {
		t.Errorf("after the restart: %+v", got)
	}
}

func TestStateIsSetByTheGuest(t *testing.T) {
	need(t, "curl")
	d := serve(t, "--dialect", "incus")
	web := d.Bound("web")
	state := func() string {
		var api struct{ State string }
		if err := json.Unmarshal([]byte(parseAnswer(in(t, web, curlArgs("/1.0")...)).body), &api); err != nil {
			t.Fatal(err)
		}
		return api.State
	}
	if got := state(); got != "Started" {
		t.Errorf("at first: %s", got)
	}
	if got := parseAnswer(in(t, web, curlArgs("/1.0", "-X", "PATCH", "-d", `{"state":"Ready"}`)...)); got != (answer{"200 " + asRaw, ""}) {
		t.Errorf("PATCH: %+v", got)
	}
	if got := state(); got != "Ready" {
		t.Errorf("after PATCH: %s", got)
	}
	if got := parseAnswer(in(t, web, curlArgs("/1.0", "-X", "PATCH", "-d", `{"state":"foo"}`)...)); got != (answer{"400 " + asText, "Invalid state \"foo\"\n"}) {
		t.Errorf("PATCH of a wrong state: %+v", got)
	}
}

func TestImpostors(t *testing.T) {
	need(t, "curl")
	d := serve(t)
	d.Bound("victim", "user.secret=of-victim")
	evil := d.Bound("evil", "user.secret=of-evil")
	run := func(name string, change func(*sandbox.Cmd), argv ...string) answer {
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		defer cancel()
		cmd := evil.Command(ctx, argv...)
		change(cmd)
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return answer{}
		}
		return parseAnswer(string(out))
	}
	ask := curlArgs("/1.0/config/user.secret")
	t.Run("argv of a monitor", func(t *testing.T) {
		// CVE-2025-54288: the title that LXD once took for an identity.
		shell := []string{"bash", "-c", `exec -a "[lxc monitor] /var/lib/lxd/containers victim" bash -c '"$@"; exit $?' x "$@"`, "x"}
		if got := run(t.Name(), func(*sandbox.Cmd) {}, append(shell, ask...)...); got.body != "of-evil" {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("nested pid namespace", func(t *testing.T) {
		if got := run(t.Name(), func(c *sandbox.Cmd) { c.PidNS = true }, ask...); got.body != "of-evil" {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("user that is not root", func(t *testing.T) {
		got := run(t.Name(), func(c *sandbox.Cmd) { c.UID, c.GID = 1000, 1000 }, ask...)
		if got != (answer{"401 " + asText, "Access denied for non-root user\n"}) {
			t.Errorf("got %+v", got)
		}
	})
	for _, name := range []string{"lxc.payload.victim", "lxc.monitor.victim"} {
		t.Run("cgroup "+name, func(t *testing.T) {
			if evil.Cgroup() == "" {
				t.Skip("needs cgroup v2: the container has no cgroup of its own")
			}
			script := "mkdir -p /sys/fs/cgroup/" + name + " && echo $$ > /sys/fs/cgroup/" + name + "/cgroup.procs && exec \"$@\""
			if got := run(t.Name(), func(*sandbox.Cmd) {}, append([]string{"sh", "-c", script, "x"}, ask...)...); got.body != "of-evil" {
				t.Errorf("got %+v", got)
			}
		})
	}
}
