package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/internal/privilege"
	"devlxd/internal/sandbox"
	"devlxd/peer/peertest"
)

// Capabilities of a daemon.
const (
	capSearch = "CAP_DAC_READ_SEARCH"
	capPtrace = "CAP_SYS_PTRACE"
)

// request is one as a guest of peertest writes it.
const request = "GET /1.0/config/user.a HTTP/1.1\r\nHost: lxd\r\n\r\n"

// TestConfined runs a daemon as root starts it, as the unit does, as an ordinary user who was given two capabilities, and with all
// that root has: each holds what it should in every thread, and serves everything.
func TestConfined(t *testing.T) {
	need(t, "curl")
	peertest.Need(t, peertest.Root, peertest.Cgroup2, peertest.UserNS)
	const user = 1234
	root, err := privilege.Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	var kept []string
	for _, name := range root.Capabilities {
		if slices.ContainsFunc(privilege.Needs(lim.Max), func(n privilege.Need) bool { return n.Name() == name }) {
			kept = append(kept, name)
		}
	}
	two := []string{capSearch, capPtrace}
	for _, tt := range []struct {
		name   string
		args   []string
		change func(t *testing.T, d *daemon)
		want   privilege.State
	}{
		{"root", nil, func(_ *testing.T, d *daemon) { d.Change = func(*exec.Cmd) {} }, privilege.State{Capabilities: kept, Bounding: kept, NoNewPrivs: true}},
		{"unit", nil, func(t *testing.T, d *daemon) {
			c := readUnit(t).confinement(d)
			d.Change = func(cmd *exec.Cmd) { confined(cmd, c) }
		}, privilege.State{Capabilities: two, Bounding: two, NoNewPrivs: true}},
		{"user", nil, func(_ *testing.T, d *daemon) {
			d.chown(user)
			d.Change = func(cmd *exec.Cmd) { cmd.SysProcAttr = asUser(user, unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH) }
		}, privilege.State{Capabilities: two, Bounding: root.Bounding, NoNewPrivs: true}},
		{"all kept", []string{"--privileges", "keep"}, func(_ *testing.T, d *daemon) { d.Change = func(*exec.Cmd) {} }, privilege.State{Capabilities: root.Capabilities, Bounding: root.Bounding}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDaemon(t, tt.args...)
			if err := os.Chmod(filepath.Dir(d.RunDir), 0o711); err != nil { // for guests that see the host's files
				t.Fatal(err)
			}
			tt.change(t, d)
			d.Start()
			d.wantPrivileges(tt.want)
			d.serveEverything(user)
			d.wantPrivileges(tt.want)
			if d.hasThreadWithout("Seccomp:\t2") && tt.name == "unit" {
				t.Error("a thread is not under the filter of the unit")
			}
		})
	}
}

// wantPrivileges compares what all threads of the daemon hold with what they should, and what the commands say of it.
func (d *daemon) wantPrivileges(want privilege.State) {
	d.t.Helper()
	got, err := privilege.Of(d.Cmd.Process.Pid)
	if err != nil {
		d.t.Fatal(err)
	}
	if !slices.Equal(got.Capabilities, want.Capabilities) || !slices.Equal(got.Bounding, want.Bounding) || got.NoNewPrivs != want.NoNewPrivs {
		d.t.Errorf("the daemon holds\n%+v, want\n%+v", got, want)
	}
	var status struct {
		Privileges struct {
			Capabilities []string
			NoNewPrivs   bool `json:"no_new_privs"`
		}
	}
	if err := json.Unmarshal([]byte(d.CLI("status", "-f", "json")), &status); err != nil {
		d.t.Fatal(err)
	}
	if p := status.Privileges; !slices.Equal(p.Capabilities, want.Capabilities) || p.NoNewPrivs != want.NoNewPrivs {
		d.t.Errorf("status says %+v, want %+v", p, want)
	}
	line := fmt.Sprintf("daemon privileges,ok,\"pid %d: %s, no_new_privs\"", d.Cmd.Process.Pid, strings.Join(want.Capabilities, " "))
	if !want.NoNewPrivs {
		line = fmt.Sprintf("daemon privileges,warning,\"pid %d holds more than it needs (%d capabilities, no_new_privs false): start it without --privileges keep\"",
			d.Cmd.Process.Pid, len(want.Capabilities))
	}
	if out := d.CLI("doctor", "-f", "csv"); !strings.Contains(out, line+"\n") {
		d.t.Errorf("doctor says\n%s, want the line\n%s", out, line)
	}
}

