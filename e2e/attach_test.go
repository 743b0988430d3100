package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// realLXD is a LXD daemon with a directory and a network namespace of its own, so that it has nothing to do with one of the host.
type realLXD struct {
	dir   string
	netns string
	cmd   *exec.Cmd
}

// preseed gives LXD a pool, and its containers the host's programs and nothing else to run than sleep.
const preseed = `config: {images.auto_update_interval: "0"}
storage_pools: [{name: default, driver: dir}]
profiles:
- name: default
  config: {raw.lxc: "lxc.init.cmd = /usr/bin/sleep infinity"}
  devices:
    root: {type: disk, path: /, pool: default}
    usr: {type: disk, path: /usr, source: /usr, readonly: "true"}
`

func startLXD(t *testing.T) *realLXD {
	t.Helper()
	for _, program := range []string{"lxd", "lxc", "ip", "nsenter", "tar", "curl"} {
		need(t, program)
	}
	if os.Getuid() != 0 {
		t.Skip("needs root: LXD is started")
	}
	dir, err := os.MkdirTemp("", "dx-lxd-")
	if err != nil {
		t.Fatal(err)
	}
	l := &realLXD{dir: dir, netns: filepath.Base(dir)}
	t.Cleanup(func() {
		// Mounts of LXD are below its directory, shared with this namespace.
		_, _ = tryCommand(t, "umount", "-l", filepath.Join(dir, "devlxd"))
		_, _ = tryCommand(t, "umount", "-l", filepath.Join(dir, "shmounts"))
		os.RemoveAll(dir)
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	command(t, "ip", "netns", "add", l.netns)
	t.Cleanup(func() { command(t, "ip", "netns", "del", l.netns) })
	command(t, "ip", "-n", l.netns, "link", "set", "lo", "up")
	l.cmd = exec.Command("nsenter", "--net=/run/netns/"+l.netns, "lxd", "--group", "root", "--logfile="+filepath.Join(dir, "lxd.log"))
	l.cmd.Env = append(os.Environ(), "LXD_DIR="+dir)
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.stop(t) })
	if _, err := l.try(t, "", "lxd", "waitready", "--timeout=60"); err != nil {
		text, _ := os.ReadFile(filepath.Join(dir, "lxd.log"))
		t.Fatalf("%v\n%s", err, text)
	}
	l.run(t, preseed, "lxd", "init", "--preseed")
	l.image(t)
	return l
}

// stop ends all containers and the daemon.
func (l *realLXD) stop(t *testing.T) {
	t.Helper()
	if names, err := l.try(t, "", "lxc", "list", "-f", "csv", "-c", "n"); err == nil {
		for _, name := range strings.Fields(names) {
			if _, err := l.try(t, "", "lxc", "delete", "-f", name); err != nil {
				t.Error(err)
			}
		}
	}
	_, _ = l.try(t, "", "lxd", "shutdown", "--timeout=20")
	ended := make(chan struct{})
	go func() { _ = l.cmd.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		_ = l.cmd.Process.Signal(syscall.SIGKILL)
		<-ended
	}
}

// image imports one that is no more than the directories of a container.
func (l *realLXD) image(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Rename(rootfs(t, 0), filepath.Join(dir, "rootfs")); err != nil {
		t.Fatal(err)
	}
	meta := "architecture: x86_64\ncreation_date: 1700000000\nproperties: {description: empty}\ntemplates: {}\n"
	if err := os.WriteFile(filepath.Join(dir, "metadata.yaml"), []byte(meta), 0o644); err != nil {
		t.Fatal(err)
	}
	tarball := filepath.Join(dir, "image.tar.gz")
	command(t, "tar", "--numeric-owner", "-C", dir, "-czf", tarball, "metadata.yaml", "rootfs")
	l.run(t, "", "lxc", "image", "import", "-q", tarball, "--alias", "empty")
}

func (l *realLXD) run(t *testing.T, stdin string, argv ...string) string {
	t.Helper()
	out, err := l.try(t, stdin, argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (l *realLXD) try(t *testing.T, stdin string, argv ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "LXD_DIR="+l.dir, "LXD_CONF="+filepath.Join(l.dir, "client"))
	cmd.Stdin = strings.NewReader(stdin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, stderr.String())
	}
	return string(out), err
}

// ask is what a container is answered at its /dev/lxd/sock: by LXD {"api_version":"1.0",...} with more in it, by devlxd that alone; "": nothing is there.
func (l *realLXD) ask(t *testing.T, name, path string) string {
	t.Helper()
	out, _ := l.try(t, "", "lxc", "exec", name, "--", "curl", "-sS", "--max-time", "20", "--unix-socket", "/dev/lxd/sock", "http://lxd"+path)
	return strings.TrimSpace(out)
}

// TestAttachLXD: running containers of a real LXD change from its guest API to devlxd's and back.
func TestAttachLXD(t *testing.T) {
	l := startLXD(t)
	d := discovering(t, "lxc")
	d.Start()
	name := fmt.Sprintf("dx%d", os.Getpid())
	l.run(t, "", "lxc", "launch", "-q", "empty", name)
	l.run(t, "", "lxc", "config", "set", name, "user.who=lxd")
	d.waitState(name, "running")
	d.CLI("config", "set", name, "user.who=devlxd")
	before := l.run(t, "", "lxc", "profile", "show", "default")
	socket := filepath.Join(l.dir, "unix.socket")
	who := func(want string) {
		t.Helper()
		if got := l.ask(t, name, "/1.0/config/user.who"); got != want {
			t.Fatalf("the container is answered %q; want %q", got, want)
		}
	}
	who("lxd")
	for _, of := range [][]string{{"--profile", "default"}, {"--container", name}} {
		flags := append([]string{"--socket", socket}, of...)
		d.CLI(append([]string{"attach", "--dry-run"}, flags...)...)
		who("lxd")
		d.CLI(append([]string{"attach"}, flags...)...)
		who("devlxd")
		if got := d.CLI(append([]string{"attach"}, flags...)...); !strings.Contains(got, "nothing to do") {
			t.Errorf("attached again: %q", got)
		}
		if got := d.CLI("doctor", "-f", "csv"); !strings.Contains(got, "mount in containers,") {
			t.Errorf("doctor says %q", got)
		}
		l.run(t, "", "lxc", "restart", "-f", name)
		d.waitState(name, "running")
		until(t, "the restarted container is answered", func() bool { return l.ask(t, name, "/1.0/config/user.who") == "devlxd" })
		d.CLI(append([]string{"detach"}, flags...)...)
		who("lxd")
	}
	if after := l.run(t, "", "lxc", "profile", "show", "default"); after != before {
		t.Errorf("detached, the profile is\n%s\nbefore it was\n%s", after, before)
	}
	if got := l.run(t, "", "lxc", "config", "get", name, "security.devlxd"); strings.TrimSpace(got) != "" {
		t.Errorf("detached, security.devlxd of the container is %q", got)
	}
}
