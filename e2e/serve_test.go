package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// second runs another "devlxd serve" on the run directory, with a state directory of its own. It must end with exit code 1
// and one line, which is returned.
func (d *daemon) second() string {
	d.t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(binary, "serve", "--run-dir", d.RunDir, "--state-dir", d.t.TempDir(), "--metrics", "off")
	cmd.Stderr = &log
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Signal(unix.SIGTERM) })
	defer timer.Stop()
	_ = cmd.Run()
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if code := cmd.ProcessState.ExitCode(); code != 1 || len(lines) != 1 {
		d.t.Errorf("a second daemon ended with %d, want 1 and one line:\n%s", code, &log)
	}
	return lines[len(lines)-1]
}

// files are the sockets as the file system knows them.
func (d *daemon) files() (inodes [2]uint64) {
	d.t.Helper()
	for i, path := range []string{d.Socket(), filepath.Join(d.RunDir, "admin.sock")} {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			d.t.Fatalf("%s: %v", path, err)
		}
		inodes[i] = st.Ino
	}
	return inodes
}

// pid is what the daemon that answers on the admin socket says of itself.
func (d *daemon) pid() int {
	d.t.Helper()
	var status struct{ PID int }
	if err := json.Unmarshal([]byte(d.CLI("status", "-f", "json")), &status); err != nil {
		d.t.Fatal(err)
	}
	return status.PID
}

// TestOneDaemonOfARunDirectory: a second daemon is refused and takes nothing from the first; after the first was killed, its
// sockets and its lock are in nobody's way.
func TestOneDaemonOfARunDirectory(t *testing.T) {
	need(t, "curl")
	d := serve(t)
	web := d.Bound("web", "user.a=1")
	before := d.files()
	want := fmt.Sprintf("devlxd: another devlxd (pid %d) serves %s: stop it, or use another --run-dir", d.Cmd.Process.Pid, d.RunDir)
	if got := d.second(); got != want {
		t.Errorf("a second daemon said\n%s\nwant\n%s", got, want)
	}
	if d.files() != before || d.pid() != d.Cmd.Process.Pid {
		t.Error("the sockets are not those of the first daemon any more")
	}
	if got := parseAnswer(in(t, web, curlArgs("/1.0/config/user.a")...)); got.body != "1" {
		t.Errorf("a guest is answered %+v", got)
	}
	if err := d.Cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-d.Exited
	if d.files() != before {
		t.Error("the sockets are not those that the killed daemon left")
	}
	d.Start()
	if d.files() == before || d.pid() != d.Cmd.Process.Pid {
		t.Error("the sockets of the killed daemon were not replaced")
	}
	if got := parseAnswer(in(t, web, curlArgs("/1.0/config/user.a")...)); got.body != "1" {
		t.Errorf("after the restart a guest is answered %+v", got)
	}
}

// TestDaemonsStartAtOnce: of several daemons that are started on one run directory at once, one serves and the others end.
func TestDaemonsStartAtOnce(t *testing.T) {
	const daemons = 4
	list := make([]*daemon, daemons)
	list[0] = newDaemon(t)
	for i := 1; i < daemons; i++ {
		list[i] = newDaemon(t)
		list[i].RunDir = list[0].RunDir
	}
	for _, d := range list {
		d.Launch()
	}
	var winner *daemon
	refused := 0
	for end := time.Now().Add(patience); winner == nil || refused < daemons-1; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d daemons were refused, one serves: %v", refused, winner != nil)
		}
		for _, d := range list {
			if d.Cmd == nil {
				continue
			}
			select {
			case err := <-d.Exited:
				if code := d.Cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(d.Log.String(), "another devlxd") {
					t.Errorf("a daemon ended with %v:\n%s", err, d.Log)
				}
				d.Cmd = nil
				refused++
			default:
				if winner != d && strings.Contains(d.Log.String(), `"msg":"serving"`) {
					if winner != nil {
						t.Fatal("two daemons serve")
					}
					winner = d
				}
			}
		}
	}
	if winner.Cmd == nil {
		t.Fatal("the daemon that served has ended")
	}
	if pid := winner.pid(); pid != winner.Cmd.Process.Pid {
		t.Errorf("pid %d answers; want %d", pid, winner.Cmd.Process.Pid)
	}
}

// TestForeignListener: what listens on a socket of the run directory keeps it, also if it knows nothing of the lock.
func TestForeignListener(t *testing.T) {
	d := newDaemon(t)
	for _, name := range []string{"admin.sock", "guest/sock"} {
		path := filepath.Join(d.RunDir, name)
		ln := listenUnix(t, path)
		want := fmt.Sprintf("devlxd: another process (pid %d) answers on %s: stop it, or use another --run-dir", os.Getpid(), path)
		if got := d.second(); got != want {
			t.Errorf("a second daemon said\n%s\nwant\n%s", got, want)
		}
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatalf("the listener was cut off: %v", err)
		}
		conn.Close()
		ln.SetUnlinkOnClose(false) // as if its process had died
		ln.Close()
	}
	d.Start()
}

func listenUnix(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// TestSocketActivation: a daemon serves the sockets that it inherits, which answer before it does, and has the run directory
// for itself as any other has.
func TestSocketActivation(t *testing.T) {
	need(t, "curl")
	for _, names := range [][]string{{"guest", "admin"}, {"guest"}, {"admin"}} {
		t.Run(strings.Join(names, " and "), func(t *testing.T) {
			d := newDaemon(t)
			d.Change = func(cmd *exec.Cmd) {
				// LISTEN_PID is the pid of the daemon, see sd_listen_fds(3).
				cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh"}, cmd.Args...)
				cmd.Env = append(os.Environ(), fmt.Sprint("LISTEN_FDS=", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
				for _, name := range names {
					path := map[string]string{"guest": d.Socket(), "admin": filepath.Join(d.RunDir, "admin.sock")}[name]
					ln := listenUnix(t, path)
					ln.SetUnlinkOnClose(false)
					f, err := ln.File()
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { f.Close() })
					if err := os.Chmod(path, 0o666); err != nil {
						t.Fatal(err)
					}
					cmd.ExtraFiles = append(cmd.ExtraFiles, f)
				}
			}
			d.Start()
			before := d.files()
			web := d.Bound("web", "user.a=1")
			if got := parseAnswer(in(t, web, curlArgs("/1.0/config/user.a")...)); got.body != "1" {
				t.Errorf("a guest is answered %+v", got)
			}
			want := fmt.Sprintf("devlxd: another devlxd (pid %d) serves %s: stop it, or use another --run-dir", d.Cmd.Process.Pid, d.RunDir)
			if got := d.second(); got != want {
				t.Errorf("a second daemon said\n%s\nwant\n%s", got, want)
			}
			if d.files() != before || d.pid() != d.Cmd.Process.Pid {
				t.Error("the sockets are not those of the first daemon any more")
			}
		})
	}
}
