package lxd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"devlxd/admin/client"
	"devlxd/internal/daemontest"
	"devlxd/internal/lxdtest"
)

// TestCluster: of two members of a cluster each has a devlxd, which serves the containers of that member and no other. A container that is moved
// vanishes from the one and appears at the other, with its config, and is told where it is as LXD itself tells it. Of one that is moved while
// it runs the streams at the one end, and those that it begins at the other go on with what changes there.
func TestCluster(t *testing.T) {
	lxdtest.Need(t, lxdtest.LXD)
	m := newMoves(t)
	c := m.container
	c.Start()
	m.served(0)

	c.Stop()
	m.move(1)
	m.hosts[1].awaitState(c.Name, "stopped")
	m.mount(1)
	c.Start()
	m.served(1)
	c.Set(map[string]string{"user.me": "moved"})
	m.hosts[1].await(c.PID(), keyPath("user.me"), "200 moved")

	c.Set(map[string]string{"user.me": "moves"})
	m.hosts[1].await(c.PID(), keyPath("user.me"), "200 moves")
	before := follow(t, "of the member that it leaves", m.hosts[1].ours(c.PID()), "", false)
	m.mount(0)
	m.move(0)
	m.served(0)
	lxdtest.WaitFor(t.Context(), t, patience, func() string {
		if before.ended() == nil {
			return "the stream of the member that it has left goes on"
		}
		return ""
	})
	after := follow(t, "of the member that it is on", m.hosts[0].ours(c.PID()), "", false)
	c.Set(map[string]string{"user.me": "moved back"})
	after.await(t, `"moved back"`)
	if told := before.asCame(); len(told) > 0 {
		t.Errorf("the move itself was told as %s; want no event", showEvents(told))
	}
}

// moves is a cluster of two members with a devlxd each, one container that stays on each, and one that is moved between them.
type moves struct {
	t         *testing.T
	hosts     []*host
	stay      []*lxdtest.Instance // one on each
	container *lxdtest.Instance   // on the first
	link      string              // what the container has mounted
}

func newMoves(t *testing.T) *moves {
	t.Helper()
	m := &moves{t: t, link: filepath.Join(t.TempDir(), "guest")}
	for i, d := range lxdtest.Cluster(t, 2) {
		h := &host{t: t, kind: lxdtest.LXD, daemon: d}
		h.devlxd = daemontest.New(t, binary(), "--source", "lxd:"+d.Socket(), "--dialect", "lxd")
		h.devlxd.Start()
		h.admin = client.InRunDir(h.devlxd.RunDir)
		m.hosts = append(m.hosts, h)
		m.stay = append(m.stay, d.CreateOn(lxdtest.MemberName(i+1), fmt.Sprint("stays", i+1), lxdtest.Profile{}))
	}
	m.mount(0)
	m.container = m.hosts[1].daemon.CreateOn(lxdtest.MemberName(1), "moves", lxdtest.Profile{
		Config:  map[string]string{"user.me": "moves"},
		Devices: map[string]map[string]string{"devlxd": {"type": "disk", "source": m.link, "path": oursDir, "readonly": "true"}},
	})
	return m
}

// mount has the container's next start mount the directory of a member's devlxd: on two machines it is one path, here it is one link.
func (m *moves) mount(member int) {
	m.t.Helper()
	if err := os.Remove(m.link); err != nil && !os.IsNotExist(err) {
		m.t.Fatal(err)
	}
	if err := os.Symlink(filepath.Dir(m.hosts[member].devlxd.Socket()), m.link); err != nil {
		m.t.Fatal(err)
	}
}

// move moves the container.
func (m *moves) move(to int) {
	m.t.Helper()
	m.container.Move(lxdtest.MemberName(to + 1))
	m.hosts[1-to].awaitState(m.container.Name, "absent")
}

// served waits until the container is served by the devlxd of a member, and checks who else is there.
func (m *moves) served(by int) {
	m.t.Helper()
	here, c := m.hosts[by], m.container
	here.awaitState(c.Name, "running")
	m.hosts[1-by].awaitState(c.Name, "absent")
	pid := c.PID()
	here.await(pid, keyPath("user.me"), "200 moves")
	want := fmt.Sprintf("%q:%q", "location", lxdtest.MemberName(by+1))
	for who, got := range map[string]string{"devlxd": fetch(here.ours(pid), "/1.0"), "LXD": fetch(here.theirs(pid), "/1.0")} {
		if !strings.Contains(got, want) {
			m.t.Errorf("on member %d %s says %s; want %s", by+1, who, got, want)
		}
	}
	for i, h := range m.hosts {
		for j, other := range m.stay {
			if got, want := h.state(other.Name), map[bool]string{true: "stopped", false: "absent"}[i == j]; got != want {
				m.t.Errorf("devlxd of member %d has the container of member %d %s; want %s", i+1, j+1, got, want)
			}
		}
	}
}
