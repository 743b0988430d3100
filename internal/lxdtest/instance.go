package lxdtest

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Profile is what an instance or a profile is configured with.
type Profile struct {
	Config      map[string]string            `json:"config"`
	Devices     map[string]map[string]string `json:"devices"`
	Description string                       `json:"description"`
	Profiles    []string                     `json:"profiles,omitempty"` // of an instance
}

// Instance is a container of a daemon.
type Instance struct {
	Name    string
	Project string
	Daemon  *Daemon
}

// Full is what the daemon says of an instance.
type Full struct {
	Profile
	Status          string                       `json:"status"`
	Architecture    string                       `json:"architecture"`
	Ephemeral       bool                         `json:"ephemeral"`
	ExpandedConfig  map[string]string            `json:"expanded_config"`
	ExpandedDevices map[string]map[string]string `json:"expanded_devices"`
}

// Name is the full name of a container: one of its own for each daemon of each run, so that its cgroups are.
func (d *Daemon) Name(short string) string { return d.prefix + short }

// Create makes a container that is yet to be started.
func (d *Daemon) Create(project, short string, p Profile) *Instance {
	d.T.Helper()
	i := &Instance{Name: d.Name(short), Project: project, Daemon: d}
	if err := i.create("", p); err != nil {
		d.T.Fatal(err)
	}
	return i
}

// CreateOn is Create in the project "default" on a member of the daemon's cluster.
func (d *Daemon) CreateOn(member, short string, p Profile) *Instance {
	d.T.Helper()
	i := &Instance{Name: d.Name(short), Project: DefaultProject, Daemon: d}
	if err := i.create("&target="+member, p); err != nil {
		d.T.Fatal(err)
	}
	return i
}

// Move moves a container to another member of the cluster. One that runs is shut down, moved and started, as "lxc move --stateless" does it; its
// agent may not listen yet.
func (i *Instance) Move(member string) {
	i.Daemon.T.Helper()
	i.Daemon.Do("POST", i.path("")+"&target="+member, map[string]any{"name": i.Name, "migration": true, "live": false}, nil)
}

// Run makes a container, starts it and waits until a guest can be spoken as.
func (d *Daemon) Run(short string, p Profile) *Instance {
	d.T.Helper()
	i := d.Create(DefaultProject, short, p)
	i.Start()
	return i
}

// create makes the container; more are parameters of the query.
func (i *Instance) create(more string, p Profile) error {
	return i.Daemon.Call("POST", in(i.Project, "/1.0/instances")+more, map[string]any{
		"name": i.Name, "type": "container", "config": p.Config, "devices": p.Devices, "profiles": p.Profiles,
		"source": map[string]string{"type": "image", "fingerprint": i.Daemon.Image},
	}, nil)
}

// path is that of the instance in the API.
func (i *Instance) path(rest string) string { return in(i.Project, "/1.0/instances/"+i.Name+rest) }

// Start starts the container and waits for its agent.
func (i *Instance) Start() {
	i.Daemon.T.Helper()
	if err := i.TryStart(); err != nil {
		i.Daemon.T.Fatal(err)
	}
}

// TryStart is Start for other goroutines than that of the test.
func (i *Instance) TryStart() error {
	if err := i.TryState("start"); err != nil {
		return err
	}
	_, err := i.awaitAgent("/run/agent.sock")
	return err
}

// TryState changes the state: "start", "stop" (by force), "restart", "freeze" and so on.
func (i *Instance) TryState(action string) error {
	return i.Daemon.Call("PUT", i.path("/state"), map[string]any{"action": action, "timeout": -1, "force": true}, nil)
}

// Stop stops the container.
func (i *Instance) Stop() {
	i.Daemon.T.Helper()
	if err := i.TryState("stop"); err != nil {
		i.Daemon.T.Fatal(err)
	}
}

// Delete removes a stopped container.
func (i *Instance) Delete() {
	i.Daemon.T.Helper()
	i.Daemon.Do("DELETE", i.path(""), nil, nil)
}

// Rename gives a stopped container another name.
func (i *Instance) Rename(short string) {
	i.Daemon.T.Helper()
	i.Daemon.Do("POST", i.path(""), map[string]string{"name": i.Daemon.Name(short)}, nil)
	i.Name = i.Daemon.Name(short)
}

// Copy makes a copy that is stopped.
func (i *Instance) Copy(short string) *Instance {
	i.Daemon.T.Helper()
	c := &Instance{Name: i.Daemon.Name(short), Project: i.Project, Daemon: i.Daemon}
	f := i.Get()
	maps.DeleteFunc(f.Config, func(key, _ string) bool { return strings.HasPrefix(key, "volatile.") })
	i.Daemon.Do("POST", in(i.Project, "/1.0/instances"), map[string]any{
		"name": c.Name, "type": "container", "profiles": f.Profiles, "config": f.Config, "devices": f.Devices, "source": map[string]any{"type": "copy", "source": i.Name, "project": i.Project},
	}, nil)
	return c
}

// Get is what the daemon says of it now.
func (i *Instance) Get() (f Full) {
	i.Daemon.T.Helper()
	i.Daemon.Do("GET", i.path(""), nil, &f)
	return f
}

// PID is the container's init as seen from here.
func (i *Instance) PID() int {
	i.Daemon.T.Helper()
	pid, err := i.pid()
	if err != nil {
		i.Daemon.T.Fatal(err)
	}
	return pid
}

func (i *Instance) pid() (int, error) {
	var state struct{ PID int }
	err := i.Daemon.Call("GET", i.path("/state"), nil, &state)
	return state.PID, err
}

