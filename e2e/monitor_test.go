package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devlxd/internal/daemontest"
)

// monitored is a running "devlxd monitor" that has subscribed.
type monitored struct {
	t      *testing.T
	cmd    *exec.Cmd
	lines  *bufio.Scanner
	stderr *daemontest.Buffer
}

// monitor starts it and sets user.begin until it prints a change of that, for it does not say when it has subscribed. No other
// event was made before.
func (d *daemon) monitor(name string, args ...string) *monitored {
	d.t.Helper()
	m := &monitored{t: d.t, stderr: &daemontest.Buffer{}}
	m.cmd = exec.Command(binary, append([]string{"monitor", name, "--run-dir", d.RunDir}, args...)...)
	m.cmd.Stderr = m.stderr
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := m.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = m.cmd.Process.Kill() })
	m.lines = bufio.NewScanner(out)
	begun := make(chan struct{})
	go func() {
		defer close(begun)
		m.lines.Scan()
	}()
	for i := 0; ; i++ {
		select {
		case <-begun:
			return m
		default:
			d.CLI("config", "set", name, fmt.Sprintf("user.begin=%d", i))
		}
	}
}

// next is the next event that is not about user.begin, in short; "" after the last.
func (m *monitored) next() string {
	m.t.Helper()
	for m.lines.Scan() {
		var e struct {
			Type     string
			Metadata struct{ Key, Value, Name, Action string }
		}
		if err := json.Unmarshal(m.lines.Bytes(), &e); err != nil {
			m.t.Fatalf("%q: %v", m.lines.Bytes(), err)
		}
		if v := e.Metadata; v.Key != "user.begin" {
			return strings.TrimSpace(fmt.Sprintln(e.Type, v.Key+v.Name, v.Value+v.Action))
		}
	}
	return ""
}

// ended waits for the end, which must not be a failure.
func (m *monitored) ended() {
	m.t.Helper()
	if event := m.next(); event != "" {
		m.t.Errorf("one more event: %s", event)
	}
	if err := m.cmd.Wait(); err != nil || m.stderr.String() != "" {
		m.t.Errorf("it ended with %v: %s", err, m.stderr)
	}
}

func TestMonitor(t *testing.T) {
	d := serve(t)
	web := d.Bound("web")
	all, devices := d.monitor("web"), d.monitor("web", "--type", "device,config")
	config := d.monitor("web", "--type", "config")
	d.CLI("device", "add", "web", "eth0", "nic")
	d.CLI("config", "set", "web", "user.b=2", "user.a=1")
	d.CLI("device", "remove", "web", "eth0")
	want := []string{"device eth0 added", "config user.a 1", "config user.b 2", "device eth0 removed"}
	for _, event := range want {
		for _, m := range []*monitored{all, devices} {
			if got := m.next(); got != event {
				t.Errorf("monitor %q printed %q, want %q", m.cmd.Args[4:], got, event)
			}
		}
	}
	for _, event := range want[1:3] {
		if got := config.next(); got != event {
			t.Errorf("with --type config: %q, want %q", got, event)
		}
	}
	// A signal ends it well, and so does the end of the container.
	for m, sig := range map[*monitored]unix.Signal{devices: unix.SIGINT, config: unix.SIGTERM} {
		if err := m.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		m.ended()
	}
	if err := web.Stop(); err != nil {
		t.Fatal(err)
	}
	all.ended()
}

// TestMonitorWhenTheDaemonEnds: that is no good end, so a script can tell.
func TestMonitorWhenTheDaemonEnds(t *testing.T) {
	d := serve(t)
	d.Bound("web")
	m := d.monitor("web")
	d.Stop()
	for m.next() != "" {
	}
	_ = m.cmd.Wait() // the exit code says it
	if code, text := m.cmd.ProcessState.ExitCode(), m.stderr.String(); code != 1 || strings.Count(text, "\n") != 1 {
		t.Errorf("exit code %d and %q, want 1 and one line", code, text)
	}
}

// TestMonitorReaderGoesAway: it ends with its reader, as in "devlxd monitor web | head -n 1".
func TestMonitorReaderGoesAway(t *testing.T) {
	d := serve(t)
	d.Bound("web")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(binary, "monitor", "web", "--run-dir", d.RunDir)
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	go func() {
		_, _ = io.CopyN(io.Discard, r, 1)
		r.Close()
	}()
	for i := 0; ; i++ {
		select {
		case err := <-ended:
			if err == nil {
				t.Error("it ended as if all was well")
			}
			return
		default:
			d.CLI("config", "set", "web", fmt.Sprintf("user.begin=%d", i))
		}
	}
}
