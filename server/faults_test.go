package server

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"devlxd/fault"
)

// TestAcceptFaults: each error of accept(2) is a condition of its own, one at a time, and all are over when the backlog is empty.
func TestAcceptFaults(t *testing.T) {
	r := newRig(t, Options{Loops: 1})
	r.log.expect("accept paused")
	l := r.srv.loops[0]
	for err, want := range map[error]fault.Kind{
		nil: fault.ConnectionLimit, unix.EMFILE: fault.ProcessFiles, unix.ENFILE: fault.SystemFiles, unix.ENOMEM: fault.Memory,
		unix.ENOBUFS: fault.Memory, unix.EPERM: fault.Accept, unix.EIO: fault.Accept,
	} {
		l.call(func() {
			l.pauseAccept(err)
			for _, k := range fault.All() {
				if got := r.srv.faults.Active(k); got != (k == want) {
					t.Errorf("after %v: %s is active: %v", err, k, got)
				}
			}
		})
	}
	r.container("c1", nil)
	r.dial("c1").get("/1.0") // waits until accepting goes on
	eventually(t, "no condition is left", func() bool {
		for _, k := range acceptFaults {
			if r.srv.faults.Active(k) {
				return false
			}
		}
		return true
	})
}

// TestOutOfImageFiles: only a want of descriptors counts as one.
func TestOutOfImageFiles(t *testing.T) {
	r := newIdleRig(t, Options{Loops: 1})
	r.log.expect("images are refused")
	for err, want := range map[error]bool{
		errImageFiles: true, &os.PathError{Op: "open", Path: "x", Err: unix.EMFILE}: true, fmt.Errorf("x: %w", unix.ENFILE): true,
		unix.ENOENT: false, errFileShrunk: false,
	} {
		r.srv.faults.Leave(fault.ImageFiles)
		if got := r.srv.outOfImageFiles(err); got != want || r.srv.faults.Active(fault.ImageFiles) != want {
			t.Errorf("%v: %v; want %v", err, got, want)
		}
	}
}
