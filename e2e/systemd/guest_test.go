package systemd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"devlxd/internal/sandbox"
)

// runtimeVariable names the container of a process that is a runtime in a machine: started by systemd, it starts a container below its own cgroup.
const runtimeVariable = "DEVLXD_SYSTEMD_RUNTIME"

// runDir is where runtimes of a machine say which containers they have.
const runDir = "/run/devlxd-e2e"

// proxySocket is where the guest of a container takes connections that are to be its own.
const proxySocket = "/tmp/proxy"

// roles are the guests that this test binary can be inside of a container.
var roles = map[string]sandbox.Role{"proxy": proxyRole}

// proxyRole connects to the guest socket for each connection to its own, and passes on what comes. So the host asks as the container does.
func proxyRole([]string) int {
	ln, err := net.Listen("unix", proxySocket)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			return 1
		}
		go func() {
			defer c.Close()
			server, err := net.Dial("unix", "/dev/lxd/sock")
			if err != nil {
				_, _ = fmt.Fprintf(c, "HTTP/1.1 599 %v\r\nContent-Length: 0\r\n\r\n", err)
				return
			}
			defer server.Close()
			go func() {
				_, _ = io.Copy(server, c)
				_ = server.(*net.UnixConn).CloseWrite()
			}()
			_, _ = io.Copy(c, server)
		}()
	}
}

// runtimeMain takes over in a process that is a runtime.
func runtimeMain() {
	name, ok := os.LookupEnv(runtimeVariable)
	if !ok {
		return
	}
	err := runtimeOf(name)
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// runtimeOf runs a container until it is killed.
func runtimeOf(name string) error {
	ctx := context.Background()
	c, err := sandbox.Start(ctx, sandbox.Options{Name: name, Guest: "/run/devlxd/guest", Cgroup: true})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return err
	}
	cmd := c.Guest(ctx, "proxy")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	text, err := json.Marshal(container{c.PID(), c.Cgroup()})
	if err == nil {
		err = os.WriteFile(filepath.Join(runDir, name), text, 0o644)
	}
	if err != nil {
		return err
	}
	return cmd.Wait()
}

// container is one in a machine, as its runtime knows it.
type container struct {
	PID    int // in the machine
	Cgroup string
}

// guest is a container of a machine, from which is asked.
type guest struct {
	t      testing.TB
	name   string
	socket string // of its proxy, seen from the host
	fresh  *http.Client
	kept   *http.Client
	dials  atomic.Int64 // of kept
}

// startGuest has systemd start a runtime, as a service, and the daemon know its container.
func (m *machine) startGuest(name string, config ...string) *guest {
	m.t.Helper()
	m.run("systemd-run", "--quiet", "--unit=runtime-"+name, "--property=Delegate=yes", "--setenv="+runtimeVariable+"="+name, installedE)
	var c container
	eventually(m.t, "container "+name+" runs", func() bool {
		text, err := os.ReadFile(m.path(filepath.Join(runDir, name)))
		return err == nil && json.Unmarshal(text, &c) == nil
	})
	if !strings.HasPrefix(c.Cgroup, "/sys/fs/cgroup/system.slice/runtime-"+name+".service/") {
		m.t.Fatalf("the cgroup of container %s is %q: it is not below its runtime's", name, c.Cgroup)
	}
	m.run("devlxd", "container", "add", name, "--pid", strconv.Itoa(c.PID))
	if len(config) > 0 {
		m.run(append([]string{"devlxd", "config", "set", name}, config...)...)
	}
	g := &guest{t: m.t, name: name, socket: m.path(filepath.Join("/proc", strconv.Itoa(c.PID), "root", proxySocket))}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", g.socket)
	}
	g.fresh = &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: patience}
	g.kept = &http.Client{Timeout: patience, Transport: &http.Transport{
		MaxConnsPerHost: 1,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			g.dials.Add(1)
			return dial(ctx, network, address)
		},
	}}
	m.t.Cleanup(g.kept.CloseIdleConnections)
	eventually(m.t, "the guest of "+name+" listens", func() bool {
		_, err := os.Stat(g.socket)
		return err == nil
	})
	return g
}

// ask sends one request, and returns "CODE BODY".
func ask(c *http.Client, path string) (string, error) {
	resp, err := c.Get("http://lxd" + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return fmt.Sprintf("%d %s", resp.StatusCode, body), err
}

// get asks on a connection of its own; getKept on one that is kept.
func (g *guest) get(path string) string     { return g.must(g.fresh, path) }
func (g *guest) getKept(path string) string { return g.must(g.kept, path) }

func (g *guest) must(c *http.Client, path string) string {
	g.t.Helper()
	got, err := ask(c, path)
	if err != nil {
		g.t.Fatal(err)
	}
	return got
}
