package main

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"

	"devlxd/internal/demo"
	"devlxd/internal/sandbox"
)

// runEnv makes the test binary devlxd itself, so that the code under test runs in
// processes of its own, with the race detector where there is one.
const runEnv = "DEVLXD_TEST_RUN"

// Values of runEnv.
const (
	runPlain    = "plain"
	runNoUserNS = "no user namespaces" // switches them off first; for the root of one
	runNoPidfds = "no pidfds"          // on a kernel that is too old
)

func TestMain(m *testing.M) {
	sandbox.Main(demo.Roles())
	// Or every process that ends waits a second where the race detector is on.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	switch os.Getenv(runEnv) {
	case runNoUserNS:
		if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(exitFailed)
		}
		os.Exit(execute(context.Background(), os.Args[1:]))
	case runNoPidfds:
		if err := hidePidfds(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(exitFailed)
		}
		fallthrough
	case runPlain:
		os.Exit(execute(context.Background(), os.Args[1:]))
	}
	os.Exit(m.Run())
}

// nobody is a user without any rights.
func nobody() *syscall.Credential { return &syscall.Credential{Uid: 65534, Gid: 65534} }
