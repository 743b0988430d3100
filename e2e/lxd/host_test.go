package lxd

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"devlxd/admin"
	"devlxd/admin/client"
	"devlxd/internal/daemontest"
	"devlxd/internal/lxdtest"
)

const (
	// crowd is how many containers run beside those of each story.
	crowd = 20
	// starters is how many are started at a time.
	starters = 4
	// guestProfile mounts devlxd's directory into containers.
	guestProfile = "devlxd"
)

// host is a machine with a daemon, its containers, and devlxd that mirrors it.
type host struct {
	t       *testing.T
	kind    lxdtest.Kind
	daemon  *lxdtest.Daemon
	devlxd  *daemontest.Daemon
	admin   *client.Client
	link    string // by which devlxd reaches the daemon, a symbolic link
	members []*lxdtest.Instance
	pids    []int // of their inits
}

// newHost starts it all.
func newHost(t *testing.T, kind lxdtest.Kind) *host {
	t.Helper()
	h := &host{t: t, kind: kind, daemon: lxdtest.Start(t, kind)}
	h.link = filepath.Join(h.daemon.Dir, "mirrored.socket")
	h.connect()
	h.devlxd = daemontest.New(t, binary(), "--source", kind.String()+":"+h.link, "--dialect", kind.String())
	h.devlxd.Start()
	h.admin = client.InRunDir(h.devlxd.RunDir)
	h.daemon.Do("POST", "/1.0/profiles", map[string]any{"name": guestProfile, "devices": map[string]any{
		"devlxd": map[string]string{"type": "disk", "source": filepath.Dir(h.devlxd.Socket()), "path": oursDir, "readonly": "true"},
	}}, nil)
	for i := range crowd {
		short := fmt.Sprintf("c%02d", i)
		h.members = append(h.members, h.daemon.Create(lxdtest.DefaultProject, short, member(short)))
	}
	h.start(h.members)
	for _, c := range h.members {
		h.pids = append(h.pids, c.PID())
	}
	return h
}

// member is how a container of the crowd is configured.
func member(short string) lxdtest.Profile {
	return lxdtest.Profile{Profiles: []string{"default", guestProfile}, Config: map[string]string{"user.me": short}}
}

// start starts containers, several at a time.
func (h *host) start(list []*lxdtest.Instance) {
	h.t.Helper()
	var group sync.WaitGroup
	errs := make([]error, len(list))
	for w := range starters {
		group.Go(func() {
			for i := w; i < len(list); i += starters {
				errs[i] = list[i].TryStart()
			}
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			h.t.Fatal(err)
		}
	}
}

// connect lets devlxd reach the daemon, and disconnect keeps it from that, from its next connection on.
func (h *host) connect() {
	h.t.Helper()
	if err := os.Symlink(h.daemon.Socket(), h.link); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) disconnect() {
	h.t.Helper()
	if err := os.Remove(h.link); err != nil {
		h.t.Fatal(err)
	}
}

// ours and theirs connect to devlxd and to the daemon's own guest API as a guest.
func (h *host) ours(pid int) net.Conn   { return h.dial(pid, oursDir+"/sock") }
func (h *host) theirs(pid int) net.Conn { return h.dial(pid, h.kind.GuestSocket()) }

func (h *host) dial(pid int, socket string) net.Conn {
	h.t.Helper()
	conn, err := lxdtest.DialPID(pid, socket)
	if err != nil {
		h.t.Fatal(err)
	}
	return conn
}

// fetch asks for a path and returns "STATUS BODY".
func fetch(conn net.Conn, path string) string {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(answerTime))
	if _, err := io.WriteString(conn, head("GET", path, "Connection: close")); err != nil {
		return err.Error()
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err.Error()
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(fmt.Sprint(resp.StatusCode, " ", string(body)))
}

func keyPath(key string) string { return "/1.0/config/" + url.PathEscape(key) }

// await waits until a guest is answered so by devlxd.
func (h *host) await(pid int, path, want string) {
	h.t.Helper()
	lxdtest.WaitFor(h.t.Context(), h.t, patience, func() string {
		conn, err := lxdtest.DialPID(pid, oursDir+"/sock")
		if err != nil {
			return err.Error()
		}
		if got := fetch(conn, path); got != want {
			return fmt.Sprintf("%s is answered %q, want %q", path, got, want)
		}
		return ""
	})
}

// status is what devlxd says of its mirror.
func (h *host) status() admin.Mirror {
	h.t.Helper()
	s, err := h.admin.Status(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	if s.Mirror == nil {
		h.t.Fatal("devlxd says nothing of a mirror")
	}
	return *s.Mirror
}

// state is how devlxd has a container: "running", "stopped" or "absent".
func (h *host) state(name string) string {
	c, err := h.admin.Container(h.t.Context(), name)
	switch {
	case client.IsNotFound(err):
		return "absent"
	case err != nil:
		return err.Error()
	}
	return strings.ToLower(c.Status)
}

func (h *host) awaitState(name, want string) {
	h.t.Helper()
	lxdtest.WaitFor(h.t.Context(), h.t, patience, func() string {
		if got := h.state(name); got != want {
			return fmt.Sprintf("devlxd has %s %s, want %s", name, got, want)
		}
		return ""
	})
}

// agrees waits until devlxd has what the daemon has: all its containers, and of each all that guests are told.
func (h *host) agrees() {
	h.t.Helper()
	lxdtest.WaitFor(h.t.Context(), h.t, patience, func() string {
		var list []struct {
			Name, Project, Status string
			ExpandedConfig        map[string]string            `json:"expanded_config"`
			ExpandedDevices       map[string]map[string]string `json:"expanded_devices"`
		}
		h.daemon.Do("GET", "/1.0/instances?recursion=1&all-projects=true", nil, &list)
		names, err := h.admin.ContainerNames(h.t.Context())
		if err != nil || len(names) != len(list) {
			return fmt.Sprintf("devlxd has %d containers, the daemon %d (%v)", len(names), len(list), err)
		}
		for _, i := range list {
			if i.Project != lxdtest.DefaultProject {
				i.Name = i.Project + "_" + i.Name
			}
			c, err := h.admin.Container(h.t.Context(), i.Name)
			if err != nil {
				return err.Error()
			}
			for key, value := range i.ExpandedConfig {
				if (strings.HasPrefix(key, "user.") || strings.HasPrefix(key, "cloud-init.")) && c.Config[key] != value {
					return fmt.Sprintf("%s: %s is %q, the daemon has %q", i.Name, key, c.Config[key], value)
				}
			}
			for key := range c.Config {
				if _, ok := i.ExpandedConfig[key]; !ok {
					return fmt.Sprintf("%s: the daemon has no %s", i.Name, key)
				}
			}
			if !maps.EqualFunc(c.Devices, i.ExpandedDevices, maps.Equal) {
				return fmt.Sprintf("%s: devices are %v, the daemon has %v", i.Name, c.Devices, i.ExpandedDevices)
			}
			if (c.State != nil) == strings.EqualFold(i.Status, "stopped") {
				return fmt.Sprintf("%s is %s, for the daemon %s", i.Name, c.Status, i.Status)
			}
		}
		return ""
	})
}
