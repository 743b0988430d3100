package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"devlxd/internal/sandbox"
)

// nodeClient shares e2e/node with the containers of d and returns the path of
// its script inside.
func nodeClient(t *testing.T, d *daemon) string {
	t.Helper()
	need(t, "node")
	dir := os.Getenv("DEVLXD_TEST_NODE")
	if dir == "" {
		dir = "node"
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "ws")); err != nil {
		t.Skip("needs the Node packages: run npm ci in e2e/node")
	}
	return d.share(dir, "node") + "/guest.mjs"
}

func TestNodeRequests(t *testing.T) {
	d := serve(t)
	config := []string{"user.name=of web", "user.meta-data=a: b\n"}
	for i := 0; i < 200; i += 2 {
		config = append(config, fmt.Sprintf("user.n%d=value %d", i, i))
	}
	web := d.Bound("web", config...)
	script := nodeClient(t, d)
	var got struct {
		KeepAlive []struct {
			Path    string
			Status  int
			Body    string
			Headers map[string]any
		}
		Pipelined []struct {
			Path   string
			Status int
			Body   string
		}
	}
	if err := json.Unmarshal([]byte(in(t, web, "node", script)), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.KeepAlive) != 7 || len(got.Pipelined) != 200 {
		t.Fatalf("got %d and %d answers", len(got.KeepAlive), len(got.Pipelined))
	}
	for _, a := range got.KeepAlive {
		want := 200
		if a.Path == "/nope" {
			want = 404
		}
		if a.Status != want || a.Headers["date"] == nil || a.Headers["content-length"] != fmt.Sprint(len(a.Body)) {
			t.Errorf("%+v", a)
		}
	}
	if got.KeepAlive[3].Body != "of web" || !strings.HasSuffix(got.KeepAlive[4].Body, "local-hostname: web\na: b\n") {
		t.Errorf("%+v %+v", got.KeepAlive[3], got.KeepAlive[4])
	}
	for i, a := range got.Pipelined {
		want := fmt.Sprintf("value %d", i)
		if i%2 == 1 {
			want = "of web"
		}
		if a.Status != 200 || a.Body != want {
			t.Errorf("pipelined %s: %d %q, want %q", a.Path, a.Status, a.Body, want)
		}
	}
}

func TestNodeWebsocket(t *testing.T) {
	d := serve(t)
	web := d.Bound("web")
	script := nodeClient(t, d)
	const events = 20
	sub := background(t, func(ctx context.Context) *sandbox.Cmd {
		cmd := web.Command(ctx, "node", script)
		cmd.Env = []string{fmt.Sprintf("EVENTS=%d", events)}
		return cmd
	})
	for i := range events {
		d.CLI("config", "set", "web", fmt.Sprintf("user.n=%d", i))
	}
	var got struct {
		Received []struct {
			Binary bool
			Text   string
		}
		Pongs, Code int
		Extensions  string
	}
	sub.result(&got)
	if len(got.Received) != events || got.Code != 1000 || got.Pongs != 1 || got.Extensions != "" {
		t.Errorf("got %+v", got)
	}
	for i, m := range got.Received {
		var e event
		if err := json.Unmarshal([]byte(m.Text), &e); err != nil || m.Binary || e.Metadata["value"] != fmt.Sprint(i) {
			t.Errorf("event %d: %+v (%v)", i, m, err)
		}
	}
}

// TestCloudInit runs the data source of the real cloud-init inside a container.
func TestCloudInit(t *testing.T) {
	const python = "/usr/bin/python3"
	dir := os.Getenv("DEVLXD_TEST_CLOUD_INIT")
	if dir == "" {
		dir = "/usr/lib/python3/dist-packages"
	}
	check := exec.Command(python, "-c", "import cloudinit.sources.DataSourceLXD")
	check.Env = append(os.Environ(), "PYTHONPATH="+dir)
	if out, err := check.CombinedOutput(); err != nil {
		t.Skipf("needs cloud-init: unpack the Debian package and set DEVLXD_TEST_CLOUD_INIT to its python3/dist-packages (%v: %s)", err, out)
	}
	d := serve(t)
	userData := "#cloud-config\npackages:\n  - hello\nruncmd:\n  - echo 'ünïcode %s'\n"
	web := d.Bound("web", "user.any=thing", "cloud-init.user-data="+userData, "cloud-init.vendor-data=#cloud-config\n{}\n",
		"user.meta-data=public-keys: [a]\n", "cloud-init.network-config=version: 2\n")
	d.CLI("device", "add", "web", "eth0", "nic", "network=br0", "hwaddr=00:16:3e:00:00:01")
	inside := d.share(filepath.Join(dir, "cloudinit"), "py/cloudinit")
	ctx := t.Context()
	cmd := web.Command(ctx, python, "-c", strings.Join([]string{
		"import json", "from cloudinit.sources import DataSourceLXD as d",
		"assert d.is_platform_viable()", "print(json.dumps(d.read_metadata()))",
	}, "\n"))
	cmd.Env = []string{"PYTHONPATH=" + strings.TrimSuffix(inside, "/cloudinit"), "PYTHONDONTWRITEBYTECODE=1"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		MetaData string            `json:"meta-data"`
		UserData string            `json:"user-data"`
		Vendor   string            `json:"vendor-data"`
		Network  string            `json:"network-config"`
		Config   map[string]string `json:"config"`
		Version  struct {
			API string `json:"api_version"`
		} `json:"1.0"`
		Devices map[string]map[string]string `json:"devices"`
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got.UserData != userData {
		t.Errorf("user-data: %q", got.UserData)
	}
	if !strings.Contains(got.MetaData, "instance-id: web\n") || !strings.Contains(got.MetaData, "local-hostname: web\n") || !strings.Contains(got.MetaData, "public-keys: [a]\n") {
		t.Errorf("meta-data: %q", got.MetaData)
	}
	if got.Vendor != "#cloud-config\n{}\n" || got.Network != "version: 2\n" {
		t.Errorf("vendor-data %q, network-config %q", got.Vendor, got.Network)
	}
	if got.Config["user.any"] != "thing" || got.Devices["eth0"]["hwaddr"] != "00:16:3e:00:00:01" {
		t.Errorf("config %v, devices %v", got.Config, got.Devices)
	}
}
