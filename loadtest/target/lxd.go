package target

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// LXD is a LXD or Incus daemon with containers of its own, in which guests are attached: processes in the namespaces and the cgroup of
// each container (see guests.Options.Attach).
type LXD struct {
	name      string
	socket    string
	api       *http.Client
	pid       int
	instances []Instance
	found     map[string]*instance // by name; read-only after FindLXD

	mu      sync.Mutex
	changed map[string]map[string]bool // keys that were set, by instance
}

var _ Target = (*LXD)(nil)

// Instance is a running container of a daemon.
type Instance struct {
	Name    string
	Project string
	PID     int // of its init process
}

// instance is what the daemon's API says of one (LXD shared/api: InstanceFull).
type instance struct {
	Name           string            `json:"name"`
	Project        string            `json:"project"`
	Type           string            `json:"type"`
	Location       string            `json:"location"`
	Config         map[string]string `json:"config"` // of its own, without its profiles
	ExpandedConfig map[string]string `json:"expanded_config"`
	State          struct {
		PID int `json:"pid"`
	} `json:"state"`
}

// environment is what matters of the answer to GET /1.0.
type environment struct {
	Environment struct {
		ServerName string `json:"server_name"`
		ServerPID  int    `json:"server_pid"`
	} `json:"environment"`
}

// FindLXD uses the daemon whose API is on adminSocket and whose guest socket, seen from the host, is socket. Its containers are those
// of all projects that run on this host and have the guest API. A run knows containers by their names, so that those whose name is in
// several projects are left out.
//
// Errors: [ErrNoInstances], what the daemon refuses, and those of the connection.
func FindLXD(ctx context.Context, name, adminSocket, socket string) (*LXD, error) {
	d := &LXD{
		name: name, socket: socket, api: unixClient(adminSocket),
		found: make(map[string]*instance), changed: make(map[string]map[string]bool),
	}
	if err := d.find(ctx, adminSocket); err != nil {
		d.api.CloseIdleConnections()
		return nil, err
	}
	return d, nil
}

