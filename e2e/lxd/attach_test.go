package lxd

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"devlxd/internal/lxdtest"
)

// guestDir is where 'devlxd attach' puts the guest socket, whichever daemon it is: cloud-init looks nowhere else.
const guestDir = "/dev/lxd"

// attached: an operator attaches the containers of a profile, running ones too, and detaches them. Guests ask where they always did, are
// answered by devlxd alone, and afterwards by the daemon again.
func (h *host) attached() {
	h.daemon.Do("POST", "/1.0/profiles", map[string]any{"name": "attached"}, nil)
	p := lxdtest.Profile{Profiles: []string{"default", "attached"}, Config: map[string]string{"user.me": "live"}}
	live := h.daemon.Run("live", p)
	pid := live.PID()
	h.ownIs(pid, "200 live")

	out := h.run("attach", "--profile", "attached")
	if !strings.Contains(out, "set "+h.kind.GuestKey()+"=false (it was unset)\n") || !strings.Contains(out, "add device devlxd, ") {
		h.t.Errorf("attach says %q", out)
	}
	p.Config["user.me"] = "later"
	later := h.daemon.Run("later", p)
	for want, c := range map[string]*lxdtest.Instance{"200 live": live, "200 later": later} {
		h.asks(c.PID(), want)
		h.ownIs(c.PID(), "gone")
	}
	if out := h.run("attach", "--profile", "attached"); out != "profile attached: nothing to do\n" {
		h.t.Errorf("attached again: %q", out)
	}

	s := follow(h.t, "attached", h.dial(pid, guestDir+"/sock"), "", true)
	live.Set(map[string]string{"user.n": "1"})
	s.await(h.t, `"user.n"`)
	h.daemon.SetProfile("attached", func(p *lxdtest.Profile) { p.Config["user.all"] = "2" })
	s.await(h.t, `"user.all"`)
	want := []string{`config {"key":"user.n","old_value":"","value":"1"}`, `config {"key":"user.all","old_value":"","value":"2"}`}
	if got := texts(s.asCame()); strings.Join(got, "\n") != strings.Join(want, "\n") {
		h.t.Errorf("the guest was told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	h.run("detach", "--profile", "attached")
	for want, c := range map[string]*lxdtest.Instance{"200 live": live, "200 later": later} {
		h.ownIs(c.PID(), want)
	}
	if now := live.PID(); now != pid {
		h.t.Errorf("the init was %d and is %d: the container was restarted", pid, now)
	}
	for _, c := range []*lxdtest.Instance{live, later} {
		c.Stop()
		c.Delete()
	}
	h.daemon.Do("DELETE", "/1.0/profiles/attached", nil, nil)
}

// closedBefore: a container whose operator has closed the guest API before it was attached has none afterwards either, until the operator says
// so in the device; detached it is as it was.
func (h *host) closedBefore() {
	key := h.kind.GuestKey()
	c := h.daemon.Run("closed", lxdtest.Profile{Profiles: []string{"default"}, Config: map[string]string{"user.me": "closed", key: "false"}})
	pid := c.PID()
	h.ownIs(pid, "gone")
	h.run("attach", "--container", c.Name)
	lxdtest.WaitFor(h.t.Context(), h.t, patience, func() string {
		if got := h.at(pid, guestDir+"/sock", keyPath("user.me")); !strings.HasPrefix(got, "403 ") {
			return fmt.Sprintf("a guest whose operator has closed the API is answered %q, want 403", got)
		}
		return ""
	})
	c.Edit(func(f *lxdtest.Full) { f.Devices["devlxd"]["user.devlxd.was"] = "true" })
	h.asks(pid, "200 closed")
	c.Edit(func(f *lxdtest.Full) { f.Devices["devlxd"]["user.devlxd.was"] = "false" })
	h.run("detach", "--container", c.Name)
	f := c.Get()
	if _, left := f.Devices["devlxd"]; left || f.Config[key] != "false" {
		h.t.Errorf("detached it has %s=%q and devices %v", key, f.Config[key], f.Devices)
	}
	h.ownIs(pid, "gone")
	c.Stop()
	c.Delete()
}

// run runs a command of devlxd that changes the daemon, and returns what it prints.
func (h *host) run(args ...string) string {
	h.t.Helper()
	cmd := exec.Command(binary(), append(args, "--socket", h.daemon.Socket(), "--run-dir", h.devlxd.RunDir)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("devlxd %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// at asks on a socket in a container; what keeps from it is the answer as well.
func (h *host) at(pid int, socket, path string) string {
	conn, err := lxdtest.DialPID(pid, socket)
	if err != nil {
		return err.Error()
	}
	return fetch(conn, path)
}

// asks waits until devlxd answers so where it is attached.
func (h *host) asks(pid int, want string) {
	h.t.Helper()
	lxdtest.WaitFor(h.t.Context(), h.t, patience, func() string {
		// A path that is not clean: devlxd does not find it, the daemons redirect.
		who, got := h.at(pid, guestDir+"/sock", "//1.0"), h.at(pid, guestDir+"/sock", keyPath("user.me"))
		if !strings.HasPrefix(who, "404") || got != want {
			return fmt.Sprintf("%s is answered %q (%q to //1.0), want %q by devlxd", guestDir, got, who, want)
		}
		return ""
	})
}

// ownIs waits until the daemon's own guest API answers so, or with "gone" until nothing of it is left: neither a mount nor a socket.
func (h *host) ownIs(pid int, want string) {
	h.t.Helper()
	lxdtest.WaitFor(h.t.Context(), h.t, patience, func() string {
		mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
		if err != nil {
			return err.Error()
		}
		own := strings.TrimSuffix(h.kind.GuestSocket(), "/sock")
		n, foreign := 0, 0
		for line := range strings.Lines(string(mounts)) {
			switch f := strings.Fields(line); {
			case len(f) < 5 || f[4] != own:
			case strings.HasSuffix(f[3], "/guest"):
				foreign++
			default:
				n++
			}
		}
		if want == "gone" {
			if n > 0 {
				return fmt.Sprintf("the daemon's own directory is mounted at %s %d times", own, n)
			}
			return ""
		}
		who, got := h.at(pid, h.kind.GuestSocket(), "//1.0"), h.at(pid, h.kind.GuestSocket(), keyPath("user.me"))
		if n != 1 || foreign != 0 || !strings.HasPrefix(who, "301") || got != want {
			return fmt.Sprintf("%s (mounted %d times, %d times devlxd's) is answered %q (%q to //1.0), want %q by the daemon", own, n, foreign, got, who, want)
		}
		return ""
	})
}
