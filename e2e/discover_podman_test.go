package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devlxd/internal/cgroup2"
)

// podmanRuntime is podman as root with crun. The containers are privileged, since the filter of devices of any other takes a
// lock limit that a host may not grant.
type podmanRuntime struct {
	root, run, dir string
	enter          []string // puts a command where podman sees cgroup v2 alone
}

func newPodman(t *testing.T, run string) *podmanRuntime {
	t.Helper()
	for _, program := range []string{"podman", "crun", "conmon", "nsenter", "unshare", "curl"} {
		need(t, program)
	}
	dir, err := os.MkdirTemp("", "dx-pod-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &podmanRuntime{root: rootfs(t, 0), run: run, dir: dir}
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	mount := cgroup2.Mount(string(text))
	if parent := filepath.Join(mount, "libpod_parent"); mount != "" {
		if _, err := os.Stat(parent); os.IsNotExist(err) {
			t.Cleanup(func() { _ = cgroup2.RemoveTree(parent) })
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &st); err != nil {
		t.Fatal(err)
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		return r
	}
	// crun refuses a host with both versions, so it gets a mount namespace that has the second alone.
	holder := exec.Command("unshare", "-m", "sh", "-c", "umount -l /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && echo ready && exec sleep infinity")
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = holder.Process.Kill(); _ = holder.Wait() })
	if n, _ := out.Read(make([]byte, 16)); n == 0 {
		t.Skip("cgroup v2 cannot be mounted in a namespace of its own, and podman does not take a host with both versions")
	}
	r.enter = []string{"nsenter", "-m", "-t", strconv.Itoa(holder.Process.Pid)}
	return r
}

func (r *podmanRuntime) podman(args ...string) []string {
	return append(append(r.enter[:len(r.enter):len(r.enter)], "podman", "--root", filepath.Join(r.dir, "root"), "--runroot", filepath.Join(r.dir, "run"),
		"--tmpdir", filepath.Join(r.dir, "tmp"), "--cgroup-manager", "cgroupfs", "--events-backend", "file"), args...)
}

func (r *podmanRuntime) start(t *testing.T, name string) {
	t.Helper()
	id, err := tryCommand(t, r.podman("container", "inspect", "-f", "{{.Id}}", name)...)
	t.Cleanup(func() { _, _ = tryCommand(t, r.podman("rm", "-f", "-t", "0", name)...) })
	if err == nil && strings.TrimSpace(id) != "" {
		command(t, r.podman("start", name)...)
		return
	}
	command(t, r.podman("run", "-d", "--name", name, "--privileged", "--pids-limit=-1", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000",
		"--network", "none", "-v", hostRoot+":"+hostRoot+":ro", "-v", filepath.Join(r.run, "guest")+":/dev/lxd:ro", "--rootfs", r.root,
		"/usr/bin/sleep", "infinity")...)
}

func (r *podmanRuntime) stop(t *testing.T, name string) {
	t.Helper()
	command(t, r.podman("stop", "-t", "0", name)...)
}

func (r *podmanRuntime) attach(ctx context.Context, name string, argv ...string) *exec.Cmd {
	args := r.podman(append([]string{"exec", name}, argv...)...)
	return exec.CommandContext(ctx, args[0], args[1:]...)
}

func TestDiscoverPodman(t *testing.T) {
	d := discovering(t, "podman")
	testDiscovery(t, d, newPodman(t, d.RunDir))
}
