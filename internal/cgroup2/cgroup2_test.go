package cgroup2

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMount(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"unified", "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup"},
		{"shared", "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup"},
		{"hybrid", "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/unified"},
		{"a part of it", "41 31 0:38 /a /mnt rw - cgroup2 cgroup2 rw\n", ""},
		{"a part of it and the whole", "30 23 0:26 /x /a rw - cgroup2 none rw\n31 23 0:26 / /b rw master:1 - cgroup2 c rw\n", "/b"},
		{"version 1", "30 23 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n", ""},
		{"none", "27 1 254:0 / / rw - ext4 /dev/vda rw\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Mount(tc.text); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestRemoveTree(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a")
	if err := os.MkdirAll(filepath.Join(dir, "b", "c"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := RemoveTree(dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the tree is left: %v", err)
	}
	if err := RemoveTree(dir); err != nil {
		t.Errorf("one that is not there: %v", err)
	}
	// A file stands for what only the kernel may remove.
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := RemoveTree(dir); err == nil {
		t.Error("a directory that is not empty was removed")
	}
}