// hasThreadWithout tells whether the status of some thread of the daemon lacks a line.
func (d *daemon) hasThreadWithout(line string) bool {
	d.t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", d.Cmd.Process.Pid))
	if err != nil || len(tasks) == 0 {
		d.t.Fatal(tasks, err)
	}
	for _, task := range tasks {
		if text, err := os.ReadFile(task); err == nil && !strings.Contains(string(text), line+"\n") {
			return true
		}
	}
	return false
}

// serveEverything uses all that a privilege could matter for.
func (d *daemon) serveEverything(user int) {
	t := d.t
	t.Helper()
	web := d.Bound("web", "user.a=1")
	sub := background(t, func(ctx context.Context) *sandbox.Cmd { return web.Guest(ctx, "events", "", "1") })
	d.CLI("config", "set", "web", "user.a=2")
	var got eventsResult
	if sub.result(&got); len(got.Events) != 1 {
		t.Errorf("events: %+v", got)
	}
	for path, want := range map[string]string{"/1.0/config/user.a": "2", "/1.0/devices": "{}", "/1.0/meta-data": "#cloud-config\n"} {
		if a := parseAnswer(in(t, web, curlArgs(path)...)); !strings.HasPrefix(a.status, "200 ") || !strings.HasPrefix(a.body, want) {
			t.Errorf("%s: %+v", path, a)
		}
	}
	in(t, web, curlArgs("/1.0", "-X", "PATCH", "-d", `{"state":"Ready"}`)...)
	d.image(web)

	leaf := peertest.Start(t, peertest.Container(t, 300000))
	d.CLI("container", "add", "leaf", "--pid", fmt.Sprint(leaf.PID))
	d.CLI("config", "set", "leaf", "user.a=leaf")
	dir := filepath.Join(leaf.Spec.Cgroup.Dir, "below", "it")
	for _, name := range []string{filepath.Dir(dir), dir} {
		leaf.Enter(name)
	}
	if err := os.Chmod(filepath.Dir(dir), 0); err != nil { // a guest can do so with its own
		t.Fatal(err)
	}
	d.wantGuest(leaf, "leaf")

	// It makes the daemon look at the pid namespace of everybody from here on.
	privileged := peertest.Start(t, peertest.Spec{Cgroup: peertest.NewCgroup(t), PidNS: true, MountNS: true})
	d.CLI("container", "add", "privileged", "--pid", fmt.Sprint(privileged.PID))
	d.CLI("config", "set", "privileged", "user.a=privileged")
	d.wantGuest(privileged, "privileged")
	d.wantGuest(leaf, "leaf")
	intruder := privileged.Spawn(peertest.Spec{})
	intruder.Enter(leaf.Spec.Cgroup.Dir)
	intruder.Setuid(300000)
	if status, body := intruder.Connect(d.Socket()).HTTP(request); status != 500 {
		t.Errorf("a privileged guest in another's cgroup is answered %d %q", status, body)
	}
	d.Stop()
	d.Start()
	for _, name := range []string{"web", "leaf", "privileged"} {
		d.waitState(name, "running")
	}
	d.wantGuest(leaf, "leaf")
	d.wantGuest(privileged, "privileged")
	if a := parseAnswer(in(t, web, curlArgs("/1.0/config/user.a")...)); a.body != "2" {
		t.Errorf("after a restart: %+v", a)
	}
}

// wantGuest asks for user.a on a new connection.
func (d *daemon) wantGuest(p *peertest.Proc, want string) {
	d.t.Helper()
	c := p.Connect(d.Socket())
	defer c.Close()
	if status, body := c.HTTP(request); status != 200 || body != want {
		d.t.Errorf("%s is answered %d %q", want, status, body)
	}
}

