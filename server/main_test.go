package server

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"devlxd/api"
	"devlxd/api/apitest"
	"devlxd/peer/peertest"
)

func TestMain(m *testing.M) {
	peertest.Child()
	if run := os.Getenv(childVariable); run != "" {
		os.Exit(children[run]())
	}
	goleak.VerifyTestMain(apitest.Covered{M: m, Checker: documented, Excused: map[string]string{}})
}

// documented holds every answer of the tests against the document of the API.
var documented = apitest.Must(api.Guest, "document", "lxd", "incus")

// childVariable names the function that this binary runs in place of the tests
// when a test has started it again with limits of its own.
const childVariable = "DEVLXD_SERVER_TEST_CHILD"

var children = map[string]func() int{}