// Edit changes config and devices as the command line does: it reads all, has it changed, and writes all.
func (i *Instance) Edit(change func(*Full)) {
	i.Daemon.T.Helper()
	f := i.Get()
	change(&f)
	i.Daemon.Do("PUT", i.path(""), map[string]any{
		"config": f.Config, "devices": f.Devices, "profiles": f.Profiles, "architecture": f.Architecture,
		"ephemeral": f.Ephemeral, "description": f.Description,
	}, nil)
}

// Set sets config keys, in one change; a value of "" unsets the key.
func (i *Instance) Set(config map[string]string) {
	i.Daemon.T.Helper()
	i.Edit(func(f *Full) {
		maps.Copy(f.Config, config)
		maps.DeleteFunc(f.Config, func(_, value string) bool { return value == "" })
	})
}

// Device sets a device; nil removes it.
func (i *Instance) Device(name string, config map[string]string) {
	i.Daemon.T.Helper()
	i.Edit(func(f *Full) {
		f.Devices[name] = config
		if config == nil {
			delete(f.Devices, name)
		}
	})
}

// SetProfile changes a profile of the default project, which exists.
func (d *Daemon) SetProfile(name string, change func(*Profile)) {
	d.T.Helper()
	var p Profile
	d.Do(http.MethodGet, "/1.0/profiles/"+name, nil, &p)
	change(&p)
	d.Do(http.MethodPut, "/1.0/profiles/"+name, p, nil)
}

// execTime is how long an agent may take until it answers.
const execTime = 60 * time.Second

// Exec has a second agent run in the container by the daemon's exec, as uid, and returns the path of its socket for [Instance.DialFrom].
// Its parent is the daemon, and it is in a cgroup beside those of init. It ends with the test: a daemon that is told to end waits for it.
func (i *Instance) Exec(uid int) string {
	i.Daemon.T.Helper()
	path := newAgentPath()
	argv := []string{"/sbin/init", "serve", path}
	if uid != 0 {
		argv = append(argv, fmt.Sprint(uid)) // it listens as root, and is then another
	}
	i.exec(path, argv...)
	return path
}

// ExecNested is Exec as root, with the agent in a pid namespace of its own below the container's, as in a container within the container.
func (i *Instance) ExecNested() string {
	i.Daemon.T.Helper()
	path := newAgentPath()
	// The shell is pid 1 there, as which the agent would be an init.
	i.exec(path, "/bin/busybox", "unshare", "--pid", "--fork", "--mount", "/bin/sh", "-c", "/sbin/init serve "+path+"; exit")
	return path
}

func newAgentPath() string { return fmt.Sprintf("/run/agent-%d.sock", time.Now().UnixNano()) }

// exec has the daemon start an agent and waits for it.
func (i *Instance) exec(path string, argv ...string) {
	i.Daemon.T.Helper()
	// The operation lasts as long as the agent: it is not waited for.
	go func() {
		_ = i.Daemon.Call("POST", i.path("/exec"), map[string]any{"command": argv, "interactive": false, "wait-for-websocket": false}, nil)
	}()
	pid, err := i.awaitAgent(path)
	if err != nil {
		i.Daemon.T.Fatal(err)
	}
	i.Daemon.T.Cleanup(func() {
		if conn, err := dialAgent(pid, path); err == nil { // else the container has ended, and it with it
			_, _ = conn.Write([]byte("exit"))
			_ = conn.Close()
		}
	})
}

// awaitAgent waits until an agent listens.
func (i *Instance) awaitAgent(path string) (pid int, err error) {
	for deadline := time.Now().Add(execTime); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if pid == 0 {
			if pid, err = i.pid(); err != nil {
				return 0, err
			}
		}
		var conn *net.UnixConn
		if conn, err = dialAgent(pid, path); err == nil {
			return pid, conn.Close()
		}
	}
	return 0, fmt.Errorf("%s: %w: %w", i.Name, errAgent, err)
}

func dialAgent(pid int, path string) (*net.UnixConn, error) {
	root := filepath.Join("/proc", fmt.Sprint(pid), "root")
	return net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: root + path, Net: "unixpacket"})
}

// Dial connects to a socket of the container from a child of its init.
func (i *Instance) Dial(socket string) (net.Conn, error) {
	return i.DialFrom("/run/agent.sock", socket)
}

// DialFrom connects from the agent that listens on a path in the container. The connection is that process's: it is the peer.
func (i *Instance) DialFrom(agent, socket string) (net.Conn, error) {
	pid, err := i.pid()
	if err != nil {
		return nil, err
	}
	return dialFrom(pid, agent, socket)
}

// DialPID is Dial for a container whose init is known, without asking the daemon, which may be down.
func DialPID(pid int, socket string) (net.Conn, error) {
	return dialFrom(pid, "/run/agent.sock", socket)
}

func dialFrom(pid int, agent, socket string) (net.Conn, error) {
	ctl, err := dialAgent(pid, agent)
	if err != nil {
		return nil, err
	}
	defer ctl.Close()
	if _, err := ctl.Write([]byte(socket)); err != nil {
		return nil, err
	}
	buf, oob := make([]byte, 256), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := ctl.ReadMsgUnix(buf, oob)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAgent, err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("%w: %s", errAgent, strings.TrimSpace(string(buf[:n])))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("%w: no descriptor: %w", errAgent, err)
	}
	f := os.NewFile(uintptr(fds[0]), socket)
	defer f.Close()
	return net.FileConn(f)
}
