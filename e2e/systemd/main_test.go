// Package systemd runs the built devlxd under a real systemd, with the units of
// packaging/systemd as they are: socket activation, readiness, the watchdog,
// reload as an upgrade, restarts that keep the guest socket, and the sandbox.
//
// systemd is pid 1 of namespaces of its own, on the host's root file system with a
// layer in memory over it, in a cgroup of its own. The commands of the documents are
// run on such machines too. Containers are started by services of it. Nothing of it outlives the test, and nothing of the host is changed.
package systemd

import (
	"fmt"
	"os"
	"testing"

	"devlxd/internal/daemontest"
	"devlxd/internal/sandbox"
)

// binary is the devlxd under test, built once.
var binary string

func TestMain(m *testing.M) {
	bootMain()
	sandbox.Main(roles)
	runtimeMain()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "devlxd-systemd-")
	if err == nil {
		defer os.RemoveAll(dir)
		binary, err = daemontest.Build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
