package faults

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAcceptFails: the kernel has no memory (ENOMEM) or no file (ENFILE) for another socket. Guests wait in the backlog, those that are
// connected are served, and all are answered when the fault is over.
func TestAcceptFails(t *testing.T) {
	t.Parallel()
	d, v := serveFiltered(t, unix.SYS_ACCEPT4)
	g := d.guest(d.Bound("web", "user.a=1"))
	g.wantConfig("user.a", "1")
	d.wantNoFault()
	listener := d.guestListener()
	for _, tc := range []struct {
		errno         syscall.Errno
		fault         string
		enter, passed string
	}{
		{unix.ENOMEM, "memory", "accept paused: raise the memory limit or free memory", "accept goes on: there is memory again"},
		{unix.ENFILE, "system_files", "accept paused: raise fs.file-max", "accept goes on: the host has descriptors again"},
	} {
		connections := d.metric("devlxd_connections_accepted_total")
		v.fail(tc.errno, func(_ uintptr, fd int) bool { return fd == listener })
		g.tell("hold", 50)
		g.says("held 50 refused 0")
		d.wantHeld(tc.fault, tc.enter)
		d.CLI("config", "set", "web", "user.b="+tc.fault) // the admin API is not concerned
		if n := d.metric("devlxd_connections_accepted_total"); n != connections {
			t.Errorf("%v connections were accepted", n-connections)
		}
		if n := v.mend(); n == 0 {
			t.Error("no system call failed")
		}
		g.tell("take", 50)
		g.says("took 50 of 50")
		d.wantPassed(tc.fault, tc.passed)
		g.wantConfig("user.b", tc.fault)
	}
}