// image imports one and has a container download it.
func (d *daemon) image(web *sandbox.Container) {
	t := d.t
	t.Helper()
	content := append([]byte{0x1f, 0x8b, 8, 0}, bytes.Repeat([]byte("image bytes "), 100_000)...)
	file := filepath.Join(t.TempDir(), "image.tar.gz")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	d.CLI("image", "import", file, "--public")
	d.CLI("config", "set", "web", "security.devlxd.images=true")
	path := fmt.Sprintf("/1.0/images/%x/export", sha256.Sum256(content))
	got := in(t, web, "curl", "-s", "--fail", "--unix-socket", guestSocket, "http://lxd"+path)
	if !bytes.Equal([]byte(got), content) {
		t.Errorf("downloaded %d bytes, want %d", len(got), len(content))
	}
}

// TestEachCapabilityIsNeeded takes one after the other away, and finds what is lost and who says so.
func TestEachCapabilityIsNeeded(t *testing.T) {
	peertest.Need(t, peertest.Root, peertest.Cgroup2, peertest.UserNS)
	without := func(t *testing.T, missing string) *daemon {
		d := newDaemon(t)
		if err := os.Chmod(filepath.Dir(d.RunDir), 0o711); err != nil {
			t.Fatal(err)
		}
		c := confinement{Bounding: slices.DeleteFunc(readUnit(t).words("CapabilityBoundingSet"), func(name string) bool { return name == missing })}
		d.Change = func(cmd *exec.Cmd) { confined(cmd, c) }
		d.Start()
		if want := "missing: " + missing + " ("; !strings.Contains(d.Log.String(), want) || !strings.Contains(d.Log.String(), "CapabilityBoundingSet=") {
			t.Errorf("the log does not say %q and what to do:\n%s", want, d.Log)
		}
		return d
	}
	t.Run(capPtrace, func(t *testing.T) {
		d := without(t, capPtrace)
		privileged := peertest.Start(t, peertest.Spec{Cgroup: peertest.NewCgroup(t), PidNS: true, MountNS: true})
		_, err := d.TryCLI("container", "add", "c", "--pid", fmt.Sprint(privileged.PID))
		if err == nil || !strings.Contains(err.Error(), "give devlxd CAP_SYS_PTRACE") || strings.Count(strings.TrimSpace(err.Error()), "\n") != 0 {
			t.Errorf("a privileged container: %v; want one line that names what is missing", err)
		}
	})
	t.Run(capSearch, func(t *testing.T) {
		d := without(t, capSearch)
		leaf := peertest.Start(t, peertest.Container(t, 300000))
		d.CLI("container", "add", "c", "--pid", fmt.Sprint(leaf.PID))
		d.CLI("config", "set", "c", "user.a=c")
		d.wantGuest(leaf, "c")
		below := filepath.Join(leaf.Spec.Cgroup.Dir, "below")
		leaf.Enter(below)
		leaf.Enter(filepath.Join(below, "it"))
		if err := os.Chmod(below, 0); err != nil {
			t.Fatal(err)
		}
		if status, _ := leaf.Connect(d.Socket()).HTTP(request); status != 500 {
			t.Errorf("a guest in a cgroup that cannot be opened is answered %d", status)
		}
	})
}

// TestDirectoryOfAnotherUser: root without CAP_DAC_OVERRIDE is told what to do about it, in one line.
func TestDirectoryOfAnotherUser(t *testing.T) {
	const user = 1234
	d := newDaemon(t)
	d.chown(user)
	d.Change = func(*exec.Cmd) {}
	d.Launch()
	select {
	case <-d.Exited:
	case <-time.After(20 * time.Second):
		t.Fatal("the daemon does not end")
	}
	code, text := d.Cmd.ProcessState.ExitCode(), strings.TrimSpace(d.Log.String())
	d.Cmd = nil
	want := fmt.Sprintf("devlxd: cannot write to %s: it belongs to uid 1234 and CAP_DAC_OVERRIDE is given up: give it to uid 0 (chown -R), or start with --privileges keep", d.RunDir)
	if code != 1 || text != want {
		t.Errorf("it ended with %d and said\n%s, want\n%s", code, text, want)
	}
	d.Args = []string{"--privileges", "keep"}
	d.Start()
}
