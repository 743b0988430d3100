package systemd

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// event is one event as a guest reads it.
type event struct {
	Type     string
	Metadata struct{ Key, Value string }
}

// stream is a websocket of events.
type stream struct {
	t    testing.TB
	conn *websocket.Conn
}

// subscribe opens one that ends with the test.
func (g *guest) subscribe() *stream {
	g.t.Helper()
	conn, _, err := websocket.Dial(g.t.Context(), "ws://lxd/1.0/events", &websocket.DialOptions{HTTPClient: g.fresh})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.(*testing.T).Cleanup(func() { _ = conn.CloseNow() })
	return &stream{g.t, conn}
}

// wants checks the next event.
func (s *stream) wants(key, value string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, data, err := s.conn.Read(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	var e event
	if err := json.Unmarshal(data, &e); err != nil || e.Metadata.Key != key || e.Metadata.Value != value {
		s.t.Fatalf("event %s (%v); want %s=%s", data, err, key, value)
	}
}

// TestService: the unit is active when guests are served and not before, its sandbox stands in no route's way, and its log is JSON.
func TestService(t *testing.T) {
	m := startMachine(t)
	m.run("systemctl", "start", "devlxd.service")
	if status := m.run("devlxd", "status"); !strings.Contains(status, "ready: true") {
		t.Errorf("the service was started and is not ready:\n%s", status)
	}
	log := m.run("journalctl", "--no-pager", "--output=cat", "--unit=devlxd.service")
	serving, started := strings.Index(log, `"msg":"serving"`), strings.Index(log, "Started devlxd.service")
	if serving < 0 || started < serving {
		t.Errorf("the unit was active before guests were served:\n%s", log)
	}
	pid := m.mainPID()
	m.wantStatus(pid, map[string]string{"NoNewPrivs": "1", "Seccomp": "2", "CapBnd": "0000000000080004", "CapEff": "0000000000080004"})

	g := m.startGuest("web", "user.role=front end", "cloud-init.user-data=#cloud-config", "security.devlxd.images=true")
	other := m.startGuest("db", "user.role=back end")
	s := g.subscribe()
	m.run("devlxd", "config", "set", "web", "user.role=frontend")
	s.wants("user.role", "frontend")
	m.run("devlxd", "device", "add", "web", "eth0", "nic", "network=br0")
	image := makeImage(t)
	if err := os.WriteFile(m.path("/root/image"), image, 0o600); err != nil {
		t.Fatal(err)
	}
	m.run("devlxd", "image", "import", "/root/image", "--public")
	for path, want := range map[string]string{
		"/": `200 ["/1.0"]`, "/1.0/config/user.role": "200 frontend", "/1.0/config/cloud-init.user-data": "200 #cloud-config",
		"/1.0/devices": `"network":"br0"`, "/1.0/meta-data": "local-hostname: web", "/1.0/config/user.none": "404 not found",
		fmt.Sprintf("/1.0/images/%x/export", sha256.Sum256(image)): "200 " + string(image),
	} {
		if got := g.get(path); !strings.Contains(got, want) {
			t.Errorf("%s: %q; want %q", path, got, want)
		}
	}
	if got := other.get("/1.0/config/user.role"); got != "200 back end" {
		t.Errorf("another container is answered %q", got)
	}
	if got := m.run("curl", "-sS", "http://127.0.0.1:9778/healthz"); !strings.Contains(got, "ok") {
		t.Errorf("/healthz on the metrics address says %q", got)
	}
	m.wantLog("serving", "container bound")
	m.wantDirectories()
	m.wantNoComplaint()
}

// makeImage makes the smallest image there is.
func makeImage(t *testing.T) []byte {
	t.Helper()
	const metadata = "architecture: x86_64\ncreation_date: 1700000000\n"
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: "metadata.yaml", Mode: 0o644, Size: int64(len(metadata))})
	if err == nil {
		_, err = w.Write([]byte(metadata))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// wantStatus checks lines of /proc/PID/status.
func (m *machine) wantStatus(pid int, want map[string]string) {
	m.t.Helper()
	text, err := os.ReadFile(m.path(fmt.Sprintf("/proc/%d/status", pid)))
	if err != nil {
		m.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		if value = strings.TrimSpace(value); want[key] != "" && want[key] != value {
			m.t.Errorf("%s of the daemon is %s; want %s", key, value, want[key])
		}
	}
}

// wantLog checks that the daemon's log is JSON and has lines, and none of a higher level than INFO.
func (m *machine) wantLog(messages ...string) {
	m.t.Helper()
	entries := m.journal()
	for _, want := range messages {
		if !slices.ContainsFunc(entries, func(e entry) bool { return e.Msg == want }) {
			m.t.Errorf("the journal has no %q", want)
		}
	}
	for _, e := range entries {
		if e.Level != "INFO" {
			m.t.Errorf("the journal has %+v", e)
		}
	}
}

// wantDirectories checks what systemd has made for the daemon, and what it has made there.
func (m *machine) wantDirectories() {
	m.t.Helper()
	for path, want := range map[string]fs.FileMode{
		"/run/devlxd": fs.ModeDir | 0o755, "/run/devlxd/guest": fs.ModeDir | 0o755, "/run/devlxd/guest/sock": fs.ModeSocket | 0o666,
		"/run/devlxd/admin.sock": fs.ModeSocket | 0o600, "/var/lib/devlxd": fs.ModeDir | 0o700,
	} {
		if info, err := os.Lstat(m.path(path)); err != nil || info.Mode() != want {
			m.t.Errorf("%s: %v, %v; want %v", path, info, err, want)
		}
	}
}

// expected is what systemd says of what the tests do.
var expected = regexp.MustCompile(`Failed with result 'signal'|Main process exited, code=killed`)

// wantNoComplaint checks that systemd says nothing against the units, or against what the daemon does: a setting that it does not know, or
// cannot do here, is ignored otherwise.
func (m *machine) wantNoComplaint() {
	m.t.Helper()
	log := m.run("journalctl", "--no-pager", "--output=cat", "--priority=warning", "_PID=1")
	for line := range strings.Lines(log) {
		if strings.Contains(line, "devlxd.s") && !expected.MatchString(line) {
			m.t.Errorf("systemd says: %s", line)
		}
	}
}

// TestActivation: where the socket unit alone is active, the first guest that connects has systemd start the daemon, and is answered.
func TestActivation(t *testing.T) {
	m := startMachine(t)
	m.run("systemctl", "start", "devlxd.service")
	g := m.startGuest("web", "user.a=1")
	m.run("systemctl", "stop", "devlxd.service")
	for path, there := range map[string]bool{"/run/devlxd/guest/sock": true, "/run/devlxd/admin.sock": false, "/var/lib/devlxd": true} {
		if _, err := os.Lstat(m.path(path)); (err == nil) != there {
			t.Errorf("%s after the daemon was stopped: %v", path, err)
		}
	}
	if state, pid := m.property("ActiveState"), m.mainPID(); state != "inactive" || pid != 0 {
		t.Fatalf("the service is %s with pid %d; want inactive", state, pid)
	}
	if got := g.get("/1.0/config/user.a"); got != "200 1" {
		t.Errorf("the guest that has the daemon started is answered %q", got)
	}
	environ, err := os.ReadFile(m.path(filepath.Join("/proc", fmt.Sprint(m.mainPID()), "environ")))
	if err != nil || !slices.Contains(strings.Split(string(environ), "\x00"), "LISTEN_FDNAMES=guest") {
		t.Errorf("the environment of the daemon is %q (%v); want a socket named guest", environ, err)
	}
	m.run("systemctl", "stop", "devlxd.socket", "devlxd.service")
	m.run("systemctl", "start", "devlxd.socket")
	if got := g.get("/1.0/config/user.a"); got != "200 1" {
		t.Errorf("after both were stopped the guest is answered %q", got)
	}
	m.wantLog("serving", "shutting down")
}
