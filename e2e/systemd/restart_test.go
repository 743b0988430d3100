package systemd

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// asking has a guest ask on new connections, one after another, until stop is called, which checks the answers.
func (g *guest) asking(path, want string) (stop func()) {
	done := make(chan struct{})
	var asked int
	var wrong []string
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			asked++
			if got, err := ask(g.fresh, path); err != nil || got != want {
				wrong = append(wrong, fmt.Sprint(got, err))
			}
		}
	})
	return sync.OnceFunc(func() {
		g.t.Helper()
		close(done)
		wg.Wait()
		if len(wrong) > 0 || asked == 0 {
			g.t.Errorf("of %d requests %d failed, the first with %q", asked, len(wrong), append(wrong, "")[0])
		}
	})
}

// TestRestart: however the daemon is replaced, guests wait, and none is refused: with the socket unit, and without it, where systemd's fd store
// keeps the socket.
func TestRestart(t *testing.T) {
	for name, masked := range map[string]bool{"socket unit": false, "fd store": true} {
		t.Run(name, func(t *testing.T) {
			m := startMachine(t)
			if masked {
				m.run("systemctl", "mask", "--runtime", "--quiet", "devlxd.socket")
			}
			m.run("systemctl", "start", "devlxd.service")
			if got := m.property("NFileDescriptorStore"); masked && got != "1" {
				t.Fatalf("systemd keeps %s descriptors; want the guest socket", got)
			}
			g := m.startGuest("web", "user.a=1")
			stop := g.asking("/1.0/config/user.a", "200 1")
			defer stop()
			for _, how := range []string{"restart", "reload", "restart", "reload"} {
				time.Sleep(50 * time.Millisecond) // of load before
				before := m.mainPID()
				m.run("systemctl", how, "devlxd.service")
				if now := m.mainPID(); now == before || m.property("ActiveState") != "active" {
					t.Errorf("the main process is %d after a %s of %d", now, how, before)
				}
			}
			stop()
			// A crash takes those with it who are being answered; who comes then waits.
			m.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "devlxd.service")
			eventually(t, "the daemon is gone", func() bool { return m.mainPID() == 0 })
			if got := g.get("/1.0/config/user.a"); got != "200 1" {
				t.Errorf("who asked a daemon that crashed is answered %q", got)
			}
			m.wantNoComplaint()
			if got := m.property("NRestarts"); got != "1" {
				t.Errorf("systemd restarted the daemon %s times by itself; want 1, after it was killed", got)
			}
			m.run("systemctl", "stop", "devlxd.service")
			if state := m.property("ActiveState"); state != "inactive" {
				t.Errorf("the service is %s after it was stopped", state)
			}
			ends := 0
			for _, e := range m.journal() {
				if e.Msg == "shutting down" {
					ends++
				}
			}
			if ends != 3 {
				t.Errorf("%d daemons had the time to end; want 3, two that were restarted and one that was stopped", ends)
			}
		})
	}
}

// TestReload: "systemctl reload" has the installed binary take over: connections and event streams stay as they are. If it cannot, systemd is told
// so, and nothing has changed.
func TestReload(t *testing.T) {
	m := startMachine(t)
	m.run("systemctl", "start", "devlxd.service")
	g := m.startGuest("web", "user.a=0")
	s := g.subscribe()
	g.getKept("/1.0")
	for n := 1; n < 4; n++ {
		before := m.mainPID()
		m.run("systemctl", "reload", "devlxd.service")
		if pid := m.mainPID(); pid == before || pid == 0 {
			t.Fatalf("the main process is %d after a reload of %d", pid, before)
		}
		m.run("devlxd", "config", "set", "web", fmt.Sprint("user.a=", n))
		s.wants("user.a", fmt.Sprint(n))
		if got, want := g.getKept("/1.0/config/user.a"), fmt.Sprint("200 ", n); got != want {
			t.Errorf("a kept connection is answered %q; want %q", got, want)
		}
	}
	m.wantLog("upgraded")

	good, bad, before := m.path(installed), m.path(installed+".bad"), m.mainPID()
	if err := os.WriteFile(bad, []byte("#!/bin/false\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, move := range [][2]string{{good, good + ".good"}, {bad, good}} {
		if err := os.Rename(move[0], move[1]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.try("systemctl", "reload", "devlxd.service"); err == nil {
		t.Error("a reload to a binary that fails did not fail")
	}
	if state, pid := m.property("ActiveState"), m.mainPID(); state != "active" || pid != before {
		t.Errorf("the service is %s with pid %d after a reload that failed; want active with %d", state, pid, before)
	}
	if got := g.getKept("/1.0/config/user.a"); got != "200 3" {
		t.Errorf("a kept connection is answered %q after a reload that failed", got)
	}
	if n := g.dials.Load(); n != 1 {
		t.Errorf("the connection that is kept was made %d times", n)
	}
}

// TestWatchdog: a daemon that stands still is ended and started again by systemd, one that has taken over in an upgrade as well, and whoever asked
// meanwhile is answered.
func TestWatchdog(t *testing.T) {
	m := startMachine(t)
	m.dropIn("[Service]\nWatchdogSec=2s\n")
	m.run("systemctl", "start", "devlxd.service")
	g := m.startGuest("web", "user.a=1")
	for round := 1; round <= 2; round++ {
		pid := m.mainPID()
		m.run("kill", "-STOP", fmt.Sprint(pid))
		// systemd has a stopped process go on to die of SIGABRT: it may take up a request, and even answer it, before it has written where it stood.
		got := ""
		eventually(t, "who asks is answered", func() (ok bool) {
			var err error
			got, err = ask(g.fresh, "/1.0/config/user.a")
			return err == nil
		})
		if got != "200 1" {
			t.Errorf("round %d: who asked a daemon that stands still is answered %q", round, got)
		}
		eventually(t, "the daemon that stood still is replaced", func() bool {
			now := m.mainPID()
			return now != pid && now != 0
		})
		eventually(t, "the new one is ready", func() bool { return m.property("ActiveState") == "active" })
		if round == 1 {
			m.run("systemctl", "reload", "devlxd.service")
		}
	}
	log := m.run("journalctl", "--no-pager", "--output=cat", "--unit=devlxd.service", "_PID=1")
	if n := strings.Count(log, "Watchdog timeout"); n < 2 {
		t.Errorf("systemd tells of %d times that the watchdog was not answered; want 2:\n%s", n, log)
	}
}
