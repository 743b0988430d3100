package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	adminclient "devlxd/admin/client"
)

// logged waits for a number of lines with a message, and returns the last one.
func (d *daemon) logged(msg string, n int) map[string]any {
	d.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		var found []map[string]any
		for line := range strings.Lines(d.Log.String()) {
			var v map[string]any
			if strings.HasSuffix(line, "\n") && json.Unmarshal([]byte(line), &v) == nil && v["msg"] == msg {
				found = append(found, v)
			}
		}
		if len(found) >= n {
			return found[len(found)-1]
		}
	}
	d.t.Fatalf("%q is not logged %d times", msg, n)
	return nil
}

// settingsFile is a configuration file that can be written again.
type settingsFile struct {
	t    *testing.T
	path string
}

func (f settingsFile) write(text string) {
	f.t.Helper()
	if err := os.WriteFile(f.path, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// limit is a quota of a container as it is in effect.
func (d *daemon) limit(name, quota string) string {
	d.t.Helper()
	c, err := adminclient.InRunDir(d.RunDir).Container(d.t.Context(), name)
	if err != nil {
		d.t.Fatal(err)
	}
	return c.Quotas[quota].Limit
}

// TestReload: SIGHUP has the file read again. What can change does, at once and below the flags; what cannot is named; a file with a mistake
// changes nothing, and an upgrade with it does not take place. The log tells what a container sends without being harmed by it.
func TestReload(t *testing.T) {
	need(t, "curl")
	file := settingsFile{t, filepath.Join(t.TempDir(), "config.yaml")}
	file.write("limits:\n  images: 7\n  bytes: 8\n")
	d := newDaemon(t, "--config", file.path, "--limits", "bytes=1000000")
	makeUpgradable(t, d)
	d.Start()
	web := d.Bound("web", "user.a=1")
	wantLimits := func(images string) {
		t.Helper()
		if i, b := d.limit("web", "images"), d.limit("web", "bytes"); i != images || b != "1000000" {
			t.Errorf("quotas are %s images and %s bytes; want %s and those of the flag", i, b, images)
		}
	}
	wantLimits("7")
	metrics := func(want ...string) {
		t.Helper()
		out, err := adminMetrics(d)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range want {
			if !strings.Contains(out, line+"\n") {
				t.Errorf("the metrics lack %s", line)
			}
		}
	}
	hup := func() {
		t.Helper()
		if err := d.Cmd.Process.Signal(unix.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}

	file.write("dialect: lxd\nloops: 1\nstate-dir: /nowhere\nlimits:\n  images: 9\n  bytes: 8\nlog:\n  level: debug\n")
	hup()
	if l := d.logged("settings reloaded", 1); l["changed"] != "limits.images log.level" || l["file"] != file.path {
		t.Errorf("the log says %v", l)
	}
	wantLimits("9")
	waits := make(map[any]any)
	d.logged("changed settings do not count yet", 1)
	for line := range strings.Lines(d.Log.String()) {
		var l map[string]any
		if json.Unmarshal([]byte(line), &l) == nil && l["msg"] == "changed settings do not count yet" {
			waits[l["needs"]] = l["settings"]
		}
	}
	if waits["devlxd upgrade"] != "dialect loops" || len(waits) != 1 {
		// The directory of the state is a flag of this daemon, which comes before the file.
		t.Errorf("what waits is %v", waits)
	}
	in(t, web, curlArgs("/1.0/config/user.a", "-A", "\u202eevil\\")...)
	if l := d.logged("request", 1); l["container"] != "web" || l["user_agent"] != `\u202eevil\\` || l["code"] != 200. {
		t.Errorf("the request is logged as %v", l)
	}
	metrics(`devlxd_config_reloads_total{result="ok"} 1`, `devlxd_config_reloads_total{result="failed"} 0`, `devlxd_log_suppressed_total 0`)

	file.write("limits:\n  images: 11\ndialekt: lxd\n")
	hup()
	mistake := file.path + `:3: unknown key "dialekt": perhaps dialect`
	if l := d.logged("settings not reloaded; those of before hold on", 1); l["error"] != mistake {
		t.Errorf("the log says %v", l)
	}
	wantLimits("9")
	if got := d.status().Config; got.File != file.path || got.Error != mistake {
		t.Errorf("status says %+v", got)
	}
	metrics(`devlxd_config_reloads_total{result="ok"} 1`, `devlxd_config_reloads_total{result="failed"} 1`)
	pid := d.pid()
	if out, err := d.TryCLI("upgrade"); err == nil || !strings.Contains(err.Error(), "refused to take over: "+mistake) {
		t.Errorf("an upgrade with a mistake in the file: %s, %v", out, err)
	}
	if d.pid() != pid {
		t.Error("another process serves")
	}
	if got := parseAnswer(in(t, web, curlArgs("/1.0")...)); strings.Contains(got.body, "instance_type") {
		t.Errorf("the dialect has changed: %s", got.body)
	}

	file.write("dialect: lxd\nlimits:\n  images: 12\n")
	d.upgrade()
	wantLimits("12")
	if got := parseAnswer(in(t, web, curlArgs("/1.0")...)); !strings.Contains(got.body, "instance_type") {
		t.Errorf("after the upgrade the dialect is another: %s", got.body)
	}
	if got := d.status().Config; got.Error != "" {
		t.Errorf("status says %+v", got)
	}
}

// adminMetrics are the metrics as the admin socket has them.
func adminMetrics(d *daemon) (string, error) {
	out, err := exec.Command("curl", "-sS", "--max-time", "20", "--unix-socket", filepath.Join(d.RunDir, "admin.sock"), "http://devlxd/metrics").Output()
	return string(out), err
}
