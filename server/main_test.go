package server

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"devlxd/peer/peertest"
)

func TestMain(m *testing.M) {
	peertest.Child()
	if run := os.Getenv(childVariable); run != "" {
		os.Exit(children[run]())
	}
	goleak.VerifyTestMain(m)
}

// childVariable names the function that this binary runs in place of the tests
// when a test has started it again with limits of its own.
const childVariable = "DEVLXD_SERVER_TEST_CHILD"

var children = map[string]func() int{}
