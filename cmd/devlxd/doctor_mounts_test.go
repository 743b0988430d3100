package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/admin"
)

// TestLookAt: what a guest puts at /dev/lxd is followed in its own root only.
func TestLookAt(t *testing.T) {
	guest := t.TempDir()
	var want unix.Stat_t
	if err := unix.Stat(guest, &want); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		make func(at string) error
		want error
	}{
		{"nothing", func(string) error { return nil }, errNotMounted},
		{"a file", func(at string) error { return os.WriteFile(at, nil, 0o600) }, errNotMounted},
		{"a directory of its own", func(at string) error { return os.Mkdir(at, 0o755) }, errOtherMount},
		{"a link to the path on the host", func(at string) error { return os.Symlink(guest, at) }, errNotMounted},
		{"a link out of its root", func(at string) error { return os.Symlink("../../../../../../../.."+guest, at) }, errNotMounted},
		{"a link to itself", func(at string) error { return os.Symlink("lxd", at) }, errNotMounted},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "dev"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := c.make(filepath.Join(dir, "dev/lxd")); err != nil {
				t.Fatal(err)
			}
			root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(root)
			if err := lookAt(root, &want); !errors.Is(err, c.want) {
				t.Errorf("error = %v; want %v", err, c.want)
			}
		})
	}
}

func TestCheckMounts(t *testing.T) {
	if f := checkMounts(filepath.Join(t.TempDir(), "none"), nil, 1); f.OK || !strings.Contains(f.Detail, "start 'devlxd serve'") {
		t.Errorf("without a guest directory: %+v", f)
	}
	running := func(n, pid int) (list []admin.Container) {
		for range n {
			list = append(list, admin.Container{Name: "c", State: &admin.ContainerState{PID: pid}})
		}
		return append(list, admin.Container{Name: "stopped"})
	}
	// This process has the directory of the tests nowhere.
	if f := checkMounts(t.TempDir(), running(6, os.Getpid()), 5); f.OK || f.Result != resultWarning ||
		!strings.Contains(f.Detail, "5 of 6 running containers looked at: c has ") || !strings.Contains(f.Detail, " and 1 more") {
		t.Errorf("where nothing is mounted: %+v", f)
	}
	if f := checkMounts(t.TempDir(), running(2, 1<<30), 5); !f.OK || !strings.HasPrefix(f.Detail, "0 of 2 ") {
		t.Errorf("with containers that have ended: %+v", f)
	}
}

func TestSpread(t *testing.T) {
	list := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
	for n, want := range map[int][]int{0: {}, 1: {0}, 3: {0, 3, 6}, 10: list, 20: list} {
		if got := spread(list, n); !slices.Equal(got, want) {
			t.Errorf("%d of it: %v; want %v", n, got, want)
		}
	}
}

func TestClock(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		now    time.Time
		state  int
		status int32
		ok     bool
		text   string
	}{
		{now, 0, unix.STA_PLL, true, "2030-01-02T03:04:05Z, synchronised"},
		{now, 5, 0, false, "time service"},
		{now, 0, unix.STA_UNSYNC, false, "time service"},
		{time.Unix(0, 0), 0, 0, false, "is not set"},
	} {
		if f := judgeClock(c.now, c.state, c.status); f.OK != c.ok || !strings.Contains(f.Detail, c.text) {
			t.Errorf("%+v gives %+v", c, f)
		}
	}
}
