package lxd

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"devlxd/internal/lxdtest"
)

// configEvent is the metadata of an event about the configuration.
type configEvent struct {
	Key      string
	OldValue string `json:"old_value"`
	Value    string
}

func configOf(t *testing.T, e event) (c configEvent) {
	t.Helper()
	if err := json.Unmarshal(e.Metadata, &c); err != nil || c.Key == "" {
		t.Fatalf("not about the configuration: %s", e)
	}
	return c
}

// restart: while the daemon restarts, for an upgrade say, guests are served and streams stay open. What has changed until
// devlxd reaches it again they are told then, and nothing else.
func (h *host) restart() {
	var streams []*stream
	for i, pid := range h.pids {
		streams = append(streams, follow(h.t, h.members[i].Name, h.ours(pid), "", true))
	}
	h.disconnect()
	h.daemon.Stop()
	h.served("while the daemon is away")
	lxdtest.WaitFor(h.t.Context(), h.t, patience, func() string {
		if m := h.status(); m.Connected || m.Error == "" {
			return fmt.Sprintf("devlxd does not say that the daemon is away: %+v", m)
		}
		return ""
	})
	h.daemon.Launch()
	// devlxd does not reach it yet.
	h.members[0].Set(map[string]string{"user.me": "c00 anew", "user.more": "1"})
	h.members[1].Device("null", map[string]string{"type": "unix-char", "source": "/dev/null", "path": "/dev/null2"})
	h.daemon.SetProfile(guestProfile, func(p *lxdtest.Profile) { p.Config["user.profile"] = "meanwhile" })
	gone := h.members[crowd-1]
	gone.Stop()
	added := h.daemon.Run("meanwhile", member("meanwhile"))
	if got := fetch(h.ours(h.pids[0]), keyPath("user.me")); got != "200 c00" {
		h.t.Errorf("before devlxd reaches the daemon: %q", got)
	}
	if m := h.status(); m.Connected || m.Age <= 0 {
		h.t.Errorf("the mirror is %+v", m)
	}
	h.connect()
	h.awaitConnected()
	h.awaitState(gone.Name, "stopped")
	h.await(added.PID(), keyPath("user.me"), "200 meanwhile")
	profile := `config {"key":"user.profile","old_value":"","value":"meanwhile"}`
	for i, s := range streams[:crowd-1] {
		s.await(h.t, `"meanwhile"`)
		want := []string{profile}
		switch i {
		case 0:
			want = []string{`config {"key":"user.me","old_value":"c00","value":"c00 anew"}`, `config {"key":"user.more","old_value":"","value":"1"}`, profile}
		case 1:
			s.await(h.t, `"null"`)
			want = []string{profile, `device {"action":"added","config":{"path":"/dev/null2","source":"/dev/null","type":"unix-char"},"name":"null"}`}
		}
		if got := texts(s.asCame()); !slices.Equal(got, want) || s.ended() != nil {
			h.t.Errorf("%s was told\n%s\nwant\n%s\n(ended: %v)", s.name, strings.Join(got, "\n"), strings.Join(want, "\n"), s.ended())
		}
	}
	h.members[0].Set(map[string]string{"user.me": "c00", "user.more": ""})
	h.members[1].Device("null", nil)
	h.daemon.SetProfile(guestProfile, func(p *lxdtest.Profile) { delete(p.Config, "user.profile") })
	added.Stop()
	added.Delete()
	gone.Start()
	h.pids[crowd-1] = gone.PID()
	h.awaitState(gone.Name, "running")
	h.await(h.pids[0], keyPath("user.me"), "200 c00")
}

// crash: a daemon that is killed is followed again when it is back, and a container that has ended meanwhile has.
func (h *host) crash() {
	h.daemon.Kill()
	h.served("while the daemon is dead")
	h.daemon.Launch()
	h.awaitConnected()
	s := follow(h.t, "after the crash", h.ours(h.pids[6]), "", true)
	h.members[6].Set(map[string]string{"user.after": "the crash"})
	s.await(h.t, `"the crash"`)
	h.members[6].Set(map[string]string{"user.after": ""})
}

func (h *host) awaitConnected() {
	h.t.Helper()
	lxdtest.WaitFor(h.t.Context(), h.t, patience, func() string {
		if m := h.status(); !m.Connected || m.Pending > 0 {
			return fmt.Sprintf("the mirror is %+v", m)
		}
		return ""
	})
}

// served asks in every container.
func (h *host) served(when string) {
	h.t.Helper()
	for i, pid := range h.pids {
		if got, want := fetch(h.ours(pid), keyPath("user.me")), fmt.Sprintf("200 c%02d", i); got != want {
			h.t.Errorf("%s %s is answered %q, want %q", when, h.members[i].Name, got, want)
		}
	}
}
