package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"devlxd/internal/sandbox"
)

// TestDoctorLooksIntoContainers: it says which container does not have the guest directory.
func TestDoctorLooksIntoContainers(t *testing.T) {
	d := serve(t)
	d.Bound("good")
	line := func() string {
		for line := range strings.Lines(d.CLI("doctor", "-f", "csv")) {
			if strings.HasPrefix(line, "mount in containers,") {
				return strings.TrimSpace(line)
			}
		}
		return ""
	}
	if got := line(); got != "mount in containers,ok,1 of 1 running containers looked at" {
		t.Errorf("with the directory mounted: %q", got)
	}
	other, err := sandbox.Start(t.Context(), sandbox.Options{Name: "bad", Guest: t.TempDir(), Cgroup: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Stop() })
	d.CLI("container", "add", "bad", "--pid", fmt.Sprint(other.PID()))
	got := line()
	for _, want := range []string{"warning", "2 of 2", "bad has something else at /dev/lxd", filepath.Join(d.RunDir, "guest")} {
		if !strings.Contains(got, want) {
			t.Errorf("with another directory: %q; want %q in it", got, want)
		}
	}
	if strings.Contains(got, "good") {
		t.Errorf("the other container is named: %q", got)
	}
}
