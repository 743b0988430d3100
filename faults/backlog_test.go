package faults

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHundredThousandConnects: while the daemon stands still, guests connect until the backlog of 100,000 is full. The kernel tells the last of
// them (EAGAIN); when the daemon goes on, all others are answered, also those that had to wait for the connection limit.
func TestHundredThousandConnects(t *testing.T) {
	// As many guests as their descriptors (20,000 each) allow. listen(2) lets in one more than it is asked for.
	const somaxconn, guests, each = 100_000, 6, 17_000
	d := serve(t, launch{Somaxconn: somaxconn, Files: 4000}) // and accepted 3,359 at a time
	web := d.Bound("web", "user.a=1")
	g := make([]*guest, guests)
	for i := range g {
		g[i] = d.guest(web)
	}
	g[0].wantConfig("user.a", "1")
	accepted := d.metric("devlxd_connections_accepted_total")
	if err := d.Cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for _, g := range g {
		g.tell("hold", each)
	}
	connected, refused := 0, 0
	held := make([]int, guests)
	for i, g := range g {
		var no int
		if _, err := fmt.Sscanf(g.hears(), "held %d refused %d", &held[i], &no); err != nil {
			t.Fatal(err)
		}
		connected, refused = connected+held[i], refused+no
	}
	if connected < somaxconn || connected+refused != guests*each {
		t.Errorf("%d connected, %d were refused; want %d in the backlog and all others refused", connected, refused, somaxconn)
	}
	if err := d.Cmd.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	d.wantHeld("connection_limit", "accept paused")
	for i, g := range g {
		g.tell("take", held[i])
	}
	for i, g := range g {
		g.says(fmt.Sprintf("took %d of %d", held[i], held[i]))
	}
	eventually(t, "every connection is closed", func() bool { return d.metric("devlxd_connections") == 0 })
	eventually(t, "the connection limit is no matter any more", func() bool { return !d.active("connection_limit") })
	if got := d.metric("devlxd_connections_accepted_total") - accepted; got != float64(connected) {
		t.Errorf("%v connections were accepted of %d", got, connected)
	}
	if got := d.metric("devlxd_connections_closed_total", "reason", "client"); got != float64(connected)+1 {
		t.Errorf("%v connections were closed by their guest of %d", got, connected+1)
	}
	g[0].wantConfig("user.a", "1")
	t.Logf("%d in the backlog, %d refused by the kernel", connected, refused)
}
