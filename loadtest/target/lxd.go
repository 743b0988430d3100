package target

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// LXD is a LXD or Incus daemon with containers of its own, in which guests are attached: processes in the namespaces and the cgroup of
// each container (see guests.Options.Attach).
type LXD struct {
	name   string
	socket string
	api    *http.Client
	pid    int

	mu        sync.Mutex
	instances []Instance
	keys      map[string]map[string]bool // that were set, by instance
}

var _ Target = (*LXD)(nil)

// Instance is a running container of a daemon.
type Instance struct {
	Name    string
	Project string
	PID     int
}

// FindLXD uses the daemon whose API is on adminSocket and whose guest socket, seen from the host, is socket.
func FindLXD(ctx context.Context, name, adminSocket, socket string) (*LXD, error) {
	d := &LXD{name: name, socket: socket, api: unixClient(adminSocket), keys: make(map[string]map[string]bool)}
	var err error
	if d.pid, err = socketOwner(adminSocket); err != nil {
		return nil, err
	}
	var list []struct {
		Name    string `json:"name"`
		Project string `json:"project"`
		State   struct {
			PID int `json:"pid"`
		} `json:"state"`
	}
	if err := d.call(ctx, http.MethodGet, "/1.0/instances?recursion=2", nil, &list); err != nil {
		return nil, err
	}
	for _, i := range list {
		if i.State.PID > 0 {
			d.instances = append(d.instances, Instance{i.Name, i.Project, i.State.PID})
		}
	}
	if len(d.instances) == 0 {
		return nil, fmt.Errorf("%s: %w", name, ErrNoInstances)
	}
	slices.SortFunc(d.instances, func(a, b Instance) int { return strings.Compare(a.Name, b.Name) })
	return d, nil
}

// Instances are the running containers, sorted by name.
func (d *LXD) Instances() []Instance { return d.instances }

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
	req, err := http.NewRequestWithContext(ctx, method, "http://lxd"+path, body)
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
		Metadata  json.RawMessage `json:"metadata"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&envelope); err != nil {
		return fmt.Errorf("cannot read the daemon's answer: %w", err)
	}
	switch {
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
	if err := d.call(ctx, http.MethodGet, operation+"/wait", nil, &op); err != nil {
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
		return d.patch(ctx, containers[i].Name, containers[i].Config)
	})
}

// Set implements Target.
func (d *LXD) Set(ctx context.Context, container, key, value string) error {
	return d.patch(ctx, container, map[string]string{key: value})
}

func (d *LXD) patch(ctx context.Context, container string, config map[string]string) error {
	d.mu.Lock()
	if d.keys[container] == nil {
		d.keys[container] = make(map[string]bool)
	}
	for key := range config {
		d.keys[container][key] = true
	}
	d.mu.Unlock()
	return d.call(ctx, http.MethodPatch, d.path(container), map[string]any{"config": config}, nil)
}

func (d *LXD) path(container string) string {
	project := "default"
	for _, i := range d.instances {
		if i.Name == container && i.Project != "" {
			project = i.Project
		}
	}
	return "/1.0/instances/" + url.PathEscape(container) + "?project=" + url.QueryEscape(project)
}

// Bind implements Target.
func (d *LXD) Bind(context.Context, string, int) error { return ErrUnsupported }

// Image implements Target.
func (d *LXD) Image(context.Context, string) (string, error) { return "", ErrUnsupported }

// Counters implements Target.
func (d *LXD) Counters(context.Context) (map[string]float64, error) { return nil, nil }

// Restart implements Target.
func (d *LXD) Restart(context.Context) error { return ErrUnsupported }

// Close implements Target: the keys that were set are removed again (LXD removes a key that is set to "").
func (d *LXD) Close() error {
	var errs []error
	for container, keys := range d.keys {
		config := make(map[string]string)
		for key := range keys {
			config[key] = ""
		}
		errs = append(errs, d.call(context.Background(), http.MethodPatch, d.path(container), map[string]any{"config": config}, nil))
	}
	d.api.CloseIdleConnections()
	return errors.Join(errs...)
}
