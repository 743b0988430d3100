package lxd

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"devlxd/admin/client"
	"devlxd/internal/daemontest"
	"devlxd/internal/lxdtest"
)

// TestCluster: of two members of a cluster each has a devlxd, which serves the containers of that member and no other. A container that is moved
// vanishes from the one and appears at the other, with its config, and is told where it is as LXD itself tells it.
func TestCluster(t *testing.T) {
	lxdtest.Need(t, lxdtest.LXD)
	members := lxdtest.Cluster(t, 2)
	var hosts []*host
	for _, m := range members {
		h := &host{t: t, kind: lxdtest.LXD, daemon: m}
		h.devlxd = daemontest.New(t, binary(), "--source", "lxd:"+m.Socket(), "--dialect", "lxd")
		h.devlxd.Start()
		h.admin = client.InRunDir(h.devlxd.RunDir)
		hosts = append(hosts, h)
	}
	at := make([]*lxdtest.Instance, len(members))
	for i, m := range members {
		at[i] = m.CreateOn(lxdtest.MemberName(i+1), fmt.Sprint("stays", i+1), lxdtest.Profile{})
	}
	c := members[1].CreateOn(lxdtest.MemberName(1), "moves", lxdtest.Profile{Config: map[string]string{"user.me": "moves"}})
	serve := func(from, to int) {
		t.Helper()
		here, there := hosts[to], hosts[from]
		here.awaitState(c.Name, "stopped")
		there.awaitState(c.Name, "absent")
		c.Device("devlxd", map[string]string{"type": "disk", "source": filepath.Dir(here.devlxd.Socket()), "path": oursDir, "readonly": "true"})
		c.Start()
		pid := c.PID()
		here.await(pid, keyPath("user.me"), "200 moves")
		want := fmt.Sprintf("%q:%q", "location", lxdtest.MemberName(to+1))
		for who, got := range map[string]string{"devlxd": fetch(here.ours(pid), "/1.0"), "LXD": fetch(here.theirs(pid), "/1.0")} {
			if !strings.Contains(got, want) {
				t.Errorf("on member %d %s says %s; want %s", to+1, who, got, want)
			}
		}
		for i, h := range hosts {
			for j, other := range at {
				if got, want := h.state(other.Name), map[bool]string{true: "stopped", false: "absent"}[i == j]; got != want {
					t.Errorf("devlxd of member %d has the container of member %d %s; want %s", i+1, j+1, got, want)
				}
			}
		}
	}
	serve(1, 0)
	c.Stop()
	c.Move(lxdtest.MemberName(2))
	serve(0, 1)
	c.Set(map[string]string{"user.me": "moved"})
	hosts[1].await(c.PID(), keyPath("user.me"), "200 moved")
}
