package peer

import (
	"fmt"
	"strings"
	"testing"

	"devlxd/peer/peertest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	peertest.Child(peertest.Commands{
		"probe": probeCommand,
		"serve": serveCommand,
		"probe-error": func([]string) (string, error) {
			_, err := Probe(Options{})
			return fmt.Sprint(err), nil
		},
	})
	goleak.VerifyTestMain(m)
}

// probeCommand tells what Probe finds for the child, one check a line.
func probeCommand([]string) (string, error) {
	h, err := Probe(Options{})
	if err != nil {
		return "", err
	}
	defer h.Close()
	var b strings.Builder
	fmt.Fprintf(&b, "level %s\n", h.Level())
	for _, c := range h.Checks() {
		fmt.Fprintf(&b, "%s %v: %s\n", c.Name, c.OK, c.Detail)
	}
	return b.String(), nil
}
