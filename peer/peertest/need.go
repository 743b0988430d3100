package peertest

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devlxd/internal/cgroup2"
)

// Requirement is something that a test needs of the machine.
type Requirement int

const (
	// Root: uid 0 with CAP_SYS_ADMIN, to make namespaces and cgroups.
	Root Requirement = iota
	// Cgroup2: a cgroup2 mount in which a directory can be made.
	Cgroup2
	// UserNS: user namespaces are not switched off.
	UserNS
	// LastPid: /proc/sys/kernel/ns_last_pid can be written, to choose the next pid.
	LastPid
)

// Need skips the test, with the reason, where the machine does not have everything.
func Need(t testing.TB, needs ...Requirement) {
	t.Helper()
	for _, n := range needs {
		if why := n.missing(); why != "" {
			t.Skip(why)
		}
	}
}

func (n Requirement) missing() string {
	switch n {
	case Root:
		if os.Geteuid() != 0 {
			return "needs root: namespaces and cgroups are made"
		}
		var caps [2]unix.CapUserData
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		if err := unix.Capget(&hdr, &caps[0]); err != nil || caps[0].Effective&(1<<unix.CAP_SYS_ADMIN) == 0 {
			return "needs root: CAP_SYS_ADMIN is missing"
		}
	case Cgroup2:
		if cgroup2Mount() == "" {
			return "needs cgroup2: no mount of it in /proc/self/mountinfo"
		}
		if err := unix.Access(cgroup2Mount(), unix.W_OK); err != nil {
			return "needs cgroup2: its mount cannot be written: " + err.Error()
		}
	case UserNS:
		text, err := os.ReadFile("/proc/sys/user/max_user_namespaces")
		if err != nil || strings.TrimSpace(string(text)) == "0" {
			return "needs user namespaces: they are switched off"
		}
	case LastPid:
		if err := unix.Access(lastPidFile, unix.W_OK); err != nil {
			return "needs " + lastPidFile + " (CONFIG_CHECKPOINT_RESTORE): " + err.Error()
		}
	}
	return ""
}

const lastPidFile = "/proc/sys/kernel/ns_last_pid"

// cgroup2Mount returns the mount point of cgroup2, "" when there is none.
func cgroup2Mount() string {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	return cgroup2.Mount(string(text))
}
