package demo

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"

	"devlxd/internal/sandbox"
)

// userData is what cloud-init would find in web.
const userData = "#cloud-config\npackages: [nginx]\n"

// setting is what the operator gives to a container.
type setting struct {
	role   string
	config []string
	device []string // arguments of "device add" behind the name
	shown  string   // the device as a guest sees it
}

func settings() map[string]setting {
	return map[string]setting{
		"web": {
			"frontend", []string{"cloud-init.user-data=" + userData},
			[]string{"eth0", "nic", "network=br0"}, `{"eth0":{"network":"br0","type":"nic"}}`,
		},
		"db": {
			"database", nil,
			[]string{"data", "disk", "path=/srv"}, `{"data":{"path":"/srv","type":"disk"}}`,
		},
		"cache": {
			"cache", nil,
			[]string{"gpu0", "gpu"}, `{"gpu0":{"type":"gpu"}}`,
		},
	}
}

// showStart starts the containers and registers them.
func (t *Tour) showStart(ctx context.Context) error {
	t.p.say("The server answers on one socket, for all containers; the operator talks to it on another.")
	t.p.command("", "export", "DEVLXD_RUN_DIR="+t.options.RunDir)
	t.p.say("Each container is a tree of processes in user, pid, mount and UTS namespaces of its own,")
	t.p.say("with %s mounted at /dev/lxd.", t.guestDir())
	noted := make(map[string]bool)
	for _, name := range names {
		c, err := sandbox.Start(ctx, sandbox.Options{Name: name, Guest: t.guestDir(), Cgroup: true})
		if err != nil {
			return err
		}
		t.boxes[name] = c
		for _, note := range c.Notes() {
			if !noted[note] {
				t.p.say("Note: %s.", note)
			}
			noted[note] = true
		}
	}
	for _, name := range names {
		if err := t.register(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// register tells the server about a container that runs.
func (t *Tour) register(ctx context.Context, name string) error {
	c, s := t.boxes[name], settings()[name]
	t.secrets[name] = fmt.Sprintf("only-%s-knows-%s", name, rand.Text()[:6])
	config := append([]string{"config", "set", name, "user.role=" + s.role, "user.secret=" + t.secrets[name]}, s.config...)
	for _, args := range [][]string{
		{"container", "add", name, "--pid", strconv.Itoa(c.PID())},
		config,
		append([]string{"device", "add", name}, s.device...),
	} {
		if err := t.command(ctx, args...); err != nil {
			return err
		}
	}
	shown, err := t.inspect(ctx, name)
	if err != nil {
		return err
	}
	if shown.Status != "Running" || shown.State.PID != c.PID() || shown.State.RootUID != c.RootUID() {
		return fmt.Errorf("container %s is shown as %s with pid %d and root %d, must be Running with %d and %d",
			name, shown.Status, shown.State.PID, shown.State.RootUID, c.PID(), c.RootUID())
	}
	known := fmt.Sprintf("pid namespace %d", shown.State.PIDNamespace)
	if shown.State.CgroupID != 0 {
		known = fmt.Sprintf("cgroup id %d", shown.State.CgroupID)
	}
	t.p.check("%s runs: init is pid %d, its root is uid %d of the host; known by its %s", name, c.PID(), c.RootUID(), known)
	return nil
}

// shown is the part of "container show -f json" that is looked at.
type shown struct {
	Status     string `json:"status"`
	InstanceID string `json:"instance_id"`
	State      struct {
		PID          int    `json:"pid"`
		CgroupID     uint64 `json:"cgroup_id"`
		PIDNamespace uint64 `json:"pid_namespace"`
		RootUID      uint32 `json:"root_uid"`
		Ready        bool   `json:"ready"`
	} `json:"state"`
}
