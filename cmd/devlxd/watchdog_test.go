package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestWatchdog: a daemon under a unit with WatchdogSec= says that it lives, also when systemd has started another process in its place.
func TestWatchdog(t *testing.T) {
	cfg := testConfig(t, stepLog(func(string, map[string]string) {}))
	dir := filepath.Dir(cfg.RunDir)
	path := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "serve", "--run-dir", cfg.RunDir, "--state-dir", cfg.StateDir, "--metrics", "off")
	cmd.Env = append(os.Environ(), runEnv+"="+runPlain, "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=200000", "WATCHDOG_PID=1")
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	next := func() string {
		text := make([]byte, 100)
		n, err := conn.Read(text)
		if err != nil {
			t.Fatalf("%v: %s", err, log.String())
		}
		return string(text[:n])
	}
	for i, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"} {
		if got := next(); got != want {
			t.Fatalf("message %d is %q, want %q", i, got, want)
		}
	}
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for got := next(); got != "STOPPING=1"; got = next() {
		if got != "WATCHDOG=1" {
			t.Fatalf("got %q", got)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, log.String())
	}
}
