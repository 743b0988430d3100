package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestProfiler(t *testing.T) {
	if p, err := startProfiler(slog.Default()); p != nil || err != nil {
		t.Fatalf("without the variable: %v, %v", p, err)
	}
	dir := t.TempDir()
	t.Setenv(profileVariable, filepath.Join(dir, "none"))
	if _, err := startProfiler(slog.Default()); err == nil {
		t.Error("a directory that is not there was taken")
	}
	t.Setenv(profileVariable, dir)
	p, err := startProfiler(slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(os.Getpid(), unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if info, err := os.Stat(filepath.Join(dir, "heap.pprof")); err == nil && info.Size() > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no heap profile after SIGUSR1")
		}
	}
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "cpu.pprof")); err != nil || info.Size() == 0 {
		t.Errorf("no CPU profile: %v", err)
	}
}
