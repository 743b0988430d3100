package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// demoUsers are those that the demo is shown to; nil is root.
func demoUsers() map[string]*syscall.Credential {
	return map[string]*syscall.Credential{"root": nil, "nobody": nobody()}
}

func TestDemo(t *testing.T) {
	for _, tc := range []struct {
		name, dialect string
		user          *syscall.Credential
		leftOut       int
		want          []string
	}{
		{"root", "document", nil, 0, []string{
			`✓ 200 {"api_version":"1.0"}`, "✓ 401 Access denied for non-root user", "mkdir lxc.payload.db", "known by its cgroup id",
			"✓ 500 pid not in container?", "✓ 403 not authorized",
		}},
		{"nobody", "document", nobody(), 2, []string{
			`✓ 200 {"api_version":"1.0"}`, "- left out: no cgroup of its own", "- left out: the container has one user id only",
			"its root is uid 65534 of the host", "known by its pid namespace",
		}},
		{"root in LXD's words", "lxd", nil, 0, []string{`✓ 200 {"state":"Ready","api_version":"1.0"`, "✓ 403 Forbidden", "✓ 500 Process ID not found in container"}},
		{"root in Incus' words", "incus", nil, 0, []string{`"instance_type":"container"`, "✓ 403 not authorized", `"error":"Image \"0000`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := startDemo(t, tc.user, "--dialect", tc.dialect)
			out, code := d.rest()
			if code != 0 || d.stderr.Len() != 0 {
				t.Fatalf("exit code %d: %s\n%s", code, d.stderr.String(), out)
			}
			common := []string{
				"1. A server and three containers", "7. Switched off while it runs",
				"web# curl --unix-socket /dev/lxd/sock http://lxd/1.0/config\n", "✓ 404 404 page not found", `✓ 400 Invalid state "Sleepy"`,
				"27 answers compared", "✓ web: 25 events, in order, none missing", "✓ db: 25 events, in order, none missing",
				`"action":"updated"`, "title of the monitor", "(that of web, which connected)", "(8388608 bytes)",
				"✓ web: its events end: 1008 not authorized", "✓ db: its events end: end of the stream",
			}
			for _, want := range append(common, tc.want...) {
				if !strings.Contains(out, want) {
					t.Errorf("it does not print %q", want)
				}
			}
			if strings.Contains(out, "\x1b") {
				t.Error("escape sequences are written to a pipe")
			}
			checks := strings.Count(out, "   ✓ ") - 1 // the last one is the sum
			sum := fmt.Sprintf("✓ %d checks in ", checks)
			if !strings.Contains(out, sum) || strings.Count(out, "- left out: ") != tc.leftOut {
				t.Errorf("want %q in the last line and %d checks left out", sum, tc.leftOut)
			}
			if t.Failed() {
				t.Log(out)
			}
		})
	}
}

// TestDemoWrongAnswer changes the server behind the demo's back.
func TestDemoWrongAnswer(t *testing.T) {
	d := startDemo(t, nil)
	dir := runDirIn(t, d.until("2. Every path"))
	devlxd(t, "config", "set", "cache", "security.devlxd.images=true", "--run-dir", dir)
	d.failed("was answered 200 application/octet-stream")
}

func TestDemoInterrupted(t *testing.T) {
	for name, user := range demoUsers() {
		for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
			t.Run(name+" "+sig.String(), func(t *testing.T) {
				d := startDemo(t, user)
				d.until("2. Every path") // the rest does not fit into the pipe
				if err := d.cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				d.failed("interrupted; everything was removed")
			})
		}
	}
}

func TestDemoReaderGoesAway(t *testing.T) {
	d := startDemo(t, nil)
	d.until("2. Every path")
	d.out.Close()
	d.failed("broken pipe")
}

func TestDemoPrerequisites(t *testing.T) {
	t.Run("no user namespaces", func(t *testing.T) {
		d := launchDemo(t, func(cmd *exec.Cmd) {
			// The limit counts in the namespace that it is set in, and nowhere else.
			cmd.Env = append(cmd.Env, runEnv+"="+runNoUserNS)
			cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: int(nobody().Uid), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: int(nobody().Gid), Size: 1}}
			cmd.SysProcAttr.Credential = &syscall.Credential{NoSetGroups: true}
		})
		d.failed("set sysctl user.max_user_namespaces to more than 0")
	})
	t.Run("no temporary directory", func(t *testing.T) {
		d := launchDemo(t, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "TMPDIR=/nonexistent") })
		d.failed("set TMPDIR to one that is writable")
	})
	t.Run("long temporary directory", func(t *testing.T) {
		long := "TMPDIR=" + os.TempDir() + strings.Repeat("/.", 100)
		d := launchDemo(t, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, long) })
		if _, code := d.rest(); code != 0 {
			t.Errorf("exit code %d: %s", code, d.stderr.String())
		}
	})
}

// TestDemoKeep does what the demo says at its end.
func TestDemoKeep(t *testing.T) {
	enter := regexp.MustCompile(`(?m)^ +\$ (.*nsenter .*)$`)
	ask := regexp.MustCompile(`(?m)^ +web# (curl .*/user\.role)$`)
	for name, user := range demoUsers() {
		t.Run(name, func(t *testing.T) {
			for _, program := range []string{"nsenter", "curl"} {
				if _, err := exec.LookPath(program); errors.Is(err, exec.ErrNotFound) {
					t.Skipf("needs %s in PATH", program)
				}
			}
			d := startDemo(t, user, "--keep")
			out := d.until("The server writes its log to")
			dir := runDirIn(t, out)
			if list := devlxd(t, "container", "list", "-f", "csv", "--run-dir", dir); strings.Count(list, "Running") != 3 {
				t.Errorf("not three containers run: %s", list)
			}
			_, play, _ := strings.Cut(out, "Your turn")
			in, question := enter.FindStringSubmatch(play), ask.FindStringSubmatch(play)
			if in == nil || question == nil {
				t.Fatalf("no way in, or nothing to ask:\n%s", play)
			}
			shell := exec.Command("sh", "-c", in[1])
			shell.Stdin = strings.NewReader("hostname; id -u; " + question[1] + "\n")
			shell.SysProcAttr = &syscall.SysProcAttr{Credential: user}
			inside, err := shell.CombinedOutput()
			if err != nil || !strings.HasPrefix(string(inside), "web\n0\n") || !strings.HasSuffix(string(inside), "frontend-2") {
				t.Errorf("%s; %s: %q, %v, want to be root of web, also for the server", in[1], question[1], inside, err)
			}
			if err := d.cmd.Process.Signal(unix.SIGINT); err != nil {
				t.Fatal(err)
			}
			end, code := d.rest()
			if code != 0 || d.stderr.Len() != 0 || !strings.Contains(end, "the files are gone") {
				t.Errorf("exit code %d: %s%s", code, end, d.stderr.String())
			}
		})
	}
}

func TestDemoUsage(t *testing.T) {
	d := startDemo(t, nil, "--dialect", "klingon")
	_, code := d.rest()
	if want := "devlxd demo: --dialect: unknown dialect \"klingon\": use document, lxd or incus: see 'devlxd demo --help'\n"; code != exitUsage || d.stderr.String() != want {
		t.Errorf("exit code %d and %q, want %d and %q", code, d.stderr.String(), exitUsage, want)
	}
}