func (d *LXD) find(ctx context.Context, adminSocket string) (err error) {
	if d.pid, err = socketOwner(adminSocket); err != nil {
		return err
	}
	var server environment
	if err := d.call(ctx, http.MethodGet, "/1.0", nil, &server); err != nil {
		return err
	}
	if d.pid == systemd {
		d.pid = server.Environment.ServerPID
	}
	var list []instance
	if err := d.call(ctx, http.MethodGet, "/1.0/instances?recursion=2&all-projects=true", nil, &list); err != nil {
		return err
	}
	count := make(map[string]int)
	for i := range list {
		if list[i].usable(server.Environment.ServerName) {
			count[list[i].Name]++
			d.found[list[i].Name] = &list[i]
		}
	}
	for name, i := range d.found {
		if count[name] == 1 {
			d.instances = append(d.instances, Instance{name, i.Project, i.State.PID})
		}
	}
	if len(d.instances) == 0 {
		return fmt.Errorf("%s: %w", d.name, ErrNoInstances)
	}
	slices.SortFunc(d.instances, func(a, b Instance) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// usable tells whether guests can ask from an instance: a virtual machine has a pid too, that of its emulator, and a member of a cluster
// lists what runs on the others.
func (i *instance) usable(server string) bool {
	here := i.Location == "" || i.Location == "none" || i.Location == server
	return i.Type == "container" && i.State.PID > 0 && here &&
		!isFalse(i.ExpandedConfig["security.devlxd"]) && !isFalse(i.ExpandedConfig["security.guestapi"])
}

// isFalse tells whether a daemon takes a value for no (LXD shared/util.go: IsFalse).
func isFalse(value string) bool {
	return slices.Contains([]string{"false", "0", "no", "off"}, strings.ToLower(value))
}

// Instances are the running containers, sorted by name.
func (d *LXD) Instances() []Instance { return d.instances }

// systemd makes the listening sockets of services that it starts when somebody connects.
const systemd = 1

// socketOwner is the process that listens on a socket (SO_PEERCRED of a connection).
func socketOwner(path string) (int, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return 0, fmt.Errorf("cannot reach the daemon: %w", err)
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, fmt.Errorf("cannot tell the daemon's process: %w", credErr)
	}
	return int(cred.Pid), nil
}

// call asks the daemon's API, and waits for the operation that a change begins.
func (d *LXD) call(ctx context.Context, method, path string, send, result any) error {
	var body io.Reader
	if send != nil {
		encoded, err := json.Marshal(send)
		if err != nil {
			return err
		}
		body = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+d.name+path, body)
	if err != nil {
		return err
	}
	resp, err := d.api.Do(req)
	if err != nil {
		return fmt.Errorf("cannot ask the daemon: %w", err)
	}
	defer resp.Body.Close()
	var envelope struct {
		Type      string          `json:"type"`
		Operation string          `json:"operation"`
		Error     string          `json:"error"`
		Code      int             `json:"error_code"`
		Metadata  json.RawMessage `json:"metadata"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&envelope); err != nil {
		return fmt.Errorf("cannot read the daemon's answer: %w", err)
	}
	switch {
	case envelope.Type == "error" && envelope.Code == http.StatusNotFound:
		return fmt.Errorf("%w: %s %s: %s", errNotFound, method, path, envelope.Error)
	case envelope.Type == "error":
		return fmt.Errorf("the daemon refused %s %s: %s", method, path, envelope.Error)
	case envelope.Type == "async":
		return d.await(ctx, envelope.Operation)
	case result != nil:
		return json.Unmarshal(envelope.Metadata, result)
	}
	return nil
}

// await waits for an operation of the daemon.
func (d *LXD) await(ctx context.Context, operation string) error {
	var op struct {
		StatusCode int    `json:"status_code"`
		Err        string `json:"err"`
	}
	at, err := url.Parse(operation) // with a query, where the project is not the default one
	if err != nil {
		return fmt.Errorf("cannot read the daemon's answer: %w", err)
	}
	at.Path += "/wait"
	if err := d.call(ctx, http.MethodGet, at.RequestURI(), nil, &op); err != nil {
		return err
	}
	if op.StatusCode != http.StatusOK {
		return fmt.Errorf("the daemon failed: %s", op.Err)
	}
	return nil
}

// Name implements Target.
func (d *LXD) Name() string { return d.name }

// Socket implements Target.
func (d *LXD) Socket() string { return d.socket }

// PID implements Target.
func (d *LXD) PID() int { return d.pid }

// Features implements Target. Stopping somebody's containers is not for a load generator.
func (d *LXD) Features() Feature { return Identity | Routes | Events }

// Register implements Target: containers are the daemon's own; their keys are set.
func (d *LXD) Register(ctx context.Context, containers []Container, done func(int)) error {
	return parallel(ctx, len(containers), done, func(ctx context.Context, i int) error {
		return d.change(ctx, containers[i].Name, containers[i].Config)
	})
}

// Set implements Target.
func (d *LXD) Set(ctx context.Context, container, key, value string) error {
	return d.change(ctx, container, map[string]string{key: value})
}

// change sets keys of a container and remembers that it did, also if that fails: what the daemon has done by then is not known.
func (d *LXD) change(ctx context.Context, container string, config map[string]string) error {
	if d.found[container] == nil {
		return fmt.Errorf("%s: container %q: %w", d.name, container, errNotFound)
	}
	d.mu.Lock()
	if d.changed[container] == nil {
		d.changed[container] = make(map[string]bool)
	}
	for key := range config {
		d.changed[container][key] = true
	}
	d.mu.Unlock()
	return d.patch(ctx, container, config)
}

func (d *LXD) patch(ctx context.Context, container string, config map[string]string) error {
	project := d.found[container].Project
	if project == "" {
		project = "default"
	}
	path := "/1.0/instances/" + url.PathEscape(container) + "?project=" + url.QueryEscape(project)
	return d.call(ctx, http.MethodPatch, path, map[string]any{"config": config}, nil)
}

// Bind implements Target.
func (d *LXD) Bind(context.Context, string, int) error { return ErrUnsupported }

// Image implements Target.
func (d *LXD) Image(context.Context, string) (string, error) { return "", ErrUnsupported }

// Counters implements Target.
func (d *LXD) Counters(context.Context) (map[string]float64, error) { return nil, nil }

// Restart implements Target.
func (d *LXD) Restart(context.Context) error { return ErrUnsupported }

// Close implements Target: keys that were set get the value of before, and those that were not there are removed (a daemon removes a key
// that is set to ""). An instance that is gone by now is no error.
func (d *LXD) Close() error {
	defer d.api.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), setBackTime)
	defer cancel()
	names := slices.Sorted(maps.Keys(d.changed))
	var mu sync.Mutex
	left := slices.Clone(names)
	var failed error
	err := parallel(ctx, len(names), nil, func(ctx context.Context, i int) error {
		before := make(map[string]string)
		for key := range d.changed[names[i]] {
			before[key] = d.found[names[i]].Config[key]
		}
		err := d.patch(ctx, names[i], before)
		mu.Lock()
		defer mu.Unlock()
		if err == nil || errors.Is(err, errNotFound) {
			left = slices.DeleteFunc(left, func(name string) bool { return name == names[i] })
		} else {
			failed = err
		}
		return nil // the others are set back nevertheless
	})
	if len(left) == 0 {
		return nil
	}
	keys := slices.Sorted(maps.Keys(d.changed[left[0]]))
	return fmt.Errorf("%w: %s of %d containers (such as %s): %w",
		errNotSetBack, strings.Join(keys, ", "), len(left), left[0], cmp.Or(failed, err))
}

// setBackTime is how long it may take until all keys have their values of before.
const setBackTime = time.Minute

var (
	// errNotFound: the daemon has no such instance.
	errNotFound = errors.New("not there any more")
	// errNotSetBack: containers of a daemon keep keys of the run.
	errNotSetBack = errors.New("keys were not set back: do it with lxc config or incus config")
)
