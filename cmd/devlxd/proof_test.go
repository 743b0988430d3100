package main

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

// TestIdentityProof: the setting reaches the host that identifies peers, and status says what it comes to.
func TestIdentityProof(t *testing.T) {
	for _, tt := range []struct {
		name, env string
		args      []string
		wrong     bool
		status    string
	}{
		{"default", "", nil, false, "auto: demanded of no guest"},
		{"auto", "", []string{"--identity-proof", "auto"}, false, "auto: demanded of no guest"},
		{"always", "", []string{"--identity-proof", "always"}, false, "always: demanded of every guest"},
		{"environment", "always", nil, false, "always: demanded of every guest"},
		{"flag before environment", "always", []string{"--identity-proof=auto"}, false, "auto: demanded of no guest"},
		{"unknown", "", []string{"--identity-proof", "never"}, true, ""},
		{"empty", "", []string{"--identity-proof", ""}, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("DEVLXD_IDENTITY_PROOF", tt.env)
			dir := t.TempDir()
			args := append([]string{"--run-dir", filepath.Join(dir, "run"), "--state-dir", filepath.Join(dir, "state"), "--metrics", "off"}, tt.args...)
			cfg, err := configOf(t, args...)
			if tt.wrong {
				if u := (usage{}); !errors.As(err, &u) || !strings.Contains(err.Error(), "use auto or always") {
					t.Errorf("error = %v; want one of usage that says what to use", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			d, err := startDaemon(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := d.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
			}()
			status := d.status()
			last := status.Identity.Checks[len(status.Identity.Checks)-1]
			if last.Name != "pid namespace proof" || !strings.HasPrefix(last.Detail, tt.status) {
				t.Errorf("status says %+v; want %q", last, tt.status)
			}
			if !cfg.ProofAlways {
				d.host.RequirePidNS()
				status = d.status()
				if last := status.Identity.Checks[len(status.Identity.Checks)-1]; !strings.Contains(last.Detail, "since a privileged container is known") {
					t.Errorf("when a privileged container is known, status says %+v", last)
				}
			}
		})
	}
}
