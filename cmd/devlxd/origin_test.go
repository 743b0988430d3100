package main

import (
	"errors"
	"strings"
	"testing"

	"devlxd/internal/lxdapi"
)

// TestSourceSetting: where containers come from is said by the flag, or else by the environment; a wrong value is a usage error of one line.
func TestSourceSetting(t *testing.T) {
	for _, tt := range []struct {
		name, env string
		args      []string
		want      *lxdapi.Address
		wrong     bool
	}{
		{name: "default"},
		{name: "store", env: "lxd", args: []string{"--source", "store"}},
		{name: "lxd", args: []string{"--source", "lxd"}, want: &lxdapi.Address{}},
		{name: "environment", env: "incus:/a/unix.socket", want: &lxdapi.Address{Kind: lxdapi.Incus, Socket: "/a/unix.socket"}},
		{name: "relative", args: []string{"--source", "lxd:unix.socket"}, wrong: true},
		{name: "unknown", args: []string{"--source", "docker"}, wrong: true},
		{name: "empty", args: []string{"--source", ""}, wrong: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("DEVLXD_SOURCE", tt.env)
			cfg, err := configOf(t, tt.args...)
			if tt.wrong {
				if u := (usage{}); !errors.As(err, &u) || !strings.Contains(err.Error(), "use store, lxd[:SOCKET] or incus[:SOCKET]") || strings.Contains(err.Error(), "\n") {
					t.Errorf("error = %v; want one of usage", err)
				}
				return
			}
			if err != nil || (cfg.Source == nil) != (tt.want == nil) || tt.want != nil && *cfg.Source != *tt.want {
				t.Errorf("source %v, %v; want %v", cfg.Source, err, tt.want)
			}
		})
	}
}
