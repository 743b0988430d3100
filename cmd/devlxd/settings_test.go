package main

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"devlxd/registry"
	"devlxd/server"
)

// configOf is what the flags, and else the environment, make of the settings of serve.
func configOf(t *testing.T, args ...string) (daemonConfig, error) {
	t.Helper()
	var o options
	cmd := &cobra.Command{}
	o.bind(cmd)
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	l, err := o.load()
	if err != nil {
		return daemonConfig{}, err
	}
	cfg := l.daemonConfig()
	cfg.Log = slog.New(slog.DiscardHandler)
	return cfg, nil
}

// TestLimitsSetting: the quotas of all containers come from the flag, or else from the environment; a wrong one is a usage error of one line.
func TestLimitsSetting(t *testing.T) {
	for _, tt := range []struct {
		name, env string
		args      []string
		want      registry.Limits
		wrong     string
	}{
		{name: "default"},
		{name: "flag", args: []string{"--limits", "connections=3,requests=unlimited"},
			want: registry.Limits{registry.LimitConnections: 3, registry.LimitRequests: registry.Unlimited}},
		{name: "environment", env: "images=2", want: registry.Limits{registry.LimitImages: 2}},
		{name: "flag before environment", env: "images=2,bytes=3", args: []string{"--limits=bytes=9"}, want: registry.Limits{registry.LimitImages: 2, registry.LimitBytes: 9}},
		{name: "unknown", args: []string{"--limits", "cpu=3"}, wrong: "use connections, subscribers, requests, bytes or images"},
		{name: "zero", args: []string{"--limits", "images=0"}, wrong: "use a whole number from 1 to 1000000000, or unlimited"},
		{name: "in the environment", env: "images", wrong: "or unlimited"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("DEVLXD_LIMITS", tt.env)
			cfg, err := configOf(t, tt.args...)
			if tt.wrong != "" {
				if u := (usage{}); !errors.As(err, &u) || !strings.Contains(err.Error(), tt.wrong) || strings.Contains(err.Error(), "\n") {
					t.Errorf("error = %v; want one of usage that says %q", err, tt.wrong)
				}
				return
			}
			for i, n := range server.DefaultLimits() {
				if tt.want[i] == 0 {
					tt.want[i] = n
				}
			}
			if err != nil || cfg.Limits != tt.want {
				t.Errorf("limits %v, %v; want %v", cfg.Limits, err, tt.want)
			}
		})
	}
}
