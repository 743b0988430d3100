package lxd

import (
	"cmp"
	"strings"
	"time"

	"devlxd/registry"
	"devlxd/source"
)

const (
	defaultProject = "default"
	typeContainer  = "container"
	noLocation     = "none" // of everything where the daemon is no member of a cluster
)

// Status codes of instances (shared/api/status_code.go).
const (
	codeRunning = 103
	codeStopped = 102
	codeFrozen  = 110
	codeReady   = 113
)

// keyReady is where the daemon keeps the state that a guest has set (lxd/devlxd.go: devLXDAPIHandler).
const keyReady = "volatile.last_state.ready"

// key names an instance of a daemon.
type key struct{ project, name string }

// registryName is the name of a container in the registry, that of the instance in the project "default" and PROJECT_NAME elsewhere. The daemon
// names the container's cgroup and directory like this (lxd/project: Instance). Neither name may have a '_', so that no two are the same.
func (k key) registryName() string {
	if k.project == defaultProject {
		return k.name
	}
	return k.project + "_" + k.name
}

// instance is what is read of one instance (shared/api.Instance).
type instance struct {
	Name            string                       `json:"name"`
	Project         string                       `json:"project"`
	Type            string                       `json:"type"`
	Location        string                       `json:"location"`
	StatusCode      int                          `json:"status_code"`
	Profiles        []string                     `json:"profiles"`
	ExpandedConfig  map[string]string            `json:"expanded_config"`
	ExpandedDevices map[string]map[string]string `json:"expanded_devices"`
}

func (i *instance) key() key { return key{i.Project, i.Name} }

// runs reports whether the daemon says that there are processes.
func (i *instance) runs() bool {
	return i.StatusCode == codeRunning || i.StatusCode == codeReady || i.StatusCode == codeFrozen
}

// privileged reports whether root in the instance is the host's root (shared/util: IsTrue).
func (i *instance) privileged() bool {
	switch strings.ToLower(i.ExpandedConfig["security.privileged"]) {
	case "true", "1", "yes", "on":
		return true
	}
	return false
}

// mirrored reports whether devlxd serves the instance: a container of this member.
func (i *instance) mirrored(member string) bool {
	return (i.Type == typeContainer || i.Type == "") && (i.Location == "" || i.Location == noLocation || i.Location == member)
}

// spec is what is kept of an instance: what a guest may be shown, and what decides whether and how much.
func (i *instance) spec() registry.Spec {
	s := registry.Spec{
		Name: i.key().registryName(), Hostname: i.Name, InstanceID: i.ExpandedConfig[source.KeyInstanceID],
		Config: make(map[string]string), Devices: i.ExpandedDevices, Same: sameDevice,
	}
	was := i.ExpandedDevices[source.AttachDevice][source.AttachWas]
	for k, v := range i.ExpandedConfig {
		// An attached container has its daemon's guest API closed, not devlxd's.
		if was != "" && (k == "security.devlxd" || k == "security.guestapi") {
			continue
		}
		if kept(k) {
			s.Config[k] = v
		}
	}
	if was != "" && was != source.AttachUnset {
		s.Config["security.devlxd"] = was
		s.Config["security.guestapi"] = was
	}
	return s
}

// kept reports whether a config key is mirrored. Everything else is none of devlxd's business: it may hold secrets.
func kept(key string) bool {
	switch key {
	case "":
		return false
	case "security.devlxd", "security.devlxd.images", "security.guestapi", "security.guestapi.images":
		return true
	}
	for _, prefix := range [...]string{source.KeyUserPrefix, source.KeyCloudInitPrefix, registry.LimitKeyPrefix} {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	// The address that the daemon has given to a nic, which its guest API shows with the device.
	return strings.HasPrefix(key, "volatile.") && strings.HasSuffix(key, ".hwaddr")
}

// image is what is read of one image (shared/api.Image).
type image struct {
	Fingerprint string            `json:"fingerprint"`
	Type        string            `json:"type"`
	Public      bool              `json:"public"`
	Cached      bool              `json:"cached"`
	Properties  map[string]string `json:"properties"`
}

// server is what the daemon says of itself (shared/api.Server).
type server struct {
	Environment struct {
		Server    string `json:"server"`
		Version   string `json:"server_version"`
		Name      string `json:"server_name"`
		Clustered bool   `json:"server_clustered"`
	} `json:"environment"`
}

// member is the name that instances of this daemon have as their location.
func (s *server) member() string {
	if !s.Environment.Clustered {
		return noLocation
	}
	return s.Environment.Name
}

// event is one announcement (shared/api.Event, with EventLifecycle as its metadata).
type event struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Project   string    `json:"project"`
	Metadata  struct {
		Action  string         `json:"action"`
		Source  string         `json:"source"`
		Context map[string]any `json:"context"`
	} `json:"metadata"`
}

// text is a value of the context, "" where there is none.
func (e *event) text(name string) string {
	s, _ := e.Metadata.Context[name].(string)
	return s
}

func orDefault(project string) string { return cmp.Or(project, defaultProject) }
