package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"devlxd/admin"
)

// TestJudgePrivileges: a daemon may hold less than it could use, and not more.
func TestJudgePrivileges(t *testing.T) {
	for _, tt := range []struct {
		has    admin.Privileges
		result string
		detail string
	}{
		{admin.Privileges{Capabilities: []string{"CAP_SYS_PTRACE"}, NoNewPrivs: true}, resultOK, "pid 7: CAP_SYS_PTRACE, no_new_privs"},
		{admin.Privileges{NoNewPrivs: true}, resultOK, "pid 7: no capabilities, no_new_privs"},
		{admin.Privileges{}, resultWarning, "pid 7 holds more than it needs (0 capabilities, no_new_privs false): start it without --privileges keep"},
		{admin.Privileges{Capabilities: []string{"CAP_SYS_PTRACE", "CAP_SYS_ADMIN"}, NoNewPrivs: true}, resultWarning,
			"pid 7 holds more than it needs (2 capabilities, no_new_privs true): start it without --privileges keep"},
	} {
		if got := judgePrivileges(tt.has, 7); got.Result != tt.result || got.Detail != tt.detail {
			t.Errorf("%+v: %+v, want %s and %q", tt.has, got, tt.result, tt.detail)
		}
	}
}

// TestPrivilegesSetting: a word that is not known is refused before anything is given up.
func TestPrivilegesSetting(t *testing.T) {
	for args, wrong := range map[string]bool{"": false, "--privileges=drop": false, "--privileges=keep": false, "--privileges=some": true, "--privileges=": true} {
		_, err := configOf(t, strings.Fields(args)...)
		if u := (usage{}); wrong != (errors.As(err, &u) && strings.Contains(err.Error(), "use drop or keep")) {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// TestConfineFails: a daemon that cannot give up what it should does not serve, and leaves nothing behind.
func TestConfineFails(t *testing.T) {
	refused := errors.New("refused")
	cfg := testConfig(t, slog.DiscardHandler)
	cfg.Confine = func() error { return refused }
	if d, err := startDaemon(t.Context(), cfg); d != nil || !errors.Is(err, refused) {
		t.Fatalf("startDaemon = %v, %v; want %v", d, err, refused)
	}
	if _, err := os.Lstat(filepath.Join(cfg.RunDir, "admin.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the admin socket: %v; want none", err)
	}
	cfg.Confine = nil
	d, err := startDaemon(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
