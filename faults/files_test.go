package faults

import (
	"fmt"
	"strings"
	"testing"
)

// TestGuestsTakeAllDescriptors: a guest opens more connections than the daemon has descriptors for. It is given its share and no more:
// the operator is served, another container can be bound, and whoever waits is answered when there is room.
func TestGuestsTakeAllDescriptors(t *testing.T) {
	t.Parallel()
	// 600 less 256 of its own, 160 and a 32nd to watch containers, and 15 for images: see "Descriptors are shared out" in ARCHITECTURE.md.
	const files, share, asked = 600, 151, 400
	d := serve(t, launch{Files: files})
	greedy := d.guest(d.Bound("greedy", "user.a=1"))
	greedy.tell("hold", asked)
	greedy.says(fmt.Sprintf("held %d refused 0", asked))
	d.wantHeld("connection_limit", "accept paused: the connection limit is reached")
	if n := d.metric("devlxd_connections"); n != share {
		t.Errorf("%v connections are open; want %d", n, share)
	}
	if _, err := d.TryCLI("status", "--check"); err == nil || !strings.Contains(err.Error(), "health is degraded: connection_limit: accept paused") {
		t.Errorf("the check of the health says %v", err)
	}
	modest := d.guest(d.Bound("modest", "user.b=2")) // takes descriptors for the command line, and for the watching
	modest.tell("get", "/1.0/config/user.b")         // waits behind the greedy one
	greedy.tell("take", asked)
	greedy.says(fmt.Sprintf("took %d of %d", asked, asked))
	modest.says("200 2")
	d.wantPassed("connection_limit", "accept goes on: connections are below their limit")
	if d.total("process_files") != 0 {
		t.Error("the descriptors ran out although they are shared out")
	}
}

// TestHostTakesAllDescriptors: the limit of the running daemon is lowered to what it has open. Whoever is connected is served, nobody
// else is accepted, neither guest nor operator, until it is raised again.
func TestHostTakesAllDescriptors(t *testing.T) {
	t.Parallel()
	d := serve(t, launch{})
	g := d.guest(d.Bound("web", "user.a=1"))
	d.wantNoFault() // and the connection of the metrics is there
	g.tell("hold", 20)
	g.says("held 20 refused 0")
	eventually(t, "20 connections are open", func() bool { return d.metric("devlxd_connections") == 20 })
	d.limitFiles(uint64(d.files()))
	g.tell("hold", 30)
	g.says("held 30 refused 0")
	d.wantHeld("process_files", "accept paused: raise LimitNOFILE")
	changed := make(chan error, 1)
	go func() {
		_, err := d.TryCLI("config", "set", "web", "user.b=2")
		changed <- err
	}()
	d.wantHeld("admin_accept", "the admin API or the metrics cannot accept")
	g.tell("take", 10) // those that are connected are served; their descriptors go to others
	g.says("took 10 of 10")
	d.limitFiles(20_000)
	g.tell("take", 40)
	g.says("took 40 of 40")
	if err := <-changed; err != nil {
		t.Errorf("the change that waited: %v", err)
	}
	d.wantPassed("process_files", "accept goes on: there are descriptors again")
	d.wantPassed("admin_accept", "accept again")
	g.wantConfig("user.b", "2")
	if n := d.metric("devlxd_peers_rejected_total"); n != 0 {
		t.Errorf("%v guests were refused", n)
	}
}
